//! Describes a running development platform to its users: `dev.json`, and a file of shell
//! variables for each person.

use super::auth_service::{REVOKED_SUBJECT, VERIFY_SUBJECT};
use super::network::Topology;
use super::reference_service::REFERENCE_SUBJECT;
use super::role::HUB_DOMAIN;
use super::secrets::{Secrets, inbox_prefix, write_private};
use super::tokens::{ALL_SCOPES, token};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The people of the tour.
pub const PEOPLE: [&str; 2] = ["alice", "bob"];
/// The variables of a service that follows the bucket.
const FEED_FILE: &str = "feed.env";
/// How long their tokens are valid: ten years.
const TOKEN_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// A process id; `None` if the process runs in a container.
pub(super) type ProcessId = Option<u32>;

/// What runs: addresses and process ids.
pub(super) struct PlatformDescription<'a> {
    pub topology: Topology,
    /// The file of the authority that signed the NATS servers' certificates, if they use TLS.
    pub ca_file: Option<PathBuf>,
    pub nats_url: String,
    pub nats: ProcessId,
    /// URL and process id of the hub, where there is one.
    pub hub: Option<(String, ProcessId)>,
    pub postgres: ProcessId,
    pub auth: ProcessId,
    /// Process id of the stand-in reference service, where there is one.
    pub reference: Option<u32>,
    pub maintain: Option<u32>,
    pub shards: Vec<Shard<'a>>,
}

/// One shard of the platform.
pub(super) struct Shard<'a> {
    pub id: &'a str,
    pub postgres_url: String,
    /// The NATS server of its workers.
    pub nats_url: String,
    /// That server's process id.
    pub nats: ProcessId,
    /// The workers' process ids.
    pub workers: Vec<ProcessId>,
}

