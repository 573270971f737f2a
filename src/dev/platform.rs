//! The whole platform: servers, stand-in auth service, and the workers of each shard, each a process of its own.

use super::auth_service::{REVOKED_SUBJECT, VERIFY_SUBJECT};
use super::fetch;
use super::nats::NatsServer;
use super::postgres::{PostgresOptions, PostgresServer};
use super::process::{Guarded, end_recorded, record};
use super::secrets::{Secrets, write_private};
use super::tokens::{ALL_SCOPES, AUDIENCE, ISSUER, token};
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a part may take to be ready, or to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the tokens in `dev.json` are good for.
const LONG: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// The people of the tour.
pub const PEOPLE: [&str; 2] = ["alice", "bob"];

/// What to start.
#[derive(Clone, Debug)]
pub struct PlatformOptions {
    /// Where `.servers/` is, or will be.
    pub home: PathBuf,
    /// Where the state is kept.
    pub state: PathBuf,
    /// Whether to throw away what an earlier run kept.
    pub fresh: bool,
    /// The program whose `serve`, `init` and `dev auth` are started.
    pub program: PathBuf,
    /// The shards' ids.
    pub shards: Vec<String>,
    /// Workers for each shard.
    pub workers: usize,
    /// Whether to take ports 4222 and 5432 where they are free.
    pub usual_ports: bool,
    /// Whether Postgres waits for the disk.
    pub fsync: bool,
}

/// A running platform. Dropping it ends every process of it.
pub struct Platform {
    options: PlatformOptions,
    secrets: Secrets,
    /// The workers of each shard, in the order of the options.
    workers: Vec<Vec<Guarded>>,
    auth: Guarded,
    nats: NatsServer,
    postgres: PostgresServer,
}

impl Platform {
    /// Starts all of it, and writes `dev.json` when it is ready. `progress` is told what is being done.
    pub async fn start(options: PlatformOptions, mut progress: impl FnMut(&str)) -> anyhow::Result<Self> {
        end_recorded(&options.state.join("pids"))?;
        if options.fresh && options.state.exists() {
            fs::remove_dir_all(&options.state)?;
        }
        fs::create_dir_all(options.state.join("log"))?;
        let options = PlatformOptions { state: std::path::absolute(&options.state)?, ..options };
        let secrets = Secrets::load(&options.state.join("secrets.json"))?;
        let servers = fetch::servers(&options.home, &mut progress)?;
        progress("starting nats-server");
        let usual = |port| options.usual_ports.then_some(port);
        let nats = NatsServer::start(&servers.nats_server, &options.state.join("nats"), usual(4222), &secrets).await?;
        progress("starting PostgreSQL");
        let postgres = PostgresServer::start(PostgresOptions {
            bin: servers.postgres_bin,
            data: options.state.join("postgres"),
            log: options.state.join("log/postgres.log"),
            password: secrets.postgres.clone(),
            usual_port: usual(5432),
            fsync: options.fsync,
        })
        .await?;
        progress("starting the stand-in auth service");
        let auth = spawn_auth(&options, &nats.url())?;
        let mut platform = Self { workers: Vec::new(), options, secrets, auth, nats, postgres };
        platform.note_servers()?;
        for shard in platform.options.shards.clone() {
            progress(&format!("shard {shard}: bucket and schema (init)"));
            platform.prepare(&shard)?;
            progress(&format!("shard {shard}: {} workers", platform.options.workers));
            let workers = (0..platform.options.workers).map(|i| platform.spawn_worker(&shard, i));
            let workers = workers.collect::<anyhow::Result<_>>()?;
            platform.workers.push(workers);
        }
        platform.wait_until_ready().await?;
        platform.write_description()?;
        Ok(platform)
    }

    /// Where NATS is.
    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// The platform's secrets.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The NATS server.
    pub fn nats(&mut self) -> &mut NatsServer {
        &mut self.nats
    }

    /// The Postgres server.
    pub fn postgres(&mut self) -> &mut PostgresServer {
        &mut self.postgres
    }

    /// The stand-in auth service.
    pub fn auth(&mut self) -> &mut Guarded {
        &mut self.auth
    }

    /// The workers of each shard.
    pub fn workers(&mut self) -> &mut [Vec<Guarded>] {
        &mut self.workers
    }

