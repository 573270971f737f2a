//! A NATS server of our own, with the accounts of `nats/`.

use super::ports::free_port;
use super::process::Guarded;
use super::secrets::Secrets;
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

/// The configuration as it is in `nats/`.
const SERVER_CONF: &str = include_str!("../../nats/server.conf");
/// The accounts and permissions as they are in `nats/`.
pub const ACCOUNTS_CONF: &str = include_str!("../../nats/accounts.conf");
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running NATS server.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    directory: PathBuf,
    variables: Vec<(String, String)>,
    /// By which its greeting is told from another server's.
    name: String,
    port: u16,
    process: Guarded,
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
        fs::write(directory.join("server.conf"), SERVER_CONF)?;
        fs::write(directory.join("accounts.conf"), accounts)?;
        let variables: Vec<_> = secrets.nats_variables().map(|(name, value)| (name, value.to_owned())).collect();
        let port = free_port(usual)?;
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let name = format!("gofavorites-{}", uuid::Uuid::now_v7().simple());
        let process = spawn(&program, &directory, &variables, &name, port)?;
        let mut server = Self { program, directory, variables, name, port, process };
        if server.answers().await.is_err() {
            // Another may have been quicker to take the port.
            server.port = free_port(None)?;
            server.restart().await?;
        }
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Guarded {
        &mut self.process
    }

    /// Starts it again, with its state and on its port, after it has ended.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.program, &self.directory, &self.variables, &self.name, self.port)?;
        self.answers().await
    }

    /// Stops it in order.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGTERM, PATIENCE).map(|_| ())
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.process.ended() {
                bail!("nats-server ended with {status}:\n{}", self.process.last_lines());
            }
            if greets(self.port, &self.name).await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("nats-server does not answer:\n{}", self.process.last_lines())
    }
}

fn spawn(
    program: &Path,
    directory: &Path,
    variables: &[(String, String)],
    name: &str,
    port: u16,
) -> anyhow::Result<Guarded> {
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(directory.join("server.conf"))
        .arg("-sd")
        .arg(directory.join("store"))
        .args(["-n", name, "-a", "127.0.0.1", "-p", &port.to_string()])
        .envs(variables.iter().map(|(name, value)| (name, value)));
    Guarded::spawn("nats-server", &mut command, &directory.join("nats.log")).context("NATS")
}

/// A NATS server speaks first: `INFO {…}` on one line, its name in it.
async fn greets(port: u16, name: &str) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let mut greeting = String::new();
    let mut line = BufReader::new(stream).take(16_384);
    let read = tokio::time::timeout(Duration::from_secs(1), line.read_line(&mut greeting)).await;
    matches!(read, Ok(Ok(_))) && greeting.starts_with("INFO ") && greeting.contains(name)
}
