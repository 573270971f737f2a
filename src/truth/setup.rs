//! Creating the bucket (`init`) and checking it (`serve`). Of an existing bucket nothing is changed but
//! how many bytes it may have: the rest is left to the operator.

use super::api::ApiError;
use super::bucket::Bucket;
use super::error::TruthError;
use super::fullness::BucketFill;
use super::lineage::Lineage;
use super::settings::TruthSettings;
use crate::domain::Timestamp;
use crate::requester::Transient;
use crate::seal::{Fingerprints, Format};
use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

const IDENTITY: &str = "gofavorites-identity-key";
const ENCRYPTION: &str = "gofavorites-encryption-key";

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is none: `init` creates it.
    #[error("there is no bucket {0}: run `gofavorites init`")]
    Missing(String),
    /// A setting differs in a way that matters.
    #[error("the bucket's {setting} is {found}, and has to be {wanted}: {remedy}")]
    Differs {
        /// The setting's name.
        setting: String,
        /// Its value.
        found: String,
        /// The value that it must have.
        wanted: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A restore was interrupted, and left a part of the bucket.
    #[error(
        "a restore of the bucket {0} was interrupted: delete its stream and restore again, see \
         docs/operations.md"
    )]
    HalfRestored(String),
    /// The truth gave no usable answer.
    #[error(transparent)]
    Truth(#[from] TruthError),
}

impl Transient for SetupError {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Truth(error) if error.is_unavailable())
    }
}

#[derive(Deserialize)]
pub(super) struct StreamReply {
    pub(super) error: Option<ApiError>,
    config: Option<Value>,
    created: Option<String>,
    state: Option<Value>,
}

/// The bucket's identity, and its newest record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// When it was created, in the server's words.
    pub created: String,
    /// Its newest stream sequence; 0 while it has none.
    pub newest: u64,
    /// When that record was stored, if there is one.
    pub newest_at: Option<Timestamp>,
    /// The earlier buckets that it continues, if it was restored.
    pub lineage: Lineage,
    /// How much it holds.
    pub fill: BucketFill,
}

/// A bucket as a backup describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stored {
    /// When the bucket was created, in the server's words.
    pub created: String,
    /// The stream's settings.
    pub config: Value,
    /// The stream's state: its counts, its first and its last sequence.
    pub state: Value,
}

impl Stored {
    /// The newest stream sequence; 0 if there is none.
    pub fn last_sequence(&self) -> u64 {
        self.state["last_seq"].as_u64().unwrap_or_default()
    }

    /// The number of stored messages.
    pub fn messages(&self) -> u64 {
        self.state["messages"].as_u64().unwrap_or_default()
    }

    /// The size of the stored messages, in bytes.
    pub fn bytes(&self) -> u64 {
        self.state["bytes"].as_u64().unwrap_or_default()
    }

    /// How much the bucket holds.
    fn fill(&self) -> BucketFill {
        BucketFill {
            records: self.messages(),
            bytes: self.bytes(),
            // Without a limit the server reports -1.
            bytes_max: self.config["max_bytes"].as_u64().filter(|max| *max > 0),
        }
    }
}

/// What `init` did with the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitOutcome {
    /// Whether it created the bucket. Otherwise the bucket was there, and fits the settings.
    pub created: bool,
    /// The number of the newest format of records that workers may write.
    pub permitted: u8,
}

impl Bucket {
    /// Creates the bucket if there is none, then checks it, and gives it the marks that it lacks. A
    /// bucket that is created here permits the newest format unless `format` names another; one
    /// that was there permits no other format than before unless `format` does.
    pub async fn init(
        &self,
        fingerprints: &Fingerprints,
        format: Option<Format>,
    ) -> Result<InitOutcome, SetupError> {
        let created = self.create(fingerprints).await?;

        self.begin_epoch().await?;
        // An earlier try may have created it without an answer.
        let is_new = created || !self.has_owners().await?;
        let default = is_new.then_some(Format::NEWEST);
        let permitted = match format.or(default) {
            Some(format) => self.permit_format(format).await?,
            None => self.format().number(),
        };

        Ok(InitOutcome { created, permitted })
    }

