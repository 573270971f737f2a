//! The whole platform: servers, stand-in auth service, and the workers of each shard. Each is a
//! process of its own.

use super::description::{PlatformDescription, Process, Shard, withdraw};
use super::fetch;
use super::nats::NatsServer;
use super::network::{Network, Topology};
use super::ports::{USUAL_NATS_PORT, USUAL_POSTGRES_PORT};
use super::postgres::{PostgresOptions, PostgresServer};
use super::process::{ChildProcess, end_recorded, record};
use super::reference_service::REFERENCE_SUBJECT;
use super::secrets::{Secrets, write_private};
use super::settings;
use super::state::{SECRETS_FILE, lock_state};
use anyhow::{Context as _, bail};
use nix::fcntl::Flock;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the workers may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a process may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Clone, Debug)]
pub struct PlatformOptions {
    /// The directory from which servers in a `.servers/` are looked for, upwards.
    pub home: PathBuf,
    /// The directory of the platform's state.
    pub state: PathBuf,
    /// Whether to remove the state of an earlier run first.
    pub fresh: bool,
    /// The program whose `serve`, `init`, `maintain`, `dev auth` and `dev reference` are started.
    pub program: PathBuf,
    /// How the NATS servers are connected. Each topology has data of its own.
    pub topology: Topology,
    /// Whether clients of the NATS servers have to use TLS.
    pub tls: bool,
    /// Whether to run the stand-in reference service, and to let the workers ask it.
    pub reference: bool,
    /// The ids of the shards.
    pub shards: Vec<String>,
    /// The number of workers for each shard.
    pub workers: usize,
    /// Whether to use ports 4222 and 5432 if they are free.
    pub usual_ports: bool,
    /// Whether Postgres waits for the disk.
    pub fsync: bool,
}

/// A running platform. Dropping it kills all of its processes.
pub struct Platform {
    options: PlatformOptions,
    secrets: Secrets,
    /// The workers of each shard, in the order of the options.
    workers: Vec<Vec<ChildProcess>>,
    auth: ChildProcess,
    /// None if the options want none.
    reference: Option<ChildProcess>,
    /// None until the bucket exists.
    maintain: Option<ChildProcess>,
    network: Network,
    postgres: PostgresServer,
    /// Held as long as this platform exists: another one on the same state would kill its
    /// processes.
    _lock: Flock<File>,
}

impl Platform {
    /// Starts all processes, and writes `dev.json` when they are ready. Calls `progress` before
    /// each step.
    pub async fn start(
        options: PlatformOptions,
        mut progress: impl FnMut(&str),
    ) -> anyhow::Result<Self> {
        let options = PlatformOptions {
            state: std::path::absolute(&options.state)?,
            ..options
        };
        let lock = take_over(&options, &mut progress)?;
        let secrets = Secrets::load(&options.state.join(SECRETS_FILE))?;
        let servers = fetch::servers(&options.home, &mut progress)?;

        write_ca_file(&options, &secrets)?;
        progress(&options.topology.start_step(&options.shards));
        let directory = data_directory(&options.state, options.topology);
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let network = Network::start(
            &servers.nats_server,
            &directory,
            options.topology,
            &options.shards,
            options.usual_ports.then_some(USUAL_NATS_PORT),
            (&secrets, options.tls),
        )
        .await?;

        progress("starting PostgreSQL");
        let postgres = PostgresServer::start(PostgresOptions {
            bin: servers.postgres_bin,
            data: directory.join("postgres"),
            log: options.state.join("log/postgres.log"),
            password: secrets.postgres.clone(),
            usual_port: options.usual_ports.then_some(USUAL_POSTGRES_PORT),
            fsync: options.fsync,
        })
        .await?;

        progress("starting the stand-in auth service");
        let auth = spawn_auth(&options, &network.auth_url())?;
        if options.reference {
            progress("starting the stand-in reference service");
        }
        let reference = spawn_reference(&options, &network.auth_url())?;

        let mut platform = Self {
            workers: Vec::new(),
            options,
            secrets,
            auth,
            reference,
            maintain: None,
            network,
            postgres,
            _lock: lock,
        };
        platform.start_program(&mut progress).await?;

        Ok(platform)
    }

