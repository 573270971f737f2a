//! A NATS server of our own, with the accounts of `nats/`.

use super::ports::is_free;
use super::process::{ChildProcess, end_recorded, record};
use super::role::Role;
use super::secrets::Secrets;
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use super::role::ACCOUNTS_CONF;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running NATS server.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    directory: PathBuf,
    /// The file of its configuration.
    configuration: &'static str,
    variables: Vec<(String, String)>,
    url: String,
    process: ChildProcess,
}

/// What the server writes about itself once it listens.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl NatsServer {
    /// Starts one that keeps its state in `directory`, on the port `usual` if that is free.
    pub async fn start(
        program: &Path,
        directory: &Path,
        usual: Option<u16>,
        secrets: &Secrets,
        role: &Role,
    ) -> anyhow::Result<Self> {
        Self::start_with(program, directory, usual, secrets, role, role.accounts().1).await
    }

    /// As [`start`](Self::start), with other accounts than those of `nats/`.
    pub async fn start_with(
        program: &Path,
        directory: &Path,
        usual: Option<u16>,
        secrets: &Secrets,
        role: &Role,
        accounts: &str,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        end_recorded(&pid_file(directory))?;
        let (configuration, text) = role.configuration();
        fs::write(directory.join(configuration), text)?;
        fs::write(directory.join(role.accounts().0), accounts)?;
        let passwords = secrets
            .nats_variables()
            .map(|(name, value)| (name, value.to_owned()));
        let others = role
            .variables(secrets)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let variables: Vec<_> = passwords.chain(others).collect();
        let port = usual.filter(|port| is_free(*port));
        let process = spawn(program, directory, configuration, &variables, port)?;
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let mut server = Self {
            program,
            directory,
            configuration,
            variables,
            url: String::new(),
            process,
        };
        if let Err(error) = server.listens().await {
            if port.is_none() {
                return Err(error);
            }
            // Another may have been quicker to take the port.
            server.process = server.spawn(None)?;
            server.listens().await?;
        }
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }

    /// Starts it again, with its state and on its port, after it has ended.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let port = self
            .url
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("{} has no port", self.url))?;
        self.process = self.spawn(Some(port))?;
        self.listens().await
    }

    fn spawn(&self, port: Option<u16>) -> anyhow::Result<ChildProcess> {
        spawn(
            &self.program,
            &self.directory,
            self.configuration,
            &self.variables,
            port,
        )
    }

    /// Stops it in order.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGTERM, PATIENCE).map(|_| ())
    }

    /// Waits for the file in which the server says where it listens: a connection would not tell who answers.
    async fn listens(&mut self) -> anyhow::Result<()> {
        let said = ports_file(&self.program, &self.directory, self.process.pid());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.process.ended() {
                bail!(
                    "nats-server ended with {status}:\n{}",
                    self.process.last_lines()
                );
            }
            // It may be read half written.
            if let Some(ports) = fs::read(&said)
                .ok()
                .and_then(|text| serde_json::from_slice::<Ports>(&text).ok())
            {
                self.url = ports
                    .nats
                    .into_iter()
                    .next()
                    .context("nats-server listens nowhere")?;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!(
            "nats-server does not listen:\n{}",
            self.process.last_lines()
        )
    }
}

/// Without a port the server takes any that is free.
fn spawn(
    program: &Path,
    directory: &Path,
    configuration: &str,
    variables: &[(String, String)],
    port: Option<u16>,
) -> anyhow::Result<ChildProcess> {
    // One that was killed leaves its file, and another process may get its id.
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "ports")
        {
            fs::remove_file(path)?;
        }
    }
    let store = directory.join("store");
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(directory.join(configuration))
        .arg("-sd")
        .arg(&store);
    command.args([
        "-a",
        "127.0.0.1",
        "-p",
        &port.map_or_else(|| "-1".to_owned(), |port| port.to_string()),
    ]);
    command.arg("--ports_file_dir").arg(directory);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    // Several of them are told apart by where they keep their state: nats; hub, leaf-a and the like.
    let name = directory
        .file_name()
        .map_or("nats".into(), |name| name.to_string_lossy());
    let process =
        ChildProcess::spawn(&name, &mut command, &directory.join("nats.log")).context("NATS")?;
    record(&pid_file(directory), &process, &store)?;
    Ok(process)
}

fn pid_file(directory: &Path) -> PathBuf {
    directory.join("pid")
}

fn ports_file(program: &Path, directory: &Path, pid: u32) -> PathBuf {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    directory.join(format!("{name}_{pid}.ports"))
}
