//! Describes a running development platform to its users: `dev.json`, and a file of shell
//! variables for each person.

use super::auth_service::{REVOKED_SUBJECT, VERIFY_SUBJECT};
use super::network::Topology;
use super::reference_service::REFERENCE_SUBJECT;
use super::role::HUB_DOMAIN;
use super::secrets::{Secrets, inbox_prefix, write_private};
use super::state::{DESCRIPTION_FILE, RunningPlatform};
use super::tokens::{ALL_SCOPES, TTL_MAX, token};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The people of the tour.
pub const PEOPLE: [&str; 2] = ["alice", "bob"];
/// The name under which `dev env` has the operator's variables.
pub const OPERATOR: &str = "operator";
/// The variables of an operator.
const OPERATOR_FILE: &str = "operator.env";
/// The variables of a service that follows the bucket.
const FEED_FILE: &str = "feed.env";

/// A process id; `None` if the process runs in a container.
pub(super) type ProcessId = Option<u32>;

/// What runs: addresses and process ids.
pub(super) struct PlatformDescription<'a> {
    pub topology: Topology,
    /// The process of `dev` itself.
    pub pid: ProcessId,
    /// The file of the authority that signed the NATS servers' certificates, if they use TLS.
    pub ca_file: Option<PathBuf>,
    pub nats_url: String,
    pub nats: ProcessId,
    /// URL and process id of the hub, where there is one.
    pub hub: Option<(String, ProcessId)>,
    pub postgres: ProcessId,
    /// `psql`, and the directory of the data.
    pub postgres_files: Option<(PathBuf, PathBuf)>,
    pub auth: ProcessId,
    /// Process id of the stand-in reference service, where there is one.
    pub reference: Option<u32>,
    pub maintain: Option<u32>,
    pub shards: Vec<Shard<'a>>,
    /// All processes, in the order in which they were started.
    pub processes: Vec<Process>,
}

/// One process of the platform.
pub(super) struct Process {
    /// The name, as `dev restart` takes it.
    pub name: String,
    pub pid: u32,
    /// Where clients connect, for a server.
    pub address: Option<String>,
    pub log: PathBuf,
}

/// One shard of the platform.
pub(super) struct Shard<'a> {
    pub id: &'a str,
    pub postgres_url: String,
    /// The NATS server of its workers.
    pub nats_url: String,
    /// That server's name and process id.
    pub nats: (String, ProcessId),
    /// The workers' names and process ids.
    pub workers: Vec<(String, ProcessId)>,
}

/// Removes the description of an earlier run: a description that exists must be true.
pub(super) fn withdraw(state: &Path) -> anyhow::Result<()> {
    let names = PEOPLE.map(|name| format!("{name}.env"));

    for file in names
        .iter()
        .map(String::as_str)
        .chain([OPERATOR_FILE, FEED_FILE, DESCRIPTION_FILE])
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
        let ca_file = self.ca_file.as_deref();
        let operator = operator_variables(secrets, &self.nats_url, ca_file);
        write_private(&state.join(OPERATOR_FILE), &operator)?;
        for name in PEOPLE {
            let token = token(secrets, name, ALL_SCOPES, TTL_MAX)?;
            let variables = caller_variables(secrets, &token, &self.nats_url, ca_file);
            write_private(&state.join(format!("{name}.env")), &variables)?;
            tokens.insert(name.to_owned(), token.into());
        }

        let description = self.description(secrets, &tokens.into());
        write_private(
            &state.join(DESCRIPTION_FILE),
            &serde_json::to_string_pretty(&description)?,
        )
    }

    /// Does the same as [`write`](Self::write), unless the files describe this already.
    pub(super) fn write_once(&self, state: &Path, secrets: &Secrets) -> anyhow::Result<()> {
        let earlier: Value = fs::read(state.join(DESCRIPTION_FILE))
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
                .map(|(name, pid)| json!({"name": name, "pid": pid}))
                .collect();
            json!({
                "id": shard.id, "postgres_url": shard.postgres_url, "nats_url": shard.nats_url,
                "nats": {"name": shard.nats.0, "pid": shard.nats.1}, "workers": workers,
            })
        };
        let process = |process: &Process| {
            json!({
                "name": process.name, "pid": process.pid, "address": process.address,
                "log": process.log,
            })
        };

        let mut servers = json!({
            "nats": {"pid": self.nats},
            "postgres": {"pid": self.postgres},
            "auth": {"pid": self.auth},
        });
        if let Some((psql, data)) = &self.postgres_files {
            servers["postgres"]["psql"] = json!(psql);
            servers["postgres"]["data"] = json!(data);
        }
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
            "pid": self.pid,
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
            "processes": self.processes.iter().map(process).collect::<Vec<_>>(),
        })
    }
}

