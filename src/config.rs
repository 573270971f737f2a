//! The settings: defaults, then a file, then the environment; read once, checked together.

use crate::auth::AuthSettings;
use crate::handler::Limits;
use crate::maintenance::MaintainSettings;
use crate::owners::{
    ProjectionSettings, ReadSettings, RetentionSettings, RetrySettings, WriteSettings,
};
use crate::shard::ShardSettings;
use crate::truth::TruthSettings;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};

/// All settings of a worker. A setting `section.field` is given in a TOML file, or as
/// `GOFAVORITES__SECTION__FIELD` in the environment, which counts more.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The connection to NATS.
    pub nats: NatsSettings,
    /// This worker's subjects.
    pub worker: WorkerSettings,
    /// This worker's shard.
    pub shard: ShardId,
    /// The shard's Postgres.
    pub postgres: ShardSettings,
    /// The installation's two keys.
    pub keys: KeySettings,
    /// Who is asking.
    pub auth: AuthSettings,
    /// The bucket.
    pub truth: TruthSettings,
    /// Reads.
    pub read: ReadSettings,
    /// Writes.
    pub write: WriteSettings,
    /// The projection.
    pub projection: ProjectionSettings,
    /// The end of old deletions.
    pub maintain: MaintainSettings,
    /// What is kept, and for how long.
    pub retention: RetentionSettings,
    /// How long a write is known again.
    pub retry: RetrySettings,
    /// What is bounded.
    pub limits: Limits,
    /// The log.
    pub log: LogSettings,
}

/// The connection to NATS.
#[derive(Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsSettings {
    /// `nats://host:port`, or several separated by commas.
    #[serde(serialize_with = "without_password")]
    pub url: String,
    /// The user.
    pub user: String,
    /// Its password.
    #[serde(serialize_with = "hidden")]
    pub password: String,
    /// What this worker's inboxes begin with; its permissions name it.
    pub inbox_prefix: String,
    /// How many messages of one subscription may wait in memory; more are lost, and counted.
    pub queue_messages: usize,
}

/// This worker's subjects and its life.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// The first token of the subjects that it answers.
    pub prefix: String,
    /// The worker's name in discovery: letters, digits, `_` and `-`; a new one at each start if empty.
    pub id: String,
    /// The queue group that shares the requests.
    pub queue_group: String,
    /// What a reply subject may begin with; `_GR_` besides, behind gateways.
    pub reply_prefixes: Vec<String>,
    /// How long a reply subject may be, in bytes.
    pub reply_subject_bytes: usize,
    /// How long requests under way may take once it was told to stop, in milliseconds.
    pub grace_ms: u64,
    /// A file that it writes, with its process id, when it is ready; none if empty.
    pub ready_file: PathBuf,
}

/// Which shard it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardId {
    /// The shard's name: 1 to 32 of `a-z`, `0-9` and `-`.
    pub id: String,
}

/// The installation's two keys, the same for every worker of every shard.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// Names owners: 32 bytes in base64.
    #[serde(serialize_with = "hidden")]
    pub identity: String,
    /// Wraps owners' data keys: 32 bytes in base64.
    #[serde(serialize_with = "hidden")]
    pub encryption: String,
}

/// The log.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `json` for machines or `human`.
    pub format: LogFormat,
    /// What is logged, in the form of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

/// For whom the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            user: String::new(),
            password: String::new(),
            inbox_prefix: "_INBOX_worker".into(),
            queue_messages: 65_536,
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            prefix: "favorites".into(),
            id: String::new(),
            queue_group: "favorites".into(),
            reply_prefixes: vec!["_INBOX".into(), "_R_".into()],
            reply_subject_bytes: 256,
            grace_ms: 10_000,
            ready_file: PathBuf::new(),
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            filter: "info,async_nats=warn,sqlx=warn".into(),
        }
    }
}

impl WorkerSettings {
    /// The worker's name in discovery.
    pub fn id(&self) -> String {
        if self.id.is_empty() {
            uuid::Uuid::now_v7().simple().to_string()
        } else {
            self.id.clone()
        }
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySettings")
    }
}

