//! The whole platform: servers, stand-in auth service, and the workers of each shard, each a process of its own.

use super::description::{PlatformDescription, Shard, withdraw};
use super::fetch;
use super::nats::NatsServer;
use super::network::{Network, Topology};
use super::postgres::{PostgresOptions, PostgresServer};
use super::process::{ChildProcess, end_recorded, record};
use super::secrets::{Secrets, write_private};
use super::settings;
use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a part may take to be ready, or to stop.
const PATIENCE: Duration = Duration::from_secs(30);
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
    /// How the NATS servers hang together. What was kept under one is not seen under another.
    pub topology: Topology,
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
    workers: Vec<Vec<ChildProcess>>,
    auth: ChildProcess,
    /// Runs once the bucket is there.
    maintain: Option<ChildProcess>,
    network: Network,
    postgres: PostgresServer,
    /// Held as long as this platform is there: another one on the same state would end its processes.
    _lock: Flock<File>,
}

impl Platform {
    /// Starts all of it, and writes `dev.json` when it is ready. `progress` is told what is being done.
    pub async fn start(
        options: PlatformOptions,
        mut progress: impl FnMut(&str),
    ) -> anyhow::Result<Self> {
        let options = PlatformOptions {
            state: std::path::absolute(&options.state)?,
            ..options
        };
        let lock = take_over(&options)?;
        let secrets = Secrets::load(&options.state.join("secrets.json"))?;
        let servers = fetch::servers(&options.home, &mut progress)?;
        progress("starting nats-server");
        let usual = |port| options.usual_ports.then_some(port);
        let (program, place) = (
            &servers.nats_server,
            place(&options.state, options.topology),
        );
        fs::create_dir_all(&place)?;
        let network = Network::start(
            program,
            &place,
            options.topology,
            &options.shards,
            usual(4222),
            &secrets,
        )
        .await?;
        progress("starting PostgreSQL");
        let postgres = PostgresServer::start(PostgresOptions {
            bin: servers.postgres_bin,
            data: place.join("postgres"),
            log: options.state.join("log/postgres.log"),
            password: secrets.postgres.clone(),
            usual_port: usual(5432),
            fsync: options.fsync,
        })
        .await?;
        progress("starting the stand-in auth service");
        let auth = spawn_auth(&options, &network.auth_url())?;
        let mut platform = Self {
            workers: Vec::new(),
            options,
            secrets,
            auth,
            maintain: None,
            network,
            postgres,
            _lock: lock,
        };
        for shard in platform.options.shards.clone() {
            progress(&format!("shard {shard}: bucket and schema (init)"));
            platform.prepare(&shard)?;
            progress(&format!(
                "shard {shard}: {} workers",
                platform.options.workers
            ));
            let workers = (0..platform.options.workers).map(|i| platform.spawn_worker(&shard, i));
            let workers = workers.collect::<anyhow::Result<_>>()?;
            platform.workers.push(workers);
        }
        platform.maintain = Some(platform.spawn_maintain()?);
        platform.wait_until_ready().await?;
        platform.describe()?;
        Ok(platform)
    }

    /// Where NATS is: at the first shard.
    pub fn nats_url(&self) -> String {
        self.network.url(0)
    }

    /// The shards whose callers connect elsewhere than those of the first, and where.
    pub fn other_leaves(&self) -> Vec<(&str, String)> {
        let all = self
            .options
            .shards
            .iter()
            .enumerate()
            .map(|(number, id)| (id.as_str(), self.network.url(number)));
        all.filter(|(_, url)| *url != self.nats_url()).collect()
    }

    /// The platform's secrets.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The NATS server, or the first shard's.
    pub fn nats(&mut self) -> &mut NatsServer {
        self.network.server(0)
    }

    /// The Postgres server.
    pub fn postgres(&mut self) -> &mut PostgresServer {
        &mut self.postgres
    }

    /// The stand-in auth service.
    pub fn auth(&mut self) -> &mut ChildProcess {
        &mut self.auth
    }

