//! A shard as a worker and an operator see it: its owners, its rows, and the program's commands.

use super::world::World;
use gofavorites::config::Role;
use gofavorites::dev::secrets::inbox_prefix;
use gofavorites::dev::tokens::ISSUER;
use gofavorites::requester::Requester;
use gofavorites::seal::{ItemKey, Keyring, OwnerKey, UserId};
use gofavorites::shard::Store;
use gofavorites::truth::Bucket;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How long a row may take to appear.
const ROW_TIMEOUT: Duration = Duration::from_secs(60);

impl World {
    /// Returns the key under which a user's records are stored.
    pub fn owner(&self, subject: &str) -> OwnerKey {
        let keyring =
            Keyring::from_base64(&self.secrets.identity, &self.secrets.encryption).expect("keys");

        keyring.owner(&UserId::new(ISSUER, subject))
    }

    /// Returns the shard's Postgres, as a worker reaches it.
    pub fn store(&self, shard: &str) -> Store {
        Store::new(&self.settings(shard).postgres).expect("settings")
    }

    /// Returns the bucket, as a worker of that shard reaches it.
    pub async fn bucket(&self, shard: &str) -> Bucket {
        let client = self.connect("worker").await;
        let requester = Requester::start(client).await.expect("an inbox");

        Bucket::new(requester, self.truth.clone(), shard)
    }

    /// Writes the settings of a worker of that shard into a file for the program, and returns its
    /// path.
    pub fn config(&self, shard: &str) -> PathBuf {
        let settings = self.settings(shard);
        let nats = &settings.nats;
        let keys = &settings.keys;
        let auth = &settings.auth;

        let users = Role::ALL.map(|role| {
            let user = nats.user(role);
            format!(
                "nats.{0}.user = {1:?}\nnats.{0}.password = {2:?}\nnats.{0}.inbox_prefix = {3:?}",
                role.name(),
                user.user,
                user.password,
                user.inbox_prefix
            )
        });
        let text = [
            format!("shard.id = {shard:?}"),
            format!("nats.url = {:?}", nats.url),
            users.join("\n"),
            format!("truth.domain = {:?}", settings.truth.domain),
            format!("postgres.url = {:?}", settings.postgres.url),
            format!("keys.identity = {:?}", keys.identity),
            format!("keys.encryption = {:?}", keys.encryption),
            format!("auth.issuer = {:?}", auth.issuer),
            format!("auth.verdict_keys = {:?}", auth.verdict_keys),
            format!("auth.token_keys = {:?}", auth.token_keys),
        ];
        // Moved into place, because a program that was started before may be reading it.
        let file = self.directory.join(format!("shard-{shard}.toml"));
        let draft = file.with_extension("draft");
        std::fs::write(&draft, text.join("\n")).expect("written");
        std::fs::rename(&draft, &file).expect("moved");

        file
    }

    /// Returns the program with these arguments and the settings of a worker of that shard, and
    /// nothing else in its environment.
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

    /// Does the same as [`program`](Self::program), with that NATS user's connection to the bucket.
    pub fn program_as(&self, user: &str, shard: &str, arguments: &[&str]) -> Command {
        let mut command = self.program(shard, arguments);
        command
            .env("GOFAVORITES__NATS__TRUTH__USER", user)
            .env(
                "GOFAVORITES__NATS__TRUTH__PASSWORD",
                self.secrets.nats(user),
            )
            .env("GOFAVORITES__NATS__TRUTH__INBOX_PREFIX", inbox_prefix(user));

        command
    }

    /// Runs the program, and returns its exit code and what it printed. Fails if a secret is
    /// printed or logged.
    pub async fn run(&self, shard: &str, arguments: &[&str]) -> (i32, String) {
        let output = self
            .program(shard, arguments)
            .output()
            .await
            .expect("it starts");

        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let log = String::from_utf8_lossy(&output.stderr);
        for secret in [&self.secrets.identity, &self.secrets.encryption] {
            assert!(!text.contains(secret), "a secret is printed");
            assert!(!log.contains(secret), "a secret is logged");
        }

        eprintln!("{arguments:?}: {text}{log}");
        (output.status.code().expect("an exit code"), text)
    }

    /// Migrates the shard's database as `init` of the made-up next release does.
    pub fn migrate_to_next(&self, shard: &str) {
        self.query(shard, "alter table item add column next_note text");
        self.query(
            shard,
            "insert into _sqlx_migrations \
             (version, description, success, checksum, execution_time) \
             values (9999, 'next', true, 'x', 1)",
        );
    }

    /// Waits until the statement returns that text.
    pub async fn until(&self, shard: &str, statement: &str, expected: &str) {
        let start = Instant::now();

        loop {
            let found = self.query(shard, statement);
            if found == expected {
                return;
            }

            assert!(
                start.elapsed() < ROW_TIMEOUT,
                "{statement}: {found}, and not {expected}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the shard's projection has reached the owner's version of that reply.
    pub async fn until_projected(&self, shard: &str, reply: &Value) {
        let version = reply["owner_version"].as_u64().expect("a version");
        let statement = format!("select sequence >= {version} from cursor");

        self.until(shard, &statement, "t").await;
    }

    /// Returns the key of each item that a user has on that shard, with the user's, in the order of
    /// the items' versions.
    pub fn items_of(&self, shard: &str, subject: &str) -> Vec<(OwnerKey, ItemKey)> {
        let owner = self.owner(subject);
        let key = self.key_of(subject);
        let items = format!(
            "select encode(item_key, 'hex') from item where owner_key = {key} order by version"
        );
        let parse = |hex: &str| {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("a byte");
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            ItemKey::from_slice(&bytes).expect("an item's key")
        };

        let hex = self.query(shard, &items);
        hex.lines().map(|line| (owner, parse(line))).collect()
    }

    /// Returns a user's key as an SQL literal: `'\x…'`.
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