/// Returns the shell variables of a person, with a new token, or of [`OPERATOR`].
pub fn variables(
    platform: &RunningPlatform,
    secrets: &Secrets,
    person: &str,
) -> anyhow::Result<String> {
    let nats_url = platform.nats_url()?;
    let ca_file = platform.description()["tls"]["ca_file"]
        .as_str()
        .map(Path::new);
    if person == OPERATOR {
        return Ok(operator_variables(secrets, nats_url, ca_file));
    }

    let token = token(secrets, person, ALL_SCOPES, TTL_MAX)?;
    Ok(caller_variables(secrets, &token, nats_url, ca_file))
}

fn caller_variables(
    secrets: &Secrets,
    token: &str,
    nats_url: &str,
    ca_file: Option<&Path>,
) -> String {
    let variables = format!(
        "export GOFAVORITES_URL={}\n\
         export GOFAVORITES_USER=gateway\n\
         export GOFAVORITES_PASSWORD={}\n\
         export GOFAVORITES_TOKEN={token}\n",
        quoted(nats_url),
        secrets.nats("gateway"),
    );

    variables + &ca_variables(ca_file)
}

/// The variables of our own client and of the `nats` program.
fn operator_variables(secrets: &Secrets, nats_url: &str, ca_file: Option<&Path>) -> String {
    let mut variables = String::new();
    for prefix in ["GOFAVORITES", "NATS"] {
        variables += &format!(
            "export {prefix}_URL={}\n\
             export {prefix}_USER=operator\n\
             export {prefix}_PASSWORD={}\n",
            quoted(nats_url),
            secrets.nats("operator"),
        );
    }

    variables + &ca_variables(ca_file)
}

/// Returns a word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:@/".contains(c);

    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The variables of TLS: the second one is for the `nats` program.
fn ca_variables(ca_file: Option<&Path>) -> String {
    let variable = |name| {
        ca_file.map_or_else(String::new, |file| {
            format!("export {name}={}\n", quoted(&file.display().to_string()))
        })
    };

    ["GOFAVORITES_TLS_CA", "NATS_CA"].map(variable).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> PlatformDescription<'static> {
        let url = "nats://127.0.0.1:1".to_owned();
        let shard = Shard {
            id: "a",
            postgres_url: "postgres://x".into(),
            nats_url: url.clone(),
            nats: ("leaf-a".into(), Some(1)),
            workers: vec![
                ("worker-a-0".into(), Some(4)),
                ("worker-a-1".into(), Some(5)),
            ],
        };
        PlatformDescription {
            topology: Topology::Leaf,
            pid: Some(9),
            ca_file: None,
            nats_url: url,
            nats: Some(1),
            hub: Some(("nats://127.0.0.1:6".to_owned(), Some(6))),
            postgres: Some(2),
            postgres_files: Some(("/bin/psql".into(), "/data".into())),
            auth: Some(3),
            reference: Some(8),
            maintain: Some(7),
            shards: vec![shard],
            processes: vec![Process {
                name: "leaf-a".into(),
                pid: 1,
                address: Some("nats://127.0.0.1:1".into()),
                log: "/log".into(),
            }],
        }
    }

    #[test]
    fn the_description_has_the_agreed_shape_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let running = running();

        running
            .write(directory.path(), &Secrets::generate().expect("secrets"))
            .expect("written");

        let file = directory.path().join("dev.json");
        let json: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
        assert_eq!(json["topology"], "leaf");
        assert_eq!(json["shards"][0]["workers"][1]["pid"], 5);
        assert_eq!(json["shards"][0]["workers"][1]["name"], "worker-a-1");
        assert_eq!(json["processes"][0]["name"], "leaf-a");
        assert_eq!(json["servers"]["postgres"]["psql"], "/bin/psql");
        assert_eq!(json["pid"], 9);
        assert_eq!(json["servers"]["postgres"]["pid"], 2);
        assert_eq!(json["servers"]["hub"]["pid"], 6);
        assert_eq!(json["servers"]["reference"]["pid"], 8);
        assert_eq!(json["reference"]["subject"], REFERENCE_SUBJECT);
        assert!(json["users"]["operator"]["password"].is_string());
        assert_eq!(json["users"]["direct"]["inbox_prefix"], "_INBOX.direct");
        assert!(json["tokens"]["bob"].is_string());

        for name in ["dev.json", "alice.env", OPERATOR_FILE, FEED_FILE] {
            let mode = fs::metadata(directory.path().join(name))
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }

        withdraw(directory.path()).expect("withdrawn");
        assert!(!file.exists());
        assert!(!directory.path().join("bob.env").exists());
        assert!(!directory.path().join(OPERATOR_FILE).exists());
    }
}