    /// The workers of each shard.
    pub fn workers(&mut self) -> &mut [Vec<ChildProcess>] {
        &mut self.workers
    }

    /// Starts the NATS server again, after it has ended, on its port.
    pub async fn restart_nats(&mut self) -> anyhow::Result<()> {
        self.nats().restart().await?;
        self.describe()
    }

    /// Starts Postgres again, after it has ended, on its port.
    pub async fn restart_postgres(&mut self) -> anyhow::Result<()> {
        self.postgres.restart().await?;
        self.describe()
    }

    /// Starts the stand-in auth service again, after it has ended.
    pub fn restart_auth(&mut self) -> anyhow::Result<()> {
        self.auth = spawn_auth(&self.options, &self.network.auth_url())?;
        self.describe()
    }

    /// Ends a worker at once, as a crash would. Both are counted from 0.
    pub fn kill_worker(&mut self, shard: usize, worker: usize) -> anyhow::Result<()> {
        self.workers
            .get_mut(shard)
            .and_then(|workers| workers.get_mut(worker))
            .context("no such worker")?
            .kill9()
    }

    /// Starts a worker again, after it has ended, and waits until it is ready.
    pub async fn restart_worker(&mut self, shard: usize, worker: usize) -> anyhow::Result<()> {
        let id = self.options.shards[shard].clone();
        self.workers[shard][worker] = self.spawn_worker(&id, worker)?;
        self.wait_until_ready().await?;
        self.describe()
    }

    /// Starts `maintain` again, after it has ended.
    pub(super) fn restart_maintain(&mut self) -> anyhow::Result<()> {
        self.maintain = Some(self.spawn_maintain()?);
        self.describe()
    }

    /// Starts the NATS server of that name again, after it has ended.
    pub(super) async fn restart_server(&mut self, name: &str) -> anyhow::Result<()> {
        self.network
            .named(name)
            .with_context(|| format!("there is no {name}"))?
            .restart()
            .await?;
        self.describe()
    }

    /// Shard and number of the worker of that name.
    pub(super) fn worker_named(&self, name: &str) -> Option<(usize, usize)> {
        let mut shards = self.workers.iter().enumerate();
        shards.find_map(|(shard, workers)| {
            Some((shard, workers.iter().position(|one| one.name() == name)?))
        })
    }

    /// What each process is called.
    pub(super) fn names(&mut self) -> Vec<String> {
        self.all()
            .map(|process| process.name().to_owned())
            .collect()
    }