/// Settings that cannot be used: each with its name and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not readable: the setting is named in the cause.
    #[error("the settings cannot be read: {0}")]
    Unreadable(#[from] config::ConfigError),
    /// Readable, and not right.
    #[error("the settings are not right:\n  {}", .0.join("\n  "))]
    Wrong(Vec<String>),
}

/// The settings that hold lists: in the environment, separated by commas.
const LISTS: [&str; 2] = ["worker.reply_prefixes", "auth.algorithms"];

/// A secret is shown as being there, or not.
fn hidden<S: Serializer>(secret: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.is_empty() { "" } else { "(hidden)" })
}

fn without_password<S: Serializer>(urls: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::shard::without_password(urls))
}

impl Settings {
    /// What is in force, as TOML, with the secrets hidden.
    pub fn shown(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// Reads the file, where there is one, and the environment.
    pub fn read(file: Option<&Path>) -> Result<Self, SettingsError> {
        let environment = config::Environment::with_prefix("GOFAVORITES")
            .prefix_separator("__")
            .separator("__");
        let mut builder = config::Config::builder();
        if let Some(file) = file {
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        builder = builder.add_source(environment);
        for list in LISTS {
            let variable = format!("GOFAVORITES__{}", list.replace('.', "__").to_uppercase());
            if let Ok(text) = std::env::var(variable) {
                builder = builder
                    .set_override(list, text.split(',').map(str::trim).collect::<Vec<_>>())?;
            }
        }
        Ok(builder.build()?.try_deserialize()?)
    }

    /// Looks at all of them together, so that one start tells everything that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut wrong = Vec::new();
        let mut need = |fine: bool, what: &str| {
            if !fine {
                wrong.push(what.to_owned());
            }
        };
        need(
            !self.nats.url.is_empty(),
            "nats.url: name the NATS server, as nats://host:port",
        );
        need(
            !self.postgres.url.is_empty(),
            "postgres.url: name the shard's database",
        );
        need(
            !self.keys.identity.is_empty(),
            "keys.identity: give 32 bytes in base64, the same on every shard",
        );
        need(
            !self.keys.encryption.is_empty(),
            "keys.encryption: give 32 bytes in base64, the same on every shard",
        );
        need(
            !self.auth.issuer.is_empty(),
            "auth.issuer: name who signs the auth service's verdicts",
        );
        need(
            !self.auth.verdict_keys.is_empty(),
            "auth.verdict_keys: give the auth service's public keys as a JWK set",
        );
        need(
            (1..=64).contains(&self.truth.history),
            "truth.history: from 1 to 64 records",
        );
        need(
            [1, 3, 5].contains(&self.truth.replicas),
            "truth.replicas: 1, 3 or 5",
        );
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        need(
            self.truth.domain.bytes().all(named),
            "truth.domain: letters, digits, _ and - only",
        );
        need(
            self.truth.call_ms > 0,
            "truth.call_ms: more than 0 milliseconds",
        );
        need(
            self.postgres.connections > 0,
            "postgres.connections: at least 1",
        );
        need(
            self.postgres.call_ms > 0,
            "postgres.call_ms: more than 0 milliseconds",
        );
        let apart = !self.worker.reply_prefixes.contains(&self.nats.inbox_prefix);
        need(
            apart,
            "nats.inbox_prefix: none of worker.reply_prefixes, which are the callers'",
        );
        need(
            self.nats.queue_messages > 0,
            "nats.queue_messages: at least 1 message",
        );
        need(
            self.auth.in_flight > 0,
            "auth.in_flight: at least 1 question",
        );
        need(
            self.projection.batch > 0,
            "projection.batch: at least 1 message",
        );
        need(
            (1..=36_500).contains(&self.retention.versions_d),
            "retention.versions_d: from 1 to 36,500 days",
        );
        need(
            u64::from(self.retry.kept_h) <= u64::from(self.retention.versions_d) * 24,
            "retry.kept_h: at most retention.versions_d, for a request is known by its version",
        );
        need(
            !self.worker.reply_prefixes.is_empty(),
            "worker.reply_prefixes: at least one, or nobody is answered",
        );
        need(
            self.worker.id.bytes().all(named),
            "worker.id: letters, digits, _ and - only",
        );
        need(
            (1..=100).contains(&self.maintain.crowded_percent),
            "maintain.crowded_percent: from 1 to 100 percent",
        );
        need(
            self.maintain.pause_s > 0,
            "maintain.pause_s: at least 1 second",
        );
        self.check_limits(&mut need);
        if let Err(error) = crate::wire::Subjects::new(&self.worker.prefix, &self.shard.id) {
            wrong.push(format!("worker.prefix and shard.id: {error}"));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(SettingsError::Wrong(wrong))
        }
    }

    fn check_limits(&self, need: &mut impl FnMut(bool, &str)) {
        let limits = &self.limits;
        need(
            limits.keys <= 1_000,
            "limits.keys: 1,000 at most, which with what stands beside them one read of the truth gives",
        );
        need(
            limits.items <= limits.keys,
            "limits.items: at most limits.keys",
        );
        need(
            (1..=500).contains(&limits.batch),
            "limits.batch: from 1 to 500 operations",
        );
        need(
            (1..=limits.page_max).contains(&limits.page),
            "limits.page: from 1 to limits.page_max",
        );
        need(limits.in_flight > 0, "limits.in_flight: at least 1 request");
        need(
            limits.owner_in_flight > 0,
            "limits.owner_in_flight: at least 1 request",
        );
        need(
            limits.rate_per_s <= 1_000_000,
            "limits.rate_per_s: at most 1,000,000 requests a second",
        );
        need(
            limits.rate_burst > 0,
            "limits.rate_burst: at least 1 request",
        );
        need(
            (1..=64).contains(&limits.nesting),
            "limits.nesting: from 1 to 64 levels",
        );
        need(
            limits.deadline_ms <= limits.deadline_max_ms,
            "limits.deadline_ms: at most limits.deadline_max_ms",
        );
        need(
            limits.reply_bytes <= 1 << 20,
            "limits.reply_bytes: at most the NATS server's max_payload, 1,048,576",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let error = Settings::default()
            .check()
            .expect_err("the defaults name no shard")
            .to_string();
        for setting in [
            "shard.id",
            "postgres.url",
            "keys.identity",
            "keys.encryption",
            "auth.issuer",
            "auth.verdict_keys",
        ] {
            assert!(error.contains(setting), "{setting} is missing in: {error}");
        }
    }

    #[test]
    fn a_limit_out_of_its_bounds_is_named() {
        let mut settings = Settings::default();
        settings.limits.keys = 1_024;
        settings.limits.page = 0;
        let error = settings.check().expect_err("out of bounds").to_string();
        assert!(
            error.contains("limits.keys") && error.contains("limits.page"),
            "{error}"
        );
    }

    #[test]
    fn a_request_is_not_known_longer_than_its_version() {
        let mut settings = Settings::default();
        settings.retention.versions_d = 6;
        let error = settings.check().expect_err("seven days of six").to_string();
        assert!(error.contains("retry.kept_h"), "{error}");
        settings.retry.kept_h = 144;
        assert!(
            !settings
                .check()
                .expect_err("no shard")
                .to_string()
                .contains("retry.kept_h")
        );
    }

    #[test]
    fn a_file_is_read_and_an_unknown_setting_is_named() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        std::fs::write(
            file.path(),
            "[shard]\nid = \"a\"\n[limits.item]\ntags = 3\n",
        )
        .expect("written");
        let settings = Settings::read(Some(file.path())).expect("well formed");
        assert_eq!(
            (settings.shard.id.as_str(), settings.limits.item.tags),
            ("a", 3)
        );
        std::fs::write(file.path(), "[shard]\nnmae = \"a\"\n").expect("written");
        let error = Settings::read(Some(file.path()))
            .expect_err("unknown")
            .to_string();
        assert!(error.contains("nmae"), "{error}");
    }

    #[test]
    fn no_secret_is_printed() {
        let mut settings = Settings::default();
        settings.keys.identity = "hush".into();
        settings.nats.password = "hush".into();
        settings.postgres.url = "hush".into();
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
