//! The machines of an installation: what `systemctl` and `nats` of the runbooks do on them.
//!
//! The machine `shard-a` runs the workers of shard a, `nats-1` the only NATS server, `hub-1` to
//! `hub-3` the servers of a hub, and `leaf-a` and `leaf-b` its leaves.

use crate::harness::{Process, World};
use gofavorites::dev::nats::NatsServer;
use gofavorites::dev::secrets::{inbox_prefix, write_private};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The NATS users whose passwords an operator has.
const USERS: [&str; 9] = [
    "front", "auth", "worker", "init", "maintain", "backup", "restore", "operator", "gateway",
];

/// The machines, and what runs on them.
pub struct Machines {
    world: World,
    /// The servers other than that of the world.
    pub servers: BTreeMap<String, NatsServer>,
    /// The machine of the world's server.
    home: &'static str,
    /// The running units of workers and of `maintain`, by machine and name.
    pub units: BTreeMap<(String, String), Process>,
    /// The directory of the settings.
    pub etc: PathBuf,
    /// The program that the units start.
    pub program: PathBuf,
}

impl Machines {
    /// Takes a world whose server runs on that machine.
    pub fn new(world: World, home: &'static str) -> Self {
        Self {
            world,
            servers: BTreeMap::new(),
            home,
            units: BTreeMap::new(),
            etc: PathBuf::new(),
            program: PathBuf::new(),
        }
    }

    /// The world of the test.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Does a command of a stand-in, and returns what it prints. The words are the machine, the
    /// program, and its arguments.
    pub async fn obey(&mut self, words: &[&str]) -> String {
        match words {
            [machine, "systemctl", verb, units @ ..] => {
                for unit in units {
                    self.control(machine, verb, unit).await;
                }
                String::new()
            }
            [_, "nats", "--context", "truth-admin", words @ ..] => self.administrate(words).await,
            _ => panic!("no machine knows {words:?}"),
        }
    }

    async fn control(&mut self, machine: &str, verb: &str, unit: &str) {
        if unit == "nats-server" {
            return self.control_server(machine, verb).await;
        }

        if matches!(verb, "stop" | "restart") {
            self.stop(machine, unit).await;
        }
        if matches!(verb, "start" | "restart") {
            self.start(machine, unit);
        }
    }

    /// Starts a unit of a worker, `gofavorites-worker@1`, or `gofavorites-maintain`.
    pub fn start(&mut self, machine: &str, unit: &str) {
        let process = match unit.split_once('@') {
            Some(("gofavorites-worker", number)) => {
                let id = format!("{machine}-{number}");
                let file = self.etc.join(format!("{machine}.toml"));
                let environment = [("GOFAVORITES__WORKER__ID", id.as_str())];
                self.world
                    .start_from(&self.program, "serve", &file, &environment)
            }
            _ => {
                assert_eq!(unit, "gofavorites-maintain");
                let password = self.etc.join("maintain.password");
                let environment = [
                    ("GOFAVORITES__NATS__TRUTH__USER", "maintain"),
                    ("GOFAVORITES__NATS__TRUTH__INBOX_PREFIX", "_INBOX_maintain"),
                    ("GOFAVORITES__NATS__TRUTH__PASSWORD_FILE", path(&password)),
                    ("GOFAVORITES__MAINTAIN__DELETIONS_D", "0"),
                ];
                let file = self.etc.join("bucket.toml");
                self.world
                    .start_from(&self.program, "maintain", &file, &environment)
            }
        };

        self.units.insert((machine.into(), unit.into()), process);
    }

    /// Stops a unit, which has to end in order. One that does not run is left alone.
    async fn stop(&mut self, machine: &str, unit: &str) {
        let Some(mut process) = self.units.remove(&(machine.into(), unit.into())) else {
            return;
        };
        process.signal(Signal::SIGTERM);

        let status = process.ended().await;
        assert!(status.success(), "{unit} on {machine}: {}", process.log());
    }

    async fn control_server(&mut self, machine: &str, verb: &str) {
        let server = self.server(machine);
        match verb {
            "start" => server.restart().await.expect("started"),
            "stop" => server.stop().expect("stopped"),
            "restart" => {
                server.stop().expect("stopped");
                server.restart().await.expect("started");
            }
            "reload" => server.process().signal(Signal::SIGHUP).expect("reloaded"),
            _ => panic!("systemctl {verb}"),
        }
    }