    /// The process of that name.
    pub(super) fn process(&mut self, name: &str) -> Option<&mut ChildProcess> {
        self.all().find(|process| process.name() == name)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut ChildProcess> {
        let servers = self
            .network
            .processes()
            .chain([self.postgres.process(), &mut self.auth]);
        servers
            .chain(self.workers.iter_mut().flatten())
            .chain(&mut self.maintain)
    }

    /// Tells of processes that have ended by themselves, each once, and how to start them again.
    pub fn newly_ended(&mut self, told: &mut Vec<u32>) -> Vec<String> {
        let again = format!(
            "{} dev --state {} restart",
            self.options.program.display(),
            self.options.state.display()
        );
        let mut ended = Vec::new();
        for process in self.all() {
            if let Some(status) = process.ended().filter(|_| !told.contains(&process.pid())) {
                told.push(process.pid());
                let (name, log) = (process.name(), process.log().display());
                ended.push(format!(
                    "{name} has ended with {status}; see {log}. To start it again: {again} {name}"
                ));
            }
        }
        ended
    }

    /// Stops all of it in order. Fails if a worker did not end as it should.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let mut unclean = Vec::new();
        // Nobody is to find a platform that is going away.
        withdraw(&self.options.state)?;
        for worker in self.workers.iter_mut().flatten() {
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
        if let Some(maintain) = &mut self.maintain {
            maintain.stop(Signal::SIGTERM, PATIENCE)?;
        }
        self.auth.stop(Signal::SIGTERM, PATIENCE)?;
        self.postgres.stop()?;
        self.network.stop()?;
        fs::remove_file(pids(&self.options))?;
        if unclean.is_empty() {
            Ok(())
        } else {
            bail!(unclean.join("\n"))
        }
    }

    /// Makes the shard's database, its settings, and what `init` makes.
    fn prepare(&self, shard: &str) -> anyhow::Result<()> {
        self.postgres.create_database(&database(shard))?;
        let settings = self.settings(shard, &format!("init-{shard}"), "init", Path::new(""))?;
        let made = Command::new(&self.options.program)
            .arg("init")
            .arg("--config")
            .arg(&settings)
            .output()?;
        if !made.status.success() {
            bail!(
                "init failed: {}",
                String::from_utf8_lossy(&made.stderr).trim()
            );
        }
        Ok(())
    }

    fn ready_file(&self, shard: &str, worker: usize) -> PathBuf {
        self.options
            .state
            .join(format!("worker-{shard}-{worker}.ready"))
    }

    fn spawn_worker(&self, shard: &str, worker: usize) -> anyhow::Result<ChildProcess> {
        let ready = self.ready_file(shard, worker);
        if ready.exists() {
            fs::remove_file(&ready)?;
        }
        let name = format!("worker-{shard}-{worker}");
        let settings = self.settings(shard, &name, "worker", &ready)?;
        let log = self.options.state.join("log").join(format!("{name}.log"));
        let mut command = Command::new(&self.options.program);
        command.arg("serve").arg("--config").arg(settings);
        let process = ChildProcess::spawn(&name, &mut command, &log)?;
        note(&self.options, &process)?;
        Ok(process)
    }

    /// Where the bucket is, and not behind a leaf: a leaf's link has no right to purge.
    fn spawn_maintain(&self) -> anyhow::Result<ChildProcess> {
        let shard = self.options.shards.first().context("no shard")?;
        let settings = self.settings_at(
            shard,
            "maintain",
            "maintain",
            Path::new(""),
            (self.network.auth_url(), ""),
        )?;
        let mut command = Command::new(&self.options.program);
        command.arg("maintain").arg("--config").arg(settings);
        let process = ChildProcess::spawn(
            "maintain",
            &mut command,
            &self.options.state.join("log/maintain.log"),
        )?;
        note(&self.options, &process)?;
        Ok(process)
    }

    /// Writes the settings of a worker, or of `init`, which has its own user; gives the file.
    fn settings(
        &self,
        shard: &str,
        name: &str,
        user: &str,
        ready_file: &Path,
    ) -> anyhow::Result<PathBuf> {
        let number = self
            .options
            .shards
            .iter()
            .position(|one| one == shard)
            .unwrap_or_default();
        self.settings_at(
            shard,
            name,
            user,
            ready_file,
            (self.network.url(number), self.network.domain()),
        )
    }

    /// As [`settings`](Self::settings), of who connects there and reaches the bucket in that domain.
    fn settings_at(
        &self,
        shard: &str,
        name: &str,
        user: &str,
        ready_file: &Path,
        (nats_url, domain): (String, &str),
    ) -> anyhow::Result<PathBuf> {
        let postgres_url = self.postgres.url(&database(shard));
        let whose = settings::SettingsFor {
            shard,
            user,
            ready_file,
            nats_url: &nats_url,
            domain,
            postgres_url: &postgres_url,
        };
        let file = self.options.state.join(format!("{name}.toml"));
        write_private(&file, &whose.to_toml(&self.secrets)?)?;
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
                        bail!(
                            "{} is not ready in time:\n{}",
                            process.name(),
                            process.last_lines()
                        );
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if !ready.exists() {
                    bail!(
                        "{} did not start:\n{}",
                        process.name(),
                        process.last_lines()
                    );
                }
            }
        }
        Ok(())
    }

    /// Writes what `dev.json` says, as it is now.
    fn describe(&mut self) -> anyhow::Result<()> {
        let mut shards = Vec::new();
        for (number, (id, workers)) in
            std::iter::zip(&self.options.shards, &self.workers).enumerate()
        {
            shards.push(Shard {
                id,
                postgres_url: self.postgres.url(&database(id)),
                nats_url: self.network.url(number),
                nats: self.network.server(number).process().pid(),
                workers: workers.iter().map(ChildProcess::pid).collect(),
            });
        }
        let hub = self
            .network
            .hub()
            .map(|hub| (hub.url(), hub.process().pid()));
        let (topology, auth) = (self.options.topology, self.auth.pid());
        let (nats, postgres) = (
            self.network.server(0).process().pid(),
            self.postgres.process().pid(),
        );
        let nats_url = self.network.url(0);
        let maintain = self.maintain.as_ref().map(ChildProcess::pid);
        PlatformDescription {
            topology,
            nats_url,
            nats,
            hub,
            postgres,
            auth,
            maintain,
            shards,
        }
        .write(&self.options.state, &self.secrets)
    }
}