    /// Creates the bucket if there is none, then checks it. Returns whether it created the bucket.
    async fn create(&self, fingerprints: &Fingerprints) -> Result<bool, SetupError> {
        match self.stored().await {
            Ok(stored) => {
                self.settings.check_config(&stored.config, fingerprints)?;
                self.bound(stored.config).await?;
                return self.check_format().await.map(|()| false);
            }
            Err(SetupError::Missing(_)) => {}
            Err(error) => return Err(error),
        }

        let reply = self
            .api("STREAM.CREATE", &self.settings.wanted_config(fingerprints))
            .await?;
        if let Some(error) = reply.error {
            return Err(TruthError::from(error).into());
        }

        self.check(fingerprints).await.map(|()| true)
    }

    /// Fails if a setting differs in a way that matters, and names the first one that does. Reads the
    /// bucket's marks, and fails if they permit a format that this version cannot read.
    pub async fn check(&self, fingerprints: &Fingerprints) -> Result<(), SetupError> {
        let found = self.stored().await?.config;
        self.settings.check_config(&found, fingerprints)?;
        self.compare_size(&found);
        self.check_format().await
    }

    /// As [`check`](Self::check), for a reader: of the settings, only the keys matter.
    pub async fn check_keys(&self, fingerprints: &Fingerprints) -> Result<(), SetupError> {
        let found = self.stored().await?.config;
        check_fingerprints(&found, fingerprints)?;

        self.check_format().await
    }

    /// Reads the marks, and fails if they permit a format that this version cannot read.
    async fn check_format(&self) -> Result<(), SetupError> {
        let newest = Format::NEWEST.number();
        match self.read_marks().await? {
            Some(number) if number > newest => Err(SetupError::Differs {
                setting: "format".to_owned(),
                found: number.to_string(),
                wanted: format!("at most {newest}"),
                remedy: "run a newer version of the service",
            }),
            _ => Ok(()),
        }
    }

    /// Returns the bucket's position, with which the projection's cursor is compared.
    pub async fn position(&self) -> Result<Position, SetupError> {
        let (stored, lineage) = self.describe().await?;
        let newest = stored.last_sequence();
        let fill = stored.fill();
        self.full.note_fill(fill);
        let newest_at = stored.state["last_ts"]
            .as_str()
            .and_then(Timestamp::parse_rfc3339);

        Ok(Position {
            newest,
            newest_at: newest_at.filter(|_| newest > 0),
            lineage,
            fill,
            created: stored.created,
        })
    }

