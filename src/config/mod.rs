//! The settings: the defaults, overridden by a file, overridden by the environment. They are
//! checked together.

mod nats;
mod reading;
mod secrets;
#[cfg(test)]
mod settings_page;
mod sources;
mod unreadable;

pub use nats::{NatsSettings, NatsUserSettings, Role};
pub use reading::Reading;
pub use sources::Sources;

use crate::auth::AuthSettings;
use crate::handler::Limits;
use crate::maintenance::MaintainSettings;
use crate::owners::{
    ProjectionSettings, ReadSettings, RetentionSettings, RetrySettings, WriteSettings,
};
use crate::reference::ReferenceSettings;
use crate::seal::Keyring;
use crate::shard::ShardSettings;
use crate::truth::TruthSettings;
use config::Source as _;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// All settings of a worker. A setting `section.field` stands in a TOML file, or as
/// `GOFAVORITES__SECTION__FIELD` in the environment, which overrides the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The connections to NATS.
    pub nats: NatsSettings,
    /// This worker's subjects, its start and its stop.
    pub worker: WorkerSettings,
    /// This worker's shard.
    pub shard: ShardId,
    /// The shard's Postgres.
    pub postgres: ShardSettings,
    /// The installation's two keys.
    pub keys: KeySettings,
    /// The verification of callers.
    pub auth: AuthSettings,
    /// The check whether instruments exist.
    pub reference: ReferenceSettings,
    /// The bucket.
    pub truth: TruthSettings,
    /// Reads.
    pub read: ReadSettings,
    /// Writes.
    pub write: WriteSettings,
    /// The projection.
    pub projection: ProjectionSettings,
    /// Forgetting old deletions.
    pub maintain: MaintainSettings,
    /// How long old versions are kept.
    pub retention: RetentionSettings,
    /// How long a repeated write is recognised.
    pub retry: RetrySettings,
    /// The bounds on what callers send and get.
    pub limits: Limits,
    /// The log.
    pub log: LogSettings,
}

/// This worker's subjects, its start and its stop.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// The prefix of its subjects; `nats/accounts.conf` has it too.
    pub prefix: String,
    /// The worker's id in discovery: letters, digits, `_` and `-`. If it is empty, each start makes
    /// a new one.
    pub id: String,
    /// The queue group in which workers share requests; `nats/accounts.conf` has it too.
    pub queue_group: String,
    /// How a reply subject may begin: with one of these and a dot, or with a client's own prefix
    /// such as `_INBOX_mine.`. Behind gateways, add `_GR_`. The worker never replies to its own
    /// inboxes.
    pub reply_prefixes: Vec<String>,
    /// The longest reply subject.
    pub reply_subject_bytes: usize,
    /// How long requests under way may take after the worker receives the signal to stop.
    pub grace_ms: u64,
    /// A file into which the worker writes its process id when it is ready; empty: none.
    pub ready_file: PathBuf,
}

/// The shard of this worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ShardId {
    /// The shard's name: 1 to 32 of `a-z`, `0-9` and `-`.
    pub id: String,
}