    /// Returns the server of that machine.
    pub fn server(&mut self, machine: &str) -> &mut NatsServer {
        if machine == self.home {
            return &mut self.world.nats;
        }
        self.servers.get_mut(machine).expect("a server")
    }

    /// Does what the `nats` program does with a stream, as an administrator.
    async fn administrate(&self, words: &[&str]) -> String {
        let answer = match words {
            ["stream", "rm", stream, "--force"] => self.api("DELETE", stream, &json!({})).await,
            ["stream", "edit", stream, limit, "--force"] => {
                let bytes = limit.strip_prefix("--max-bytes=").expect("a limit");
                let bytes: i64 = bytes.parse().expect("a number");
                let info = self.api("INFO", stream, &json!({})).await;
                let mut config = info["config"].clone();
                config["max_bytes"] = bytes.into();
                self.api("UPDATE", stream, &config).await
            }
            ["stream", "purge", stream, "--subject", subject, "--force"] => {
                self.api("PURGE", stream, &json!({"filter": subject})).await
            }
            _ => panic!("nats {words:?}"),
        };

        format!("{answer:#}\n")
    }

    /// Calls the API of streams.
    pub async fn api(&self, call: &str, stream: &str, body: &Value) -> Value {
        self.ask(&format!("$JS.API.STREAM.{call}.{stream}"), body)
            .await
    }

    async fn ask(&self, subject: &str, body: &Value) -> Value {
        let admin = self.world.connect_breaker().await;
        let answer = admin
            .request(subject.to_owned(), body.to_string().into())
            .await
            .expect("an answer");

        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert!(answer["error"].is_null(), "{subject}: {answer}");
        answer
    }

    /// Writes the settings of a shard, of what connects where the bucket is, and the passwords.
    pub fn write_settings(&self, shard: &str, bucket_url: &str) {
        let world = &self.world;
        for user in USERS {
            let file = self.etc.join(format!("{user}.password"));
            write_private(&file, world.secrets.nats(user)).expect("written");
        }
        let settings = world.settings(shard);
        for (name, text) in [
            ("identity", &settings.keys.identity),
            ("encryption", &settings.keys.encryption),
            ("verdict-keys.json", &settings.auth.verdict_keys),
            ("token-keys.json", &settings.auth.token_keys),
            (&format!("shard-{shard}.postgres"), &settings.postgres.url),
        ] {
            write_private(&self.etc.join(name), text).expect("written");
        }

        let url = &settings.nats.url;
        let of_shard = self.toml(shard, url, &settings.truth.domain);
        let of_bucket = self.toml(shard, bucket_url, "");
        fs::write(self.etc.join(format!("shard-{shard}.toml")), of_shard).expect("written");
        fs::write(self.etc.join("bucket.toml"), of_bucket).expect("written");
    }

    fn toml(&self, shard: &str, url: &str, domain: &str) -> String {
        let etc = path(&self.etc);
        let replicas = self.world.truth.replicas;
        let users = ["front", "auth", "worker"].map(|user| {
            let role = if user == "worker" { "truth" } else { user };
            let prefix = inbox_prefix(user);
            format!(
                "[nats.{role}]\nuser = \"{user}\"\npassword_file = \"{etc}/{user}.password\"\n\
                 inbox_prefix = \"{prefix}\"\n"
            )
        });

        format!(
            "[shard]\nid = \"{shard}\"\n\n\
             [nats]\nurl = \"{url}\"\n\n{}\n\
             [limits]\nrate_per_s = 0\n\n\
             [truth]\ndomain = \"{domain}\"\nreplicas = {replicas}\n\n\
             [postgres]\nurl_file = \"{etc}/shard-{shard}.postgres\"\nconnections = 4\n\n\
             [keys]\nidentity_file = \"{etc}/identity\"\nencryption_file = \"{etc}/encryption\"\n\n\
             [auth]\nissuer = \"{}\"\naudience = \"{}\"\n\
             verdict_keys_file = \"{etc}/verdict-keys.json\"\n\
             token_keys_file = \"{etc}/token-keys.json\"\n",
            users.join("\n"),
            gofavorites::dev::tokens::ISSUER,
            gofavorites::dev::tokens::AUDIENCE,
        )
    }
}

/// Returns a path as a text.
fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
