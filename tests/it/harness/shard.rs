//! A shard looked at from inside: its owners, its rows, and the steps that a worker makes.

use super::world::World;
use gofavorites::dev::tokens::ISSUER;
use gofavorites::requester::Requester;
use gofavorites::seal::{Keyring, OwnerKey, UserId};
use gofavorites::shard::Store;
use gofavorites::truth::Bucket;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How long a row may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// The name under which somebody's records are kept.
    pub fn owner(&self, subject: &str) -> OwnerKey {
        let keyring =
            Keyring::from_base64(&self.secrets.identity, &self.secrets.encryption).expect("keys");
        keyring.owner(&UserId::new(ISSUER, subject))
    }

    /// The shard's Postgres, as a worker reaches it.
    pub fn store(&self, shard: &str) -> Store {
        Store::new(&self.settings(shard).postgres).expect("settings")
    }

    /// The truth, as a worker of that shard reaches it.
    pub async fn bucket(&self, shard: &str) -> Bucket {
        let requester = Requester::start(self.connect("worker").await)
            .await
            .expect("an inbox");
        Bucket::new(requester, self.truth.clone(), shard)
    }

    /// The settings of a worker of that shard, in a file, as the program reads them.
    pub fn config(&self, shard: &str) -> PathBuf {
        let settings = self.settings(shard);
        let (nats, keys, auth) = (&settings.nats, &settings.keys, &settings.auth);
        let text = [
            format!("shard.id = {shard:?}"),
            format!("nats.url = {:?}", nats.url),
            format!("nats.user = {:?}", nats.user),
            format!("nats.password = {:?}", nats.password),
            format!("truth.domain = {:?}", settings.truth.domain),
            format!("postgres.url = {:?}", settings.postgres.url),
            format!("keys.identity = {:?}", keys.identity),
            format!("keys.encryption = {:?}", keys.encryption),
            format!("auth.issuer = {:?}", auth.issuer),
            format!("auth.verdict_keys = {:?}", auth.verdict_keys),
            format!("auth.token_keys = {:?}", auth.token_keys),
        ];
        let file = self.directory.join(format!("shard-{shard}.toml"));
        std::fs::write(&file, text.join("\n")).expect("written");
        file
    }

    /// The program with these arguments and the settings of a worker of that shard, and nothing else in its environment.
    pub fn program(&self, shard: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gofavorites"));
        command
            .args(arguments)
            .env_clear()
            .env("GOFAVORITES_CONFIG", self.config(shard));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the program; its exit code, and what it printed.
    pub async fn run(&self, shard: &str, arguments: &[&str]) -> (i32, String) {
        let output = self
            .program(shard, arguments)
            .output()
            .await
            .expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let log = String::from_utf8_lossy(&output.stderr);
        for secret in [&self.secrets.identity, &self.secrets.encryption] {
            assert!(
                !text.contains(secret) && !log.contains(secret),
                "a secret is printed"
            );
        }
        eprintln!("{arguments:?}: {text}{log}");
        (output.status.code().expect("an exit code"), text)
    }

    /// Waits until the statement gives that text.
    pub async fn until(&self, shard: &str, statement: &str, expected: &str) {
        let since = Instant::now();
        loop {
            let found = self.query(shard, statement);
            if found == expected {
                return;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{statement}: {found}, and not {expected}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the shard's projection has passed the version of that reply's item.
    pub async fn until_projected(&self, shard: &str, reply: &Value) {
        let version = reply["owner_version"].as_u64().expect("a version");
        self.until(
            shard,
            &format!("select sequence >= {version} from cursor"),
            "t",
        )
        .await;
    }

    /// The statement's name of somebody's key: `'\x…'`.
    pub fn key_of(&self, subject: &str) -> String {
        let hex: String = self
            .owner(subject)
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("'\\x{hex}'")
    }
}