/// Removes the description of an earlier run: a description that exists must be true.
pub(super) fn withdraw(state: &Path) -> anyhow::Result<()> {
    let names = PEOPLE.map(|name| format!("{name}.env"));

    for file in names
        .iter()
        .map(String::as_str)
        .chain([FEED_FILE, "dev.json"])
        .map(|name| state.join(name))
    {
        if file.exists() {
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
    }

    Ok(())
}

impl PlatformDescription<'_> {
    /// Writes the files below `state`, `dev.json` last, because that file means "ready".
    pub(super) fn write(&self, state: &Path, secrets: &Secrets) -> anyhow::Result<()> {
        let mut tokens = serde_json::Map::new();

        let hub = self.hub.as_ref();
        let at_the_bucket = hub.map_or(&self.nats_url, |(url, _)| url);
        let variables = format!(
            "export GOFAVORITES_URL={at_the_bucket}\n\
             export GOFAVORITES_PASSWORD={}\n\
             export GOFAVORITES_IDENTITY_KEY={}\n\
             export GOFAVORITES_ENCRYPTION_KEY={}\n",
            secrets.nats("feed"),
            secrets.identity,
            secrets.encryption,
        );
        write_private(&state.join(FEED_FILE), &variables)?;
        for name in PEOPLE {
            let token = token(secrets, name, ALL_SCOPES, TOKEN_TTL)?;
            let mut variables = format!(
                "export GOFAVORITES_URL={}\n\
                 export GOFAVORITES_USER=gateway\n\
                 export GOFAVORITES_PASSWORD={}\n\
                 export GOFAVORITES_TOKEN={token}\n",
                self.nats_url,
                secrets.nats("gateway"),
            );
            if let Some(file) = &self.ca_file {
                // The second one is for the `nats` program.
                for name in ["GOFAVORITES_TLS_CA", "NATS_CA"] {
                    variables += &format!("export {name}='{}'\n", file.display());
                }
            }
            write_private(&state.join(format!("{name}.env")), &variables)?;
            tokens.insert(name.to_owned(), token.into());
        }

        let description = self.description(secrets, &tokens.into());
        write_private(
            &state.join("dev.json"),
            &serde_json::to_string_pretty(&description)?,
        )
    }

    /// Does the same as [`write`](Self::write), unless the files describe this already.
    pub(super) fn write_once(&self, state: &Path, secrets: &Secrets) -> anyhow::Result<()> {
        let earlier: Value = fs::read(state.join("dev.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let has_files = PEOPLE
            .iter()
            .all(|name| state.join(format!("{name}.env")).exists());

        // Only the tokens differ each time.
        if has_files && earlier == self.description(secrets, &earlier["tokens"]) {
            return Ok(());
        }
        self.write(state, secrets)
    }

    fn description(&self, secrets: &Secrets, tokens: &Value) -> Value {
        let user = |name: &str| json!({"user": name, "password": secrets.nats(name)});
        let mut direct = user("direct");
        direct["inbox_prefix"] = inbox_prefix("direct").into();
        let shard = |shard: &Shard<'_>| {
            let workers: Vec<Value> = shard
                .workers
                .iter()
                .map(|pid| json!({"pid": pid}))
                .collect();
            json!({
                "id": shard.id, "postgres_url": shard.postgres_url, "nats_url": shard.nats_url,
                "nats": {"pid": shard.nats}, "workers": workers,
            })
        };

        let mut servers = json!({
            "nats": {"pid": self.nats},
            "postgres": {"pid": self.postgres},
            "auth": {"pid": self.auth},
        });
        if let Some(pid) = self.reference {
            servers["reference"] = json!({"pid": pid});
        }
        if let Some(pid) = self.maintain {
            servers["maintain"] = json!({"pid": pid});
        }
        if let Some((url, pid)) = &self.hub {
            servers["hub"] = json!({"pid": pid, "nats_url": url, "domain": HUB_DOMAIN});
        }

        json!({
            "topology": self.topology.name(),
            "nats_url": self.nats_url,
            "tls": self.ca_file.as_ref().map(|file| json!({"ca_file": file})),
            "users": {
                "gateway": user("gateway"), "gateway2": user("gateway2"), "direct": direct,
                "auth": user("auth_service"), "reference": user("reference_service"),
                "operator": user("operator"),
            },
            "shards": self.shards.iter().map(shard).collect::<Vec<_>>(),
            "tokens": tokens,
            "auth": {"verify_subject": VERIFY_SUBJECT, "revoked_subject": REVOKED_SUBJECT},
            "reference": self.reference.map(|_| json!({"subject": REFERENCE_SUBJECT})),
            "servers": servers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_the_agreed_shape_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let url = "nats://127.0.0.1:1".to_owned();
        let shard = Shard {
            id: "a",
            postgres_url: "postgres://x".into(),
            nats_url: url.clone(),
            nats: Some(1),
            workers: vec![Some(4), Some(5)],
        };
        let running = PlatformDescription {
            topology: Topology::Leaf,
            ca_file: None,
            nats_url: url,
            nats: Some(1),
            hub: Some(("nats://127.0.0.1:6".to_owned(), Some(6))),
            postgres: Some(2),
            auth: Some(3),
            reference: Some(8),
            maintain: Some(7),
            shards: vec![shard],
        };

        running
            .write(directory.path(), &Secrets::generate().expect("secrets"))
            .expect("written");

        let file = directory.path().join("dev.json");
        let json: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
        assert_eq!(json["topology"], "leaf");
        assert_eq!(json["shards"][0]["workers"][1]["pid"], 5);
        assert_eq!(json["servers"]["postgres"]["pid"], 2);
        assert_eq!(json["servers"]["hub"]["pid"], 6);
        assert_eq!(json["servers"]["reference"]["pid"], 8);
        assert_eq!(json["reference"]["subject"], REFERENCE_SUBJECT);
        assert!(json["users"]["operator"]["password"].is_string());
        assert_eq!(json["users"]["direct"]["inbox_prefix"], "_INBOX.direct");
        assert!(json["tokens"]["bob"].is_string());

        for name in ["dev.json", "alice.env", FEED_FILE] {
            let mode = fs::metadata(directory.path().join(name))
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }

        withdraw(directory.path()).expect("withdrawn");
        assert!(!file.exists());
        assert!(!directory.path().join("bob.env").exists());
    }
}