/// Makes the state ready for a new platform: nobody else uses it, and nothing of an earlier one runs.
fn take_over(options: &PlatformOptions) -> anyhow::Result<Flock<File>> {
    let state = &options.state;
    fs::create_dir_all(state).with_context(|| format!("{} cannot be made", state.display()))?;
    let kept = fs::metadata(state.join("secrets.json"));
    if kept.is_ok_and(|kept| kept.uid() != Uid::effective().as_raw()) {
        bail!(
            "{} was made by another user: run as that user, or give --state",
            state.display()
        );
    }
    let lock = File::create(state.join("lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| {
        anyhow::anyhow!(
            "another `dev` runs on {}: stop it, or give --state",
            state.display()
        )
    })?;
    withdraw(state)?;
    end_recorded(&pids(options))?;
    for topology in [Topology::Single, Topology::Leaf] {
        end_servers(&place(state, topology))?;
    }
    if options.fresh {
        empty(state)?;
    }
    fs::create_dir_all(state.join("log"))?;
    Ok(lock)
}

/// Where what is kept under a topology is. The other one's bucket and rows tell of other writes.
fn place(state: &Path, topology: Topology) -> PathBuf {
    match topology {
        Topology::Single => state.to_owned(),
        Topology::Leaf => state.join(topology.name()),
    }
}

/// Ends the servers of an earlier run that keep their state there.
fn end_servers(place: &Path) -> anyhow::Result<()> {
    end_recorded(&place.join("postgres.pid"))?;
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        end_recorded(&entry.path().join("pid"))?;
    }
    Ok(())
}

/// Removes all that an earlier run kept, but not what is no state of ours: `--state` may be a mistake.
fn empty(state: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(state)?.collect::<Result<Vec<_>, _>>()?;
    let others = entries.iter().filter(|entry| entry.file_name() != "lock");
    if others.clone().next().is_some() && !state.join("secrets.json").exists() {
        bail!(
            "{} holds something, and no state of a development platform: it is not emptied",
            state.display()
        );
    }
    for entry in others {
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(())
}

fn pids(options: &PlatformOptions) -> PathBuf {
    options.state.join("pids")
}

fn database(shard: &str) -> String {
    format!("shard_{shard}")
}

fn note(options: &PlatformOptions, process: &ChildProcess) -> anyhow::Result<()> {
    record(&pids(options), process, &options.state)
}

fn spawn_auth(options: &PlatformOptions, url: &str) -> anyhow::Result<ChildProcess> {
    let mut command = Command::new(&options.program);
    command
        .args(["dev", "auth", "--url", url, "--state"])
        .arg(&options.state);
    let auth = ChildProcess::spawn("auth", &mut command, &options.state.join("log/auth.log"))?;
    note(options, &auth)?;
    Ok(auth)
}