    /// Starts the stand-in auth service again, after it has ended.
    pub fn restart_auth(&mut self) -> anyhow::Result<()> {
        self.auth = spawn_auth(&self.options, &self.nats.url())?;
        self.note(&self.auth)
    }

    /// Starts a worker again, after it has ended, and waits until it is ready.
    pub async fn restart_worker(&mut self, shard: usize, worker: usize) -> anyhow::Result<()> {
        let id = self.options.shards[shard].clone();
        self.workers[shard][worker] = self.spawn_worker(&id, worker)?;
        self.wait_until_ready().await
    }

    /// Tells of processes that have ended by themselves, each once.
    pub fn newly_ended(&mut self, told: &mut Vec<u32>) -> Vec<String> {
        let servers = [self.nats.process(), self.postgres.process(), &mut self.auth];
        let all = servers.into_iter().chain(self.workers.iter_mut().flatten());
        let mut ended = Vec::new();
        for process in all {
            if let Some(status) = process.ended().filter(|_| !told.contains(&process.pid())) {
                told.push(process.pid());
                ended.push(format!("{} has ended with {status}; see {}", process.name(), process.log().display()));
            }
        }
        ended
    }

    /// Stops all of it in order. Fails if a worker did not end as it should.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let mut unclean = Vec::new();
        for worker in self.workers.iter().flatten() {
            // All at once; each is waited for below.
            let _ = worker.signal(Signal::SIGTERM);
        }
        for worker in self.workers.iter_mut().flatten() {
            let gone = worker.ended().is_some();
            let status = worker.stop(Signal::SIGTERM, PATIENCE)?;
            if !status.success() && !gone {
                unclean.push(format!("{} ended with {status}", worker.name()));
            }
        }
        self.auth.stop(Signal::SIGTERM, PATIENCE)?;
        self.postgres.stop()?;
        self.nats.stop()?;
        fs::remove_file(self.options.state.join("pids"))?;
        if unclean.is_empty() { Ok(()) } else { bail!(unclean.join("\n")) }
    }

    fn note(&self, process: &Guarded) -> anyhow::Result<()> {
        record(&self.options.state.join("pids"), process, &self.options.state)
    }

    fn note_servers(&mut self) -> anyhow::Result<()> {
        let (pids, state) = (self.options.state.join("pids"), self.options.state.clone());
        record(&pids, self.nats.process(), &state)?;
        let data = fs::canonicalize(state.join("postgres"))?;
        record(&pids, self.postgres.process(), &data)?;
        record(&pids, &self.auth, &state)
    }

    /// Makes the shard's database, its settings, and what `init` makes.
    fn prepare(&self, shard: &str) -> anyhow::Result<()> {
        self.postgres.create_database(&format!("shard_{shard}"))?;
        let settings = self.settings(shard, "init", "_INBOX_init", Path::new(""))?;
        let made = Command::new(&self.options.program).arg("init").arg("--config").arg(&settings).output()?;
        if !made.status.success() {
            bail!("init failed: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        Ok(())
    }

    fn ready_file(&self, shard: &str, worker: usize) -> PathBuf {
        self.options.state.join(format!("worker-{shard}-{worker}.ready"))
    }

    fn spawn_worker(&self, shard: &str, worker: usize) -> anyhow::Result<Guarded> {
        let ready = self.ready_file(shard, worker);
        if ready.exists() {
            fs::remove_file(&ready)?;
        }
        let name = format!("worker-{shard}-{worker}");
        let settings = self.settings(shard, "worker", "_INBOX_worker", &ready)?;
        let log = self.options.state.join("log").join(format!("{name}.log"));
        let mut command = Command::new(&self.options.program);
        command.arg("serve").arg("--config").arg(settings);
        let process = Guarded::spawn(&name, &mut command, &log)?;
        self.note(&process)?;
        Ok(process)
    }

    /// Writes the settings of a worker, or of `init`, which has its own user; gives the file.
    fn settings(&self, shard: &str, user: &str, inbox: &str, ready: &Path) -> anyhow::Result<PathBuf> {
        // A TOML basic string is written as a JSON one.
        let text = |value: &str| Value::from(value).to_string();
        let sections = [
            (
                "nats",
                vec![
                    ("url", text(&self.nats.url())),
                    ("user", text(user)),
                    ("password", text(self.secrets.nats(user))),
                    ("inbox_prefix", text(inbox)),
                ],
            ),
            ("worker", vec![("ready_file", text(&ready.display().to_string()))]),
            ("shard", vec![("id", text(shard))]),
            ("postgres", vec![("url", text(&self.postgres.url(&format!("shard_{shard}"))))]),
            ("keys", vec![("identity", text(&self.secrets.identity)), ("encryption", text(&self.secrets.encryption))]),
            (
                "auth",
                vec![
                    ("verify_subject", text(VERIFY_SUBJECT)),
                    ("issuer", text(ISSUER)),
                    ("audience", text(AUDIENCE)),
                    ("verdict_keys", text(&self.secrets.verdict_jwks()?)),
                    ("token_keys", text(&self.secrets.token_jwks()?)),
                ],
            ),
        ];
        let mut toml = String::new();
        for (section, fields) in sections {
            toml.push_str(&format!("[{section}]\n"));
            for (field, value) in fields {
                toml.push_str(&format!("{field} = {value}\n"));
            }
        }
        let ready = ready.file_stem().map_or_else(|| user.to_owned(), |stem| stem.to_string_lossy().into_owned());
        let file = self.options.state.join(format!("{ready}-{shard}.toml"));
        write_private(&file, &toml)?;
        Ok(file)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        for shard in 0..self.workers.len() {
            for worker in 0..self.workers[shard].len() {
                let ready = self.ready_file(&self.options.shards[shard], worker);
                let process = &mut self.workers[shard][worker];
                while !ready.exists() && process.ended().is_none() {
                    if Instant::now() > until {
                        bail!("{} is not ready in time:\n{}", process.name(), process.last_lines());
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if !ready.exists() {
                    bail!("{} did not start:\n{}", process.name(), process.last_lines());
                }
            }
        }
        Ok(())
    }

    /// Writes `dev.json`, and for the command line a file of variables for each of the people.
    fn write_description(&mut self) -> anyhow::Result<()> {
        let user = |name: &str| json!({"user": name, "password": self.secrets.nats(name)});
        let tokens = PEOPLE.map(|name| token(&self.secrets, name, ALL_SCOPES, LONG));
        let [alice, bob] = tokens;
        let (alice, bob) = (alice?, bob?);
        let shards: Vec<Value> = std::iter::zip(&self.options.shards, &self.workers)
            .map(|(id, workers)| {
                let workers: Vec<Value> = workers.iter().map(|worker| json!({"pid": worker.pid()})).collect();
                json!({"id": id, "postgres_url": self.postgres.url(&format!("shard_{id}")), "workers": workers})
            })
            .collect();
        let description = json!({
            "nats_url": self.nats.url(),
            "users": {
                "gateway": user("gateway"), "gateway2": user("gateway2"),
                "auth": user("auth"), "operator": user("operator"),
            },
            "shards": shards,
            "tokens": {"alice": alice, "bob": bob},
            "auth": {"verify_subject": VERIFY_SUBJECT, "revoked_subject": REVOKED_SUBJECT},
            "servers": {
                "nats": {"pid": self.nats.process().pid()},
                "postgres": {"pid": self.postgres.process().pid()},
                "auth": {"pid": self.auth.pid()},
            },
        });
        for (name, token) in std::iter::zip(PEOPLE, [alice, bob]) {
            let variables = format!(
                "export GOFAVORITES_URL={}\nexport GOFAVORITES_USER=gateway\nexport GOFAVORITES_PASSWORD={}\n\
                 export GOFAVORITES_TOKEN={token}\n",
                self.nats.url(),
                self.secrets.nats("gateway"),
            );
            write_private(&self.options.state.join(format!("{name}.env")), &variables)?;
        }
        write_private(&self.options.state.join("dev.json"), &serde_json::to_string_pretty(&description)?)
    }
}

fn spawn_auth(options: &PlatformOptions, url: &str) -> anyhow::Result<Guarded> {
    let mut command = Command::new(&options.program);
    command.args(["dev", "auth", "--url", url, "--state"]).arg(&options.state);
    Guarded::spawn("auth", &mut command, &options.state.join("log/auth.log")).context("the stand-in auth service")
}
