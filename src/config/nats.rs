//! The settings of the connections to NATS. A worker has three: one on which callers reach it, one
//! to the auth service, and one to the bucket.

use super::{hidden, without_password};
use crate::nats::{Access, AccessError, Credentials, Secret, TlsSettings};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::path::PathBuf;

/// What a connection to NATS is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Callers: requests, discovery, and the replies to both.
    Front,
    /// The auth service: verdicts and revocations.
    Auth,
    /// The bucket.
    Truth,
}

/// The connections to NATS: what they share, and the user of each.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NatsSettings {
    /// The server, or several separated by commas. `tls://` instead of `nats://` requires TLS, also
    /// of the cluster's other servers.
    #[serde(serialize_with = "without_password")]
    pub url: String,
    /// How many messages of one subscription may wait in memory, for requests also at most 64 MiB.
    /// More are lost, and counted in the statistics.
    #[cfg_attr(test, schemars(extend("x-unit" = "messages")))]
    pub queue_messages: usize,
    /// `true`: use only the servers of `url`, and not the other servers of the cluster, which they
    /// name.
    pub ignore_discovered: bool,
    /// TLS.
    pub tls: TlsSettings,
    /// The connection on which callers reach the worker.
    #[serde(deserialize_with = "front_user")]
    pub front: NatsUserSettings,
    /// The connection to the auth service.
    #[serde(deserialize_with = "auth_user")]
    pub auth: NatsUserSettings,
    /// The connection to the bucket. The operators' commands use no other.
    #[serde(deserialize_with = "truth_user")]
    pub truth: NatsUserSettings,
}

/// One connection: its server, its user and its inboxes.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NatsUserSettings {
    /// The server or servers of this connection; empty: `nats.url`.
    #[serde(serialize_with = "without_password")]
    pub url: String,
    /// Its user.
    pub user: String,
    /// The user's password.
    #[serde(serialize_with = "hidden")]
    pub password: String,
    /// A file that holds the password.
    pub password_file: PathBuf,
    /// A token, instead of user and password.
    #[serde(serialize_with = "hidden")]
    pub token: String,
    /// A file that holds the token.
    pub token_file: PathBuf,
    /// The seed of an nkey, instead of user and password.
    #[serde(serialize_with = "hidden")]
    pub nkey_seed: String,
    /// A file that holds the seed.
    pub nkey_seed_file: PathBuf,
    /// A credentials file, instead of other credentials.
    pub creds_file: PathBuf,
    /// The prefix of its inboxes. No caller may use it. `nats/accounts.conf` has it too: for
    /// `nats.truth` it is `_INBOX_worker` for workers, and `_INBOX_` with the user's name for
    /// `init`, `maintain`, `backup` and `restore`.
    pub inbox_prefix: String,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Front, Self::Auth, Self::Truth];

    /// Returns the name of the role's section below `nats`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Auth => "auth",
            Self::Truth => "truth",
        }
    }

    fn inbox_prefix(self) -> &'static str {
        match self {
            Self::Front => "_INBOX_front",
            Self::Auth => "_INBOX_auth",
            Self::Truth => "_INBOX_worker",
        }
    }
}

impl NatsSettings {
    /// Returns the settings of the role's connection.
    pub fn user(&self, role: Role) -> &NatsUserSettings {
        match role {
            Role::Front => &self.front,
            Role::Auth => &self.auth,
            Role::Truth => &self.truth,
        }
    }

    /// Returns what the role's connection needs. It uses its own servers, or else the shared ones,
    /// and its own credentials, or else those in the servers' URLs.
    pub fn access(&self, role: Role) -> Result<Access, AccessError> {
        let user = self.user(role);
        let url = if user.url.is_empty() {
            &self.url
        } else {
            &user.url
        };

        Access::new(
            url,
            user.credentials(),
            self.tls.clone(),
            self.ignore_discovered,
        )
    }
}

impl NatsUserSettings {
    /// Returns the default settings of the role's connection.
    fn of(role: Role) -> Self {
        Self {
            inbox_prefix: role.inbox_prefix().to_owned(),
            ..Self::default()
        }
    }

    fn credentials(&self) -> Credentials {
        let secret = |text: &String, file: &PathBuf| Secret {
            text: text.clone(),
            file: file.clone(),
        };

        Credentials {
            user: self.user.clone(),
            password: secret(&self.password, &self.password_file),
            token: secret(&self.token, &self.token_file),
            nkey_seed: secret(&self.nkey_seed, &self.nkey_seed_file),
            creds_file: self.creds_file.clone(),
        }
    }