    /// Starts what is not a server: the workers and `maintain`. Then writes `dev.json`.
    async fn start_program(&mut self, progress: &mut impl FnMut(&str)) -> anyhow::Result<()> {
        for shard in self.options.shards.clone() {
            self.start_shard(&shard, progress)?;
        }

        progress("starting maintain");
        self.maintain = Some(self.spawn_maintain()?);
        for user in ["backup", "restore"] {
            self.write_settings_at_hub(user)?;
        }

        progress("waiting until every worker is ready");
        self.wait_until_ready().await?;
        self.describe()
    }

    /// Initialises a shard and starts its workers.
    fn start_shard(&mut self, shard: &str, progress: &mut impl FnMut(&str)) -> anyhow::Result<()> {
        progress(&format!("shard {shard}: bucket and schema (init)"));
        self.init_shard(shard)?;

        progress(&format!(
            "shard {shard}: starting {} workers",
            self.options.workers
        ));
        let workers = (0..self.options.workers).map(|i| self.spawn_worker(shard, i));
        let workers = workers.collect::<anyhow::Result<_>>()?;
        self.workers.push(workers);

        Ok(())
    }

    /// The URL of the NATS server of the first shard.
    pub fn nats_url(&self) -> String {
        self.network.url(0)
    }

    /// The secrets of the platform.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The only NATS server, or that of the first shard.
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

    /// Starts the NATS server again after it has ended, on the same port.
    pub async fn restart_nats(&mut self) -> anyhow::Result<()> {
        self.nats().restart().await?;
        self.describe()
    }

    /// Starts Postgres again after it has ended, on the same port.
    pub async fn restart_postgres(&mut self) -> anyhow::Result<()> {
        self.postgres.restart().await?;
        self.describe()
    }

    /// Starts the stand-in auth service again after it has ended.
    pub fn restart_auth(&mut self) -> anyhow::Result<()> {
        self.auth = spawn_auth(&self.options, &self.network.auth_url())?;
        self.describe()
    }

    /// Starts the stand-in reference service again after it has ended.
    pub(super) fn restart_reference(&mut self) -> anyhow::Result<()> {
        self.reference = spawn_reference(&self.options, &self.network.auth_url())?;
        self.describe()
    }

    /// Kills a worker at once, as a crash would. Shards and workers are counted from 0.
    pub fn kill_worker(&mut self, shard: usize, worker: usize) -> anyhow::Result<()> {
        self.workers
            .get_mut(shard)
            .and_then(|workers| workers.get_mut(worker))
            .context("no such worker")?
            .kill9()
    }

    /// Starts a worker again after it has ended, and waits until it is ready.
    pub async fn restart_worker(&mut self, shard: usize, worker: usize) -> anyhow::Result<()> {
        let id = self.options.shards[shard].clone();
        self.workers[shard][worker] = self.spawn_worker(&id, worker)?;
        self.wait_until_ready().await?;
        self.describe()
    }

    /// Starts `maintain` again after it has ended.
    pub(super) fn restart_maintain(&mut self) -> anyhow::Result<()> {
        self.maintain = Some(self.spawn_maintain()?);
        self.describe()
    }

    /// Starts the NATS server with that name again after it has ended.
    pub(super) async fn restart_server(&mut self, name: &str) -> anyhow::Result<()> {
        self.network
            .named(name)
            .with_context(|| format!("there is no server {name}"))?
            .restart()
            .await?;
        self.describe()
    }

    /// Returns the shard and the number of the worker with that name.
    pub(super) fn find_worker(&self, name: &str) -> Option<(usize, usize)> {
        let mut shards = self.workers.iter().enumerate();

        shards.find_map(|(shard, workers)| {
            Some((shard, workers.iter().position(|one| one.name() == name)?))
        })
    }

    /// The names of all processes.
    pub(super) fn process_names(&mut self) -> Vec<String> {
        self.processes()
            .map(|process| process.name().to_owned())
            .collect()
    }

