//! A NATS server of our own, with the accounts of `nats/`.

use super::ports::is_free;
use super::process::{Guarded, end_recorded, record};
use super::secrets::Secrets;
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The configuration as it is in `nats/`.
const SERVER_CONF: &str = include_str!("../../nats/server.conf");
/// The accounts and permissions as they are in `nats/`.
pub const ACCOUNTS_CONF: &str = include_str!("../../nats/accounts.conf");
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running NATS server.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    directory: PathBuf,
    variables: Vec<(String, String)>,
    url: String,
    process: Guarded,
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
    ) -> anyhow::Result<Self> {
        Self::start_with(program, directory, usual, secrets, ACCOUNTS_CONF).await
    }

    /// As [`start`](Self::start), with other accounts than those of `nats/`.
    pub async fn start_with(
        program: &Path,
        directory: &Path,
        usual: Option<u16>,
        secrets: &Secrets,
        accounts: &str,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        end_recorded(&pid_file(directory))?;
        fs::write(directory.join("server.conf"), SERVER_CONF)?;
        fs::write(directory.join("accounts.conf"), accounts)?;
        let variables: Vec<_> = secrets.nats_variables().map(|(name, value)| (name, value.to_owned())).collect();
        let port = usual.filter(|port| is_free(*port));
        let process = spawn(program, directory, &variables, port)?;
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let mut server = Self { program, directory, variables, url: String::new(), process };
        if let Err(fault) = server.listens().await {
            if port.is_none() {
                return Err(fault);
            }
            // Another may have been quicker to take the port.
            server.process = spawn(&server.program, &server.directory, &server.variables, None)?;
            server.listens().await?;
        }
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Guarded {
        &mut self.process
    }

    /// Starts it again, with its state and on its port, after it has ended.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("{} has no port", self.url))?;
        self.process = spawn(&self.program, &self.directory, &self.variables, Some(port))?;
        self.listens().await
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
                bail!("nats-server ended with {status}:\n{}", self.process.last_lines());
            }
            // It may be read half written.
            if let Some(ports) = fs::read(&said).ok().and_then(|text| serde_json::from_slice::<Ports>(&text).ok()) {
                self.url = ports.nats.into_iter().next().context("nats-server listens nowhere")?;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("nats-server does not listen:\n{}", self.process.last_lines())
    }
}

/// Without a port the server takes any that is free.
fn spawn(
    program: &Path,
    directory: &Path,
    variables: &[(String, String)],
    port: Option<u16>,
) -> anyhow::Result<Guarded> {
    // One that was killed leaves its file, and another process may get its id.
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ports") {
            fs::remove_file(path)?;
        }
    }
    let store = directory.join("store");
    let mut command = Command::new(program);
    command.arg("-c").arg(directory.join("server.conf")).arg("-sd").arg(&store);
    command.args(["-a", "127.0.0.1", "-p", &port.map_or_else(|| "-1".to_owned(), |port| port.to_string())]);
    command.arg("--ports_file_dir").arg(directory);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let process = Guarded::spawn("nats-server", &mut command, &directory.join("nats.log")).context("NATS")?;
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