/// The installation's two keys, the same for every worker of every shard.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// The key of the keyed hashes that stand for owners: 32 bytes in base64.
    #[serde(serialize_with = "hidden")]
    pub identity: String,
    /// A file that holds it.
    pub identity_file: PathBuf,
    /// The key that wraps the owners' data keys: 32 bytes in base64.
    #[serde(serialize_with = "hidden")]
    pub encryption: String,
    /// A file that holds it.
    pub encryption_file: PathBuf,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `json`, one object a line, or `human`.
    pub format: LogFormat,
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`. The levels are `error`,
    /// `warn`, `info`, `debug` and `off`.
    pub filter: String,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Text, for people.
    Human,
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
    /// The worker's id in discovery: the configured one, or a new one.
    pub fn id(&self) -> String {
        if self.id.is_empty() {
            uuid::Uuid::now_v7().simple().to_string()
        } else {
            self.id.clone()
        }
    }
}

impl fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySettings")
            .field("identity_file", &self.identity_file)
            .field("encryption_file", &self.encryption_file)
            .finish_non_exhaustive()
    }
}

/// Settings that cannot be used. Each one is named, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A setting cannot be read. The text says which one, and has no value.
    #[error("the settings cannot be read: {0}")]
    Unreadable(String),
    /// A setting has another place now.
    #[error("{0}")]
    Moved(String),
    /// The settings can be read, but values are invalid.
    #[error("the settings are invalid:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
    /// Nothing gives a setting.
    #[error(
        "no settings are given: name a settings file with --config or in GOFAVORITES_CONFIG, or set \
         GOFAVORITES__SECTION__FIELD for each setting"
    )]
    NotGiven,
}

impl From<config::ConfigError> for SettingsError {
    fn from(error: config::ConfigError) -> Self {
        Self::Unreadable(unreadable::describe(&error))
    }
}

/// The settings that hold lists. In the environment their entries are separated by commas.
const LIST_SETTINGS: [&str; 3] = [
    "worker.reply_prefixes",
    "auth.algorithms",
    "auth.token_issuers",
];

/// Writes a secret as `(hidden)`, or as empty if there is none.
fn hidden<S: Serializer>(secret: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.is_empty() { "" } else { "(hidden)" })
}

/// Writes URLs without their passwords.
fn without_password<S: Serializer>(urls: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::shard::without_password(urls))
}

impl Settings {
    /// Returns the settings in force as TOML, with the secrets hidden.
    pub fn shown(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// Does the same as [`shown`](Self::shown), with where each value comes from: the line of the
    /// file, the variable, or the default. If they are `changed`, only values that are not the
    /// defaults, under their complete names.
    pub fn shown_with_sources(&self, sources: &Sources, changed: bool) -> anyhow::Result<String> {
        let text = self.shown()?;
        if changed {
            return sources::changed(&text, &Self::default().shown()?, sources);
        }
        sources::annotated(&text, sources)
    }

    /// Reads the file, if one is given, and the environment.
    ///
    /// # Errors
    /// A setting cannot be read. Then everything is named that is wrong, also what
    /// [`check`](Self::check) finds.
    pub fn read(file: Option<&Path>) -> Result<Self, SettingsError> {
        Self::read_with_sources(file).map(|(settings, _)| settings)
    }

    /// Does the same as [`read`](Self::read), and returns where the values come from.
    pub fn read_with_sources(file: Option<&Path>) -> Result<(Self, Sources), SettingsError> {
        let (given, sources) = gather(file)?;
        let mut problems = secrets::given_twice(&given);
        let mut settings = match given.clone().try_deserialize() {
            Ok(settings) => settings,
            Err(error) => {
                let (settings, unreadable) = read_each(&given)?;
                if unreadable.is_empty() {
                    return Err(error.into());
                }
                problems.extend(unreadable);
                settings
            }
        };
        problems.extend(secrets::read_files(&mut settings));
        if problems.is_empty() {
            return Ok((settings, sources));
        }

        let is_new = |problem: &String| !is_about_one_of(problem, &problems);
        let found = settings.problems().into_iter().chain(settings.malformed());
        let further: Vec<_> = found.filter(is_new).collect();
        problems.extend(further);
        Err(invalid(problems, &sources))
    }

    /// Checks all settings together, so that one start reports everything that is wrong.
    ///
    /// # Errors
    /// One line for each setting that is wrong, with what to do.
    pub fn check(&self) -> Result<(), SettingsError> {
        match self.problems() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(SettingsError::Invalid(problems)),
        }
    }

    /// Does the same as [`check`](Self::check), also for the form of the keys and of Postgres' URL,
    /// and names where each value comes from.
    pub fn check_with_sources(&self, sources: &Sources) -> Result<(), SettingsError> {
        let mut problems = self.problems();
        problems.extend(self.malformed());
        match problems {
            problems if problems.is_empty() => Ok(()),
            _ if sources.is_empty() => Err(SettingsError::NotGiven),
            problems => Err(invalid(problems, sources)),
        }
    }

    /// Checks also the form of what is only read when a worker starts: the auth service's keys.
    pub fn check_all(&self, sources: &Sources) -> Result<(), SettingsError> {
        self.check_with_sources(sources)?;

        match self.auth.key_problems() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(invalid(problems, sources)),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |ok: bool, message: &str| {
            if !ok {
                problems.push(message.to_owned());
            }
        };

        self.check_required(&mut require);
        self.check_servers(&mut require);
        self.check_reference(&mut require);
        self.check_worker(&mut require);
        self.check_limits(&mut require);
        if self.shard.id.is_empty() {
            require(false, "shard.id: name the shard");
        } else if let Err(error) = crate::wire::Subjects::new(&self.worker.prefix, &self.shard.id) {
            let setting = match error.field.as_str() {
                "shard" => "shard.id",
                _ => "worker.prefix",
            };
            require(false, &format!("{setting}: {}", error.reason));
        }

        problems
    }

    /// Names the keys and the URL of Postgres that are given and do not have their form.
    fn malformed(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.postgres.url.is_empty() && !self.postgres.has_usable_url() {
            problems.push(
                "postgres.url: has to be of the form postgres://user:password@host:port/database"
                    .to_owned(),
            );
        }

        for (name, key) in [
            ("identity", &self.keys.identity),
            ("encryption", &self.keys.encryption),
        ] {
            if !key.is_empty() && !Keyring::is_key(key) {
                problems.push(format!("keys.{name}: has to be 32 bytes in base64"));
            }
        }
        problems
    }

    /// Checks the settings that have no usable default.
    fn check_required(&self, require: &mut impl FnMut(bool, &str)) {
        require(
            !self.postgres.url.is_empty(),
            "postgres.url: name the shard's database",
        );
        require(
            !self.keys.identity.is_empty(),
            "keys.identity: give 32 bytes in base64, the same on every shard",
        );
        require(
            !self.keys.encryption.is_empty(),
            "keys.encryption: give 32 bytes in base64, the same on every shard",
        );
        require(
            !self.auth.issuer.is_empty(),
            "auth.issuer: name the issuer of the auth service's verdicts",
        );
        let given = |text: &str, file: &Path| (!text.is_empty(), !file.as_os_str().is_empty());
        let verdict_keys = given(&self.auth.verdict_keys, &self.auth.verdict_keys_file);
        require(
            verdict_keys != (false, false),
            "auth.verdict_keys: give the auth service's public keys as a JWK set, or a file of them \
             as auth.verdict_keys_file",
        );
        let token_keys = given(&self.auth.token_keys, &self.auth.token_keys_file);
        for (name, keys) in [("verdict_keys", verdict_keys), ("token_keys", token_keys)] {
            require(
                keys != (true, true),
                &format!("auth.{name}, auth.{name}_file: give one of them, not both"),
            );
        }
    }

    /// Checks the settings of the bucket, Postgres, NATS and the auth service.
    fn check_servers(&self, require: &mut impl FnMut(bool, &str)) {
        require(
            (1..=64).contains(&self.truth.history),
            "truth.history: from 1 to 64 records",
        );
        require(
            i64::try_from(self.truth.max_bytes).is_ok(),
            "truth.max_bytes: less than 2^63 bytes",
        );
        require(
            [1, 3, 5].contains(&self.truth.replicas),
            "truth.replicas: 1, 3 or 5",
        );
        require(
            self.truth.domain.bytes().all(is_name_byte),
            "truth.domain: letters, digits, _ and - only",
        );
        require(
            self.truth.call_ms > 0,
            "truth.call_ms: more than 0 milliseconds",
        );
        require(
            self.postgres.connections > 0,
            "postgres.connections: at least 1",
        );
        require(
            self.postgres.call_ms > 0,
            "postgres.call_ms: more than 0 milliseconds",
        );
        for role in Role::ALL {
            if let Err(error) = self.nats.access(role) {
                require(false, &format!("nats.{}: {error}", role.name()));
            }

            let prefixes = &self.worker.reply_prefixes;
            require(
                !prefixes.contains(&self.nats.user(role).inbox_prefix),
                &format!(
                    "nats.{}.inbox_prefix: must be none of worker.reply_prefixes, which callers use",
                    role.name()
                ),
            );
        }
        require(
            self.nats.queue_messages > 0,
            "nats.queue_messages: at least 1 message",
        );
        require(
            self.auth.in_flight > 0,
            "auth.in_flight: at least 1 question",
        );
    }

    /// Checks the settings of the reference service.
    fn check_reference(&self, require: &mut impl FnMut(bool, &str)) {
        require(
            self.reference.has_usable_subject(),
            "reference.subject: parts with dots between them, without wildcards and spaces; empty: \
             no instrument is checked",
        );
        require(
            self.reference.timeout_ms > 0,
            "reference.timeout_ms: more than 0 milliseconds",
        );
        require(
            self.reference.cache_entries > 0,
            "reference.cache_entries: at least 1 answer; to cache none, set found_ttl_s and \
             unknown_ttl_s to 0",
        );
    }

    /// Checks the settings of the worker's own work.
    fn check_worker(&self, require: &mut impl FnMut(bool, &str)) {
        require(
            (1..=10_000).contains(&self.projection.batch),
            "projection.batch: from 1 to 10,000 messages",
        );
        require(
            (1..=36_500).contains(&self.retention.versions_d),
            "retention.versions_d: from 1 to 36,500 days",
        );
        require(
            (self.truth.history..=1_000_000).contains(&i64::from(self.retention.item_versions)),
            "retention.item_versions: from truth.history to 1,000,000 versions",
        );
        require(
            u64::from(self.retry.kept_h) <= u64::from(self.retention.versions_d) * 24,
            "retry.kept_h: at most retention.versions_d, because a repeat is found by its version",
        );
        require(
            !self.worker.reply_prefixes.is_empty(),
            "worker.reply_prefixes: at least one, or no request is answered",
        );
        require(
            self.worker.id.bytes().all(is_name_byte),
            "worker.id: letters, digits, _ and - only",
        );
        require(
            (1..=100).contains(&self.maintain.crowded_percent),
            "maintain.crowded_percent: from 1 to 100 percent",
        );
        require(
            self.maintain.pause_s > 0,
            "maintain.pause_s: at least 1 second",
        );
    }

    /// Checks the limits.
    fn check_limits(&self, require: &mut impl FnMut(bool, &str)) {
        let limits = &self.limits;

        require(
            limits.keys <= 1_000,
            "limits.keys: at most 1,000, because one read of the bucket returns all of them",
        );
        require(
            limits.items <= limits.keys,
            "limits.items: at most limits.keys",
        );
        require(
            limits.owner_bytes >= limits.request_bytes,
            "limits.owner_bytes: at least limits.request_bytes, so that each item fits",
        );
        require(
            (1..=500).contains(&limits.batch),
            "limits.batch: from 1 to 500 operations",
        );
        require(
            (1..=limits.page_max).contains(&limits.page),
            "limits.page: from 1 to limits.page_max",
        );
        require(limits.in_flight > 0, "limits.in_flight: at least 1 request");
        require(
            limits.owner_in_flight > 0,
            "limits.owner_in_flight: at least 1 request",
        );
        require(
            limits.rate_per_s <= 1_000_000,
            "limits.rate_per_s: at most 1,000,000 requests a second",
        );
        require(
            limits.rate_burst > 0,
            "limits.rate_burst: at least 1 request",
        );
        require(
            (1..=64).contains(&limits.nesting),
            "limits.nesting: from 1 to 64 levels",
        );
        require(
            limits.deadline_ms <= limits.deadline_max_ms,
            "limits.deadline_ms: at most limits.deadline_max_ms",
        );
        require(
            limits.item.ticker_bytes + "XXXX:".len() <= limits.item.id_bytes,
            "limits.item.ticker_bytes: at least 5 less than limits.item.id_bytes, because MIC:TICKER \
             is an id",
        );
        require(
            limits.reply_bytes <= 1 << 20,
            "limits.reply_bytes: at most the NATS server's max_payload, 1,048,576",
        );
    }
}

/// Reads the file and the environment as they are, and where their values come from.
fn gather(file: Option<&Path>) -> Result<(config::Config, Sources), SettingsError> {
    let mut builder = config::Config::builder();
    let mut sources = Sources::default();
    if let Some(file) = file {
        let (found, text) = Sources::of_file(file)?;
        sources = found;
        builder = builder.add_source(config::File::from_str(&text, config::FileFormat::Toml));
    }
    builder = builder.add_source(
        config::Environment::with_prefix("GOFAVORITES")
            .prefix_separator("__")
            .separator("__")
            .ignore_empty(true),
    );

    for list in LIST_SETTINGS {
        let text = std::env::var(sources::variable(list)).ok();
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            builder =
                builder.set_override(list, text.split(',').map(str::trim).collect::<Vec<_>>())?;
        }
    }

    let given = builder.build()?;
    if let Some(message) = nats::moved_field(&given) {
        return Err(SettingsError::Moved(message));
    }
    let mut leaves = BTreeMap::new();
    flatten("", given.collect()?, &mut leaves);
    sources.add_variables(leaves.keys());
    Ok((given, sources))
}

/// Adds the values to `leaves`, by setting.
fn flatten(
    prefix: &str,
    table: config::Map<String, config::Value>,
    leaves: &mut BTreeMap<String, config::Value>,
) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value.kind {
            config::ValueKind::Table(section) => flatten(&format!("{name}."), section, leaves),
            _ => {
                leaves.insert(name, value);
            }
        }
    }
}

/// Reads each value alone, so that all that cannot be read are found. Returns the settings with the
/// others, and what is wrong with these.
fn read_each(given: &config::Config) -> Result<(Settings, Vec<String>), config::ConfigError> {
    let mut leaves = BTreeMap::new();
    flatten("", given.collect()?, &mut leaves);

    let mut problems = Vec::new();
    leaves.retain(|name, value| {
        let alone = BTreeMap::from([(name.clone(), value.clone())]);
        match read_leaves(&alone) {
            Ok(_) => true,
            Err(error) => {
                problems.push(format!("{name}: {}", unreadable::reason(&error)));
                false
            }
        }
    });
    Ok((read_leaves(&leaves)?, problems))
}

fn read_leaves(leaves: &BTreeMap<String, config::Value>) -> Result<Settings, config::ConfigError> {
    let mut table = config::Map::new();
    for (name, value) in leaves {
        let parts: Vec<&str> = name.split('.').collect();
        insert(&mut table, &parts, value.clone());
    }

    let mut settings = config::Config::default();
    settings.cache = config::Value::new(None, config::ValueKind::Table(table));
    settings.try_deserialize()
}

/// Puts a value into the sections that its name has.
fn insert(table: &mut config::Map<String, config::Value>, parts: &[&str], value: config::Value) {
    match parts {
        [] => {}
        [name] => {
            table.insert((*name).to_owned(), value);
        }
        [section, rest @ ..] => {
            let empty = config::ValueKind::Table(config::Map::new());
            let section = table
                .entry((*section).to_owned())
                .or_insert_with(|| config::Value::new(None, empty));
            if let config::ValueKind::Table(section) = &mut section.kind {
                insert(section, rest, value);
            }
        }
    }
}

/// Returns whether a problem is about a setting that one of these problems names already.
fn is_about_one_of(problem: &str, named: &[String]) -> bool {
    let names: BTreeSet<&str> = named
        .iter()
        .flat_map(|one| sources::settings_of(one))
        .map(|name| name.trim_end_matches("_file"))
        .collect();

    sources::settings_of(problem).any(|name| names.contains(name.trim_end_matches("_file")))
}

/// Returns the error with the places of the values.
fn invalid(problems: Vec<String>, sources: &Sources) -> SettingsError {
    let mut lines: Vec<String> = problems
        .iter()
        .map(|problem| sources.with_places(problem))
        .collect();
    if !sources.has_file() {
        lines.push("no --config is given".to_owned());
    }

    SettingsError::Invalid(lines)
}

/// Returns whether a name in a subject or in JetStream may hold the byte.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_reports_everything_that_is_wrong() {
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
    fn keys_come_from_a_setting_or_a_file_and_not_from_both() {
        let problems = |settings: &Settings| settings.check().expect_err("no shard").to_string();
        let mut settings = Settings::default();
        settings.auth.verdict_keys_file = "keys.json".into();
        settings.auth.token_keys_file = "keys.json".into();

        let error = problems(&settings);
        assert!(!error.contains("auth.verdict_keys"), "{error}");
        assert!(!error.contains("auth.token_keys"), "{error}");

        settings.auth.verdict_keys = "{}".into();
        settings.auth.token_keys = "{}".into();
        let error = problems(&settings);
        for setting in ["auth.verdict_keys_file", "auth.token_keys_file"] {
            assert!(error.contains(&format!("{setting}: give one")), "{error}");
        }
    }

    #[test]
    fn a_limit_out_of_its_bounds_is_named() {
        let mut settings = Settings::default();
        settings.limits.keys = 1_024;
        settings.limits.page = 0;

        let error = settings.check().expect_err("out of bounds").to_string();

        assert!(error.contains("limits.keys"), "{error}");
        assert!(error.contains("limits.page"), "{error}");
    }

    #[test]
    fn a_reference_service_that_cannot_be_asked_is_named() {
        let mut settings = Settings::default();
        let error = settings.check().expect_err("no shard").to_string();
        assert!(!error.contains("reference."), "it is off: {error}");

        settings.reference.subject = "reference.>".into();
        settings.reference.timeout_ms = 0;
        settings.reference.cache_entries = 0;
        let error = settings.check().expect_err("out of bounds").to_string();

        for setting in ["subject", "timeout_ms", "cache_entries"] {
            assert!(error.contains(&format!("reference.{setting}:")), "{error}");
        }
    }

    #[test]
    fn a_request_is_not_recognised_longer_than_its_version_is_kept() {
        let mut settings = Settings::default();
        settings.retention.versions_d = 6;

        let error = settings.check().expect_err("seven days of six").to_string();
        assert!(error.contains("retry.kept_h"), "{error}");

        settings.retry.kept_h = 144;
        let error = settings.check().expect_err("no shard").to_string();
        assert!(!error.contains("retry.kept_h"), "{error}");
    }

    #[test]
    fn a_file_overrides_the_defaults() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        let text = "[shard]\nid = \"a\"\n[limits.item]\ntags = 3\n";
        std::fs::write(file.path(), text).expect("written");

        let settings = Settings::read(Some(file.path())).expect("well formed");

        assert_eq!(settings.shard.id, "a");
        assert_eq!(settings.limits.item.tags, 3);
    }

    #[test]
    fn an_unknown_setting_is_named() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
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
        settings.nats.truth.password = "hush".into();
        settings.nats.front.token = "hush".into();
        settings.nats.auth.nkey_seed = "hush".into();
        settings.nats.truth.url = "nats://u:hush@h".into();
        settings.postgres.url = "hush".into();

        let printed = format!("{settings:?}");

        assert!(!printed.contains("hush"));
    }
}