    /// Returns the process with that name.
    pub(super) fn find_process(&mut self, name: &str) -> Option<&mut ChildProcess> {
        self.processes().find(|process| process.name() == name)
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut ChildProcess> {
        let servers = self
            .network
            .processes()
            .chain([self.postgres.process(), &mut self.auth])
            .chain(&mut self.reference);

        servers
            .chain(self.workers.iter_mut().flatten())
            .chain(&mut self.maintain)
    }

    /// Returns a message for each process that has ended by itself, with the command to restart it.
    /// `reported` holds the ids of the processes that earlier calls reported.
    pub fn newly_ended(&mut self, reported: &mut Vec<u32>) -> Vec<String> {
        let restart = format!(
            "{} dev --state {} restart",
            self.options.program.display(),
            self.options.state.display()
        );
        let mut messages = Vec::new();

        for process in self.processes() {
            let status = process.ended();
            if let Some(status) = status.filter(|_| !reported.contains(&process.pid())) {
                reported.push(process.pid());
                let name = process.name();
                let log = process.log().display();
                messages.push(format!(
                    "{name} has ended with {status}; see {log}. To restart it: {restart} {name}"
                ));
            }
        }

        messages
    }

    /// Stops all processes gracefully. Fails if a worker did not exit with success.
    pub fn stop(mut self) -> anyhow::Result<()> {
        // First, so that no client finds a platform that is about to stop.
        withdraw(&self.options.state)?;

        // All workers stop at the same time; the next loop waits for each.
        for worker in self.workers.iter_mut().flatten() {
            let _ = worker.signal(Signal::SIGTERM);
        }
        let mut unclean = Vec::new();
        for worker in self.workers.iter_mut().flatten() {
            let ended_before = worker.ended().is_some();
            let status = worker.stop(Signal::SIGTERM, STOP_TIMEOUT)?;
            if !status.success() && !ended_before {
                unclean.push(format!("{} ended with {status}", worker.name()));
            }
        }

        if let Some(maintain) = &mut self.maintain {
            maintain.stop(Signal::SIGTERM, STOP_TIMEOUT)?;
        }
        if let Some(reference) = &mut self.reference {
            reference.stop(Signal::SIGTERM, STOP_TIMEOUT)?;
        }
        self.auth.stop(Signal::SIGTERM, STOP_TIMEOUT)?;
        self.postgres.stop()?;
        self.network.stop()?;
        let pids = pids_file(&self.options);
        fs::remove_file(&pids).with_context(|| pids.display().to_string())?;

        if unclean.is_empty() {
            Ok(())
        } else {
            bail!(unclean.join("\n"))
        }
    }

    /// Creates the shard's database and runs `init` for it.
    fn init_shard(&self, shard: &str) -> anyhow::Result<()> {
        self.postgres.create_database(&database_name(shard))?;
        let settings =
            self.write_settings(shard, &format!("init-{shard}"), "init", ("", Path::new("")))?;

        let output = Command::new(&self.options.program)
            .arg("init")
            .arg("--config")
            .arg(&settings)
            .output()?;
        if !output.status.success() {
            bail!(
                "init failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
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
            fs::remove_file(&ready).with_context(|| ready.display().to_string())?;
        }

        let name = format!("worker-{shard}-{worker}");
        let settings = self.write_settings(shard, &name, "worker", (&name, &ready))?;
        let log = self.options.state.join("log").join(format!("{name}.log"));

        let mut command = Command::new(&self.options.program);
        command.arg("serve").arg("--config").arg(settings);
        let process = ChildProcess::spawn(&name, &mut command, &log)?;
        record_process(&self.options, &process)?;

        Ok(process)
    }

    /// Writes the settings of a command for the whole bucket, whose NATS user has the same name.
    /// It connects to the server that holds the bucket, because the link of a leaf has no
    /// permission for it. Returns the file.
    fn write_settings_at_hub(&self, user: &str) -> anyhow::Result<PathBuf> {
        let shard = self.options.shards.first().context("no shard")?;
        let hub = (self.network.auth_url(), "");

        self.write_settings_for(shard, user, user, ("", Path::new("")), hub)
    }

    /// Starts `maintain`.
    fn spawn_maintain(&self) -> anyhow::Result<ChildProcess> {
        let settings = self.write_settings_at_hub("maintain")?;

        let mut command = Command::new(&self.options.program);
        command.arg("maintain").arg("--config").arg(settings);
        let process = ChildProcess::spawn(
            "maintain",
            &mut command,
            &self.options.state.join("log/maintain.log"),
        )?;
        record_process(&self.options, &process)?;

        Ok(process)
    }

    /// Writes the settings of a worker, or of `init`, which has a NATS user of its own. `worker` is
    /// the worker's id and the file that it writes when it is ready. Returns the file.
    fn write_settings(
        &self,
        shard: &str,
        name: &str,
        user: &str,
        worker: (&str, &Path),
    ) -> anyhow::Result<PathBuf> {
        let number = self
            .options
            .shards
            .iter()
            .position(|one| one == shard)
            .unwrap_or_default();

        self.write_settings_for(
            shard,
            name,
            user,
            worker,
            (self.network.url(number), self.network.domain()),
        )
    }

    /// Does the same as [`write_settings`](Self::write_settings) for a process that connects to
    /// that URL and finds the bucket in that JetStream domain.
    fn write_settings_for(
        &self,
        shard: &str,
        name: &str,
        user: &str,
        (worker_id, ready_file): (&str, &Path),
        (nats_url, domain): (String, &str),
    ) -> anyhow::Result<PathBuf> {
        let postgres_url = self.postgres.url(&database_name(shard));
        let ca_file = self.options.tls.then(|| ca_file(&self.options));
        let reference_subject = if self.options.reference {
            REFERENCE_SUBJECT
        } else {
            ""
        };
        let settings = settings::SettingsFor {
            shard,
            user,
            worker_id,
            ready_file,
            nats_url: &nats_url,
            ca_file: &ca_file.unwrap_or_default(),
            domain,
            postgres_url: &postgres_url,
            reference_subject,
        };

        let file = self.options.state.join(format!("{name}.toml"));
        write_private(&file, &settings.to_toml(&self.secrets)?)?;

        Ok(file)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;

        for shard in 0..self.workers.len() {
            for worker in 0..self.workers[shard].len() {
                let ready = self.ready_file(&self.options.shards[shard], worker);
                let process = &mut self.workers[shard][worker];

                while !ready.exists() && process.ended().is_none() {
                    if Instant::now() > deadline {
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

    /// Writes `dev.json` and the files beside it for the processes that run now.
    fn describe(&mut self) -> anyhow::Result<()> {
        let processes = self.describe_processes();
        let mut shards = Vec::new();
        for (number, (id, workers)) in
            std::iter::zip(&self.options.shards, &self.workers).enumerate()
        {
            shards.push(Shard {
                id,
                postgres_url: self.postgres.url(&database_name(id)),
                nats_url: self.network.url(number),
                nats: named(self.network.server(number).process()),
                workers: workers.iter().map(named).collect(),
            });
        }

        let hub = self
            .network
            .hub()
            .map(|hub| (hub.url(), Some(hub.process().pid())));
        PlatformDescription {
            topology: self.options.topology,
            pid: Some(std::process::id()),
            ca_file: self.options.tls.then(|| ca_file(&self.options)),
            nats_url: self.network.url(0),
            nats: Some(self.network.server(0).process().pid()),
            hub,
            postgres: Some(self.postgres.process().pid()),
            postgres_files: Some((self.postgres.psql(), self.postgres.data().to_owned())),
            auth: Some(self.auth.pid()),
            reference: self.reference.as_ref().map(ChildProcess::pid),
            maintain: self.maintain.as_ref().map(ChildProcess::pid),
            shards,
            processes,
        }
        .write(&self.options.state, &self.secrets)
    }

    fn describe_processes(&mut self) -> Vec<Process> {
        let mut processes: Vec<Process> = self
            .processes()
            .map(|process| Process {
                name: process.name().to_owned(),
                pid: process.pid(),
                address: None,
                log: process.log().to_owned(),
            })
            .collect();

        for process in &mut processes {
            process.address = match process.name.as_str() {
                "postgres" => Some(self.postgres.address()),
                name => self.network.named(name).map(|server| server.url()),
            };
        }

        processes
    }
}

fn named(process: &ChildProcess) -> (String, Option<u32>) {
    (process.name().to_owned(), Some(process.pid()))
}

/// Locks the state for a new platform, and kills the processes that an earlier one left. With
/// `fresh`, also removes the earlier state.
///
/// # Errors
///
/// Another user created the state, or another platform runs on it.
fn take_over(
    options: &PlatformOptions,
    progress: &mut impl FnMut(&str),
) -> anyhow::Result<Flock<File>> {
    let state = &options.state;
    fs::create_dir_all(state).with_context(|| format!("{} cannot be made", state.display()))?;
    let secrets = fs::metadata(state.join(SECRETS_FILE));
    if secrets.is_ok_and(|file| file.uid() != Uid::effective().as_raw()) {
        bail!(
            "{} was made by another user: run as that user, or give --state",
            state.display()
        );
    }

    let lock = lock_state(state)?;

    withdraw(state)?;
    end_recorded(&pids_file(options))?;
    for topology in [Topology::Single, Topology::Leaf] {
        end_servers(&data_directory(state, topology))?;
    }

    if options.fresh {
        clear(state, progress)?;
    }
    let log = state.join("log");
    fs::create_dir_all(&log).with_context(|| log.display().to_string())?;

    Ok(lock)
}

/// Returns the directory of the servers' data under a topology. Each topology has a bucket and rows
/// of its own.
fn data_directory(state: &Path, topology: Topology) -> PathBuf {
    match topology {
        Topology::Single => state.to_owned(),
        Topology::Leaf => state.join(topology.name()),
    }
}

/// Kills the servers of an earlier run that keep their data in that directory.
fn end_servers(directory: &Path) -> anyhow::Result<()> {
    end_recorded(&directory.join("postgres.pid"))?;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        end_recorded(&entry.path().join("pid"))?;
    }

    Ok(())
}

/// Removes the state of an earlier run. Refuses a directory that holds anything else, because
/// `--state` may be a mistake.
fn clear(state: &Path, progress: &mut impl FnMut(&str)) -> anyhow::Result<()> {
    let entries = fs::read_dir(state)
        .with_context(|| state.display().to_string())?
        .collect::<Result<Vec<_>, _>>()?;
    let others = entries.iter().filter(|entry| entry.file_name() != "lock");
    if others.clone().next().is_some() && !state.join(SECRETS_FILE).exists() {
        bail!(
            "{} is not empty and holds no state of a development platform: nothing was removed",
            state.display()
        );
    }

    let data = stored_data(state);
    if !data.is_empty() {
        progress(&format!(
            "throwing away {}, and all keys, passwords and tokens of {}: load alice.env again in \
             other terminals",
            data.join(", "),
            state.display()
        ));
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

/// Names the data that earlier runs left.
fn stored_data(state: &Path) -> Vec<&'static str> {
    let kinds = [
        (Topology::Single, "nats", "the data of the single server"),
        (Topology::Leaf, "hub", "the data of the hub with leaves"),
    ];

    kinds
        .into_iter()
        .filter(|(topology, server, _)| data_directory(state, *topology).join(server).exists())
        .map(|(_, _, name)| name)
        .collect()
}

/// Writes the file with which clients check the NATS servers' certificates, if they use TLS.
fn write_ca_file(options: &PlatformOptions, secrets: &Secrets) -> anyhow::Result<()> {
    if options.tls {
        let file = ca_file(options);
        fs::write(&file, &secrets.certificates.authority)
            .with_context(|| file.display().to_string())?;
    }

    Ok(())
}

/// The file of the authority that signed the NATS servers' certificates.
fn ca_file(options: &PlatformOptions) -> PathBuf {
    options.state.join("ca.pem")
}

fn pids_file(options: &PlatformOptions) -> PathBuf {
    options.state.join("pids")
}

/// The name of a shard's database.
pub(super) fn database_name(shard: &str) -> String {
    format!("shard_{shard}")
}

fn record_process(options: &PlatformOptions, process: &ChildProcess) -> anyhow::Result<()> {
    record(&pids_file(options), process, &options.state)
}

fn spawn_auth(options: &PlatformOptions, url: &str) -> anyhow::Result<ChildProcess> {
    spawn_service(options, "auth", url)
}

/// Starts the stand-in reference service, if the options want it.
fn spawn_reference(options: &PlatformOptions, url: &str) -> anyhow::Result<Option<ChildProcess>> {
    options
        .reference
        .then(|| spawn_service(options, "reference", url))
        .transpose()
}

/// Starts a stand-in service, `dev <name>`, which connects to that URL.
fn spawn_service(options: &PlatformOptions, name: &str, url: &str) -> anyhow::Result<ChildProcess> {
    let mut command = Command::new(&options.program);
    command
        .args(["dev", name, "--url", url, "--state"])
        .arg(&options.state);
    let log = options.state.join(format!("log/{name}.log"));
    let service = ChildProcess::spawn(name, &mut command, &log)?;
    record_process(options, &service)?;

    Ok(service)
}