    /// Returns whether there is a bucket.
    pub async fn exists(&self) -> Result<bool, SetupError> {
        match self.info().await {
            Ok(_) => Ok(true),
            Err(SetupError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the bucket's description.
    pub async fn stored(&self) -> Result<Stored, SetupError> {
        Ok(self.describe().await?.0)
    }

    /// Returns the bucket's description, and the earlier buckets that it continues.
    async fn describe(&self) -> Result<(Stored, Lineage), SetupError> {
        let reply = self.info().await?;
        let (Some(created), Some(config), Some(state)) = (reply.created, reply.config, reply.state)
        else {
            return Err(TruthError::Unreadable("a stream without a description").into());
        };

        let stored = Stored {
            created,
            config,
            state,
        };
        let lineage = Lineage::of(&stored.config);
        if stored.last_sequence() < lineage.restored_to() {
            return Err(SetupError::HalfRestored(self.settings.bucket.clone()));
        }
        Ok((stored, lineage))
    }

    async fn info(&self) -> Result<StreamReply, SetupError> {
        let reply = self.api("STREAM.INFO", &json!({})).await?;

        match reply.error {
            Some(error) if error.err_code == ErrorCode::STREAM_NOT_FOUND => {
                Err(SetupError::Missing(self.settings.bucket.clone()))
            }
            Some(error) => Err(TruthError::from(error).into()),
            None => Ok(reply),
        }
    }

    /// Calls the stream API about the bucket.
    pub(super) async fn api(&self, call: &str, body: &Value) -> Result<StreamReply, TruthError> {
        self.api_until(call, body, self.deadline()).await
    }

    /// Calls the stream API about the bucket, and waits for the answer until `deadline`.
    pub(super) async fn api_until<T: DeserializeOwned>(
        &self,
        call: &str,
        body: &Value,
        deadline: Instant,
    ) -> Result<T, TruthError> {
        let subject = self.api_subject(call);
        let reply = self
            .requester
            .ask(subject, HeaderMap::new(), body.to_string().into(), deadline)
            .await?;

        serde_json::from_slice(&reply.payload)
            .map_err(|_| TruthError::Unreadable("an answer of the stream API"))
    }
}

impl TruthSettings {
    /// Fails if a setting of a stream differs in a way that matters, and names the first one that
    /// does.
    pub fn check_config(
        &self,
        found: &Value,
        fingerprints: &Fingerprints,
    ) -> Result<(), SetupError> {
        check_fingerprints(found, fingerprints)?;

        let wanted = self.wanted_config(fingerprints);
        let remedy = "change it with the nats CLI, or make another bucket";
        for setting in [
            "name",
            "subjects",
            "retention",
            "storage",
            "discard",
            "allow_direct",
            "allow_atomic",
            "deny_delete",
            "allow_rollup_hdrs",
            "max_age",
            "republish",
            "max_msgs_per_subject",
        ] {
            check_setting(setting, &found[setting], &wanted[setting], remedy)?;
        }

        Ok(())
    }

    /// The configuration with which the bucket is created and compared.
    fn wanted_config(&self, fingerprints: &Fingerprints) -> Value {
        let bucket = &self.bucket;

        json!({
            "name": self.stream(),
            "description": "GoFavorites: the truth",
            "subjects": [self.all_subjects()],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": self.replicas,
            "max_msgs_per_subject": self.history,
            "max_consumers": -1, "max_msgs": -1, "max_msg_size": -1, "max_age": 0,
            "max_bytes": self.wanted_bytes_max().unwrap_or(-1),
            "duplicate_window": 120_000_000_000_u64,
            "allow_direct": true,
            "allow_atomic": true,
            // Otherwise a user that may publish could purge with a header, or delete single
            // messages.
            "allow_rollup_hdrs": false,
            "deny_delete": true,
            "republish": {
                "src": format!("$KV.{bucket}.*.*"),
                "dest": format!("{bucket}.changed.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"),
                "headers_only": true,
            },
            "metadata": { IDENTITY: fingerprints.identity, ENCRYPTION: fingerprints.encryption },
        })
    }
}

/// Fails if the bucket was created with other keys.
fn check_fingerprints(found: &Value, fingerprints: &Fingerprints) -> Result<(), SetupError> {
    for (key, wanted, remedy) in [
        (
            IDENTITY,
            &fingerprints.identity,
            "with another identity key every owner would find an empty account; \
             set keys.identity to the key that the bucket was created with",
        ),
        (
            ENCRYPTION,
            &fingerprints.encryption,
            "no record could be opened; \
             set keys.encryption to the key that the bucket was created with",
        ),
    ] {
        let (found, wanted) = (&found["metadata"][key], &json!(wanted));
        check_setting(&format!("metadata {key}"), found, wanted, remedy)?;
    }

    Ok(())
}

/// Fails if the setting's value is not the wanted one.
fn check_setting(
    setting: &str,
    found: &Value,
    wanted: &Value,
    remedy: &'static str,
) -> Result<(), SetupError> {
    if found == wanted {
        return Ok(());
    }

    Err(SetupError::Differs {
        setting: setting.to_owned(),
        found: found.to_string(),
        wanted: wanted.to_string(),
        remedy,
    })
}
