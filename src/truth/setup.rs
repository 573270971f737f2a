//! Making the bucket (`init`) and checking it (`serve`): it is never changed behind an operator's back.

use super::api::ApiError;
use super::bucket::{Bucket, TruthError};
use crate::domain::Timestamp;
use crate::requester::Transient;
use crate::seal::Fingerprints;
use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

const IDENTITY: &str = "gofavorites-identity-key";
const ENCRYPTION: &str = "gofavorites-encryption-key";

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is none: `init` makes it.
    #[error("there is no bucket {0}: run `gofavorites init`")]
    Missing(String),
    /// Something about it differs in a way that matters.
    #[error("the bucket's {setting} is {found}, and has to be {wanted}: {mend}")]
    Differs {
        /// Which setting.
        setting: String,
        /// As it is.
        found: String,
        /// As it has to be.
        wanted: String,
        /// What to do.
        mend: &'static str,
    },
    /// The truth did not answer as it should.
    #[error(transparent)]
    Truth(#[from] TruthError),
}

impl Transient for SetupError {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Truth(error) if error.is_unavailable())
    }
}

#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) error: Option<ApiError>,
    config: Option<Value>,
    created: Option<String>,
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    last_seq: u64,
    last_ts: String,
}

/// Where the bucket stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// When it was made, as the server tells it.
    pub created: String,
    /// Its newest stream sequence; 0 while it has none.
    pub newest: u64,
    /// When that record was stored, where there is one.
    pub newest_at: Option<Timestamp>,
}

impl Bucket {
    /// Makes the bucket where there is none, then checks it. Says whether it made it.
    pub async fn init(&self, fingerprints: &Fingerprints) -> Result<bool, SetupError> {
        match self.check(fingerprints).await {
            Err(SetupError::Missing(_)) => {}
            checked => return checked.map(|()| false),
        }
        let answer = self
            .api("STREAM.CREATE", &self.wanted(fingerprints))
            .await?;
        if let Some(error) = answer.error {
            return Err(TruthError::from(error).into());
        }
        self.check(fingerprints).await.map(|()| true)
    }

    /// Fails on a difference that matters, naming it.
    pub async fn check(&self, fingerprints: &Fingerprints) -> Result<(), SetupError> {
        let found = self
            .info()
            .await?
            .config
            .ok_or(TruthError::Unreadable("a stream without settings"))?;
        let wanted = self.wanted(fingerprints);
        for (key, mend) in [
            (
                IDENTITY,
                "another identity key would open an empty account for everyone; set keys.identity to the one that it was made with",
            ),
            (
                ENCRYPTION,
                "no record could be opened; set keys.encryption to the one that it was made with",
            ),
        ] {
            differs(
                &format!("metadata {key}"),
                &found["metadata"][key],
                &wanted["metadata"][key],
                mend,
            )?;
        }
        let mend = "change it with the nats CLI, or make another bucket";
        for setting in [
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
            differs(setting, &found[setting], &wanted[setting], mend)?;
        }
        Ok(())
    }

    /// Where it stands: what the projection's cursor is measured against.
    pub async fn position(&self) -> Result<Position, SetupError> {
        let answer = self.info().await?;
        let created = answer
            .created
            .ok_or(TruthError::Unreadable("a stream without creation time"))?;
        let state = answer
            .state
            .ok_or(TruthError::Unreadable("a stream without state"))?;
        let newest_at = Timestamp::parse_rfc3339(&state.last_ts).filter(|_| state.last_seq > 0);
        Ok(Position {
            created,
            newest: state.last_seq,
            newest_at,
        })
    }

    async fn info(&self) -> Result<Answer, SetupError> {
        let answer = self.api("STREAM.INFO", &json!({})).await?;
        match answer.error {
            Some(error) if error.err_code == ErrorCode::STREAM_NOT_FOUND => {
                Err(SetupError::Missing(self.settings.bucket.clone()))
            }
            Some(error) => Err(TruthError::from(error).into()),
            None => Ok(answer),
        }
    }

    pub(super) async fn api(&self, call: &str, body: &Value) -> Result<Answer, TruthError> {
        let subject = self.api_subject(call);
        let reply = self
            .requester
            .ask(
                subject,
                HeaderMap::new(),
                body.to_string().into(),
                self.deadline(),
            )
            .await?;
        serde_json::from_slice(&reply.payload)
            .map_err(|_| TruthError::Unreadable("an answer of the stream API"))
    }

    fn wanted(&self, fingerprints: &Fingerprints) -> Value {
        let bucket = &self.settings.bucket;
        json!({
            "name": self.stream(),
            "description": "GoFavorites: the truth",
            "subjects": [self.all_subjects()],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": self.settings.replicas,
            "max_msgs_per_subject": self.settings.history,
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_msg_size": -1, "max_age": 0,
            "duplicate_window": 120_000_000_000_u64,
            "allow_direct": true,
            "allow_atomic": true,
            // Whoever may publish could otherwise purge by a header, or delete one message.
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

fn differs(
    setting: &str,
    found: &Value,
    wanted: &Value,
    mend: &'static str,
) -> Result<(), SetupError> {
    if found == wanted {
        return Ok(());
    }
    Err(SetupError::Differs {
        setting: setting.to_owned(),
        found: found.to_string(),
        wanted: wanted.to_string(),
        mend,
    })
}