    /// Reads the role's section.
    fn read<'de, D: Deserializer<'de>>(deserializer: D, role: Role) -> Result<Self, D::Error> {
        let mut user = Self::deserialize(deserializer)?;
        if user.inbox_prefix.is_empty() {
            user.inbox_prefix = role.inbox_prefix().to_owned();
        }

        Ok(user)
    }
}

fn front_user<'de, D: Deserializer<'de>>(section: D) -> Result<NatsUserSettings, D::Error> {
    NatsUserSettings::read(section, Role::Front)
}

fn auth_user<'de, D: Deserializer<'de>>(section: D) -> Result<NatsUserSettings, D::Error> {
    NatsUserSettings::read(section, Role::Auth)
}

fn truth_user<'de, D: Deserializer<'de>>(section: D) -> Result<NatsUserSettings, D::Error> {
    NatsUserSettings::read(section, Role::Truth)
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            queue_messages: 65_536,
            ignore_discovered: false,
            tls: TlsSettings::default(),
            front: NatsUserSettings::of(Role::Front),
            auth: NatsUserSettings::of(Role::Auth),
            truth: NatsUserSettings::of(Role::Truth),
        }
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings")
            .field("queue_messages", &self.queue_messages)
            .field("ignore_discovered", &self.ignore_discovered)
            .field("tls", &self.tls)
            .field("front", &self.front)
            .field("auth", &self.auth)
            .field("truth", &self.truth)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NatsUserSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsUserSettings")
            .field("user", &self.user)
            .field("password_file", &self.password_file)
            .field("token_file", &self.token_file)
            .field("nkey_seed_file", &self.nkey_seed_file)
            .field("creds_file", &self.creds_file)
            .field("inbox_prefix", &self.inbox_prefix)
            .finish_non_exhaustive()
    }
}

/// The fields that moved from `nats` into the sections of the connections.
const MOVED_FIELDS: [&str; 3] = ["user", "password", "inbox_prefix"];

/// Returns the message for the first of the moved fields that the settings still have in `nats`, if
/// there is one.
pub(super) fn moved_field(settings: &config::Config) -> Option<String> {
    let nats = settings.get_table("nats").ok()?;
    let field = MOVED_FIELDS
        .iter()
        .find(|field| nats.contains_key(**field))?;

    Some(format!(
        "nats.{field}: each connection has its own now; set nats.front.{field}, \
         nats.auth.{field} and nats.truth.{field} (init, maintain and the operators' commands use \
         nats.truth only)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read(text: &str) -> Result<Settings, crate::config::SettingsError> {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        std::fs::write(file.path(), text).expect("written");

        Settings::read(Some(file.path()))
    }

    #[test]
    fn a_section_with_only_a_user_keeps_the_default_inboxes() {
        let text = "[nats.front]\nuser = \"front\"\n[nats.truth]\nuser = \"worker\"\n";

        let nats = read(text).expect("well formed").nats;

        let prefixes = Role::ALL.map(|role| nats.user(role).inbox_prefix.as_str());
        assert_eq!(prefixes, ["_INBOX_front", "_INBOX_auth", "_INBOX_worker"]);
        assert_eq!(nats.front.user, "front");
    }

    #[test]
    fn a_connection_without_servers_of_its_own_uses_the_shared_ones() {
        let text = "[nats]\nurl = \"nats://u:p@all\"\n\
                    [nats.auth]\nurl = \"nats://auth\"\n\
                    [nats.truth]\nuser = \"worker\"\n";
        let nats = read(text).expect("well formed").nats;

        let reached = Role::ALL.map(|role| {
            let access = nats.access(role).expect("consistent");
            let host = access.servers()[0].host().to_owned();
            (host, access.credentials().user.clone())
        });

        let expected = [("all", "u"), ("auth", ""), ("all", "worker")]
            .map(|(host, user)| (host.to_owned(), user.to_owned()));
        assert_eq!(reached, expected);
    }

    #[test]
    fn a_field_that_has_moved_is_refused_with_its_new_place() {
        for field in MOVED_FIELDS {
            let text = format!("[nats]\n{field} = \"hush\"\n");

            let error = read(&text).expect_err("moved").to_string();

            assert!(error.contains(&format!("nats.truth.{field}")), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
