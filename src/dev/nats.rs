//! A NATS server that this process starts and stops, with the accounts of `nats/`.

use super::ports::is_free;
use super::process::{ChildProcess, end_recorded, record};
use super::role::{Role, TLS_CONF};
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
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running NATS server.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    directory: PathBuf,
    /// The name of its configuration file.
    configuration: &'static str,
    variables: Vec<(String, String)>,
    url: String,
    process: ChildProcess,
}

/// The file that the server writes when it listens.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl NatsServer {
    /// Starts a server with these accounts that keeps its state in `directory`, on the port `usual`
    /// if that is free.
    pub async fn start_with(
        program: &Path,
        directory: &Path,
        usual: Option<u16>,
        secrets: &Secrets,
        role: &Role,
        accounts: &str,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        end_recorded(&pid_file(directory))?;

        let (configuration, text) = role.configuration();
        for (name, text) in [
            (configuration, text),
            (role.accounts().0, accounts),
            ("tls.conf", TLS_CONF),
        ] {
            let file = directory.join(name);
            fs::write(&file, text).with_context(|| file.display().to_string())?;
        }
        let certificates = secrets.certificates.write(directory)?;

        let passwords = secrets
            .nats_variables()
            .map(|(name, value)| (name, value.to_owned()));
        let others = role
            .variables(secrets)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let files = [
            ("TLS_CA", certificates.authority),
            ("TLS_CERT", certificates.cert),
            ("TLS_KEY", certificates.key),
        ]
        .map(|(name, file)| (name.to_owned(), format!("{:?}", file.display().to_string())));
        let variables: Vec<_> = passwords.chain(others).chain(files).collect();

        let port = usual.filter(|port| is_free(*port));
        let process = spawn(program, directory, configuration, &variables, port)?;
        let mut server = Self {
            program: program.to_owned(),
            directory: directory.to_owned(),
            configuration,
            variables,
            url: String::new(),
            process,
        };
        if let Err(error) = server.wait_until_listening().await {
            if port.is_none() {
                return Err(error);
            }
            // Another process may have taken the port first.
            server.process = server.spawn(None)?;
            server.wait_until_listening().await?;
        }

        Ok(server)
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The server's process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }

    /// Starts the server again after it has ended, with the same state and on the same port.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let port = self
            .url
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("{} has no port", self.url))?;

        self.process = self.spawn(Some(port))?;
        self.wait_until_listening().await
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

    /// Stops the server gracefully; kills it if it takes too long.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGTERM, STOP_TIMEOUT).map(|_| ())
    }

    /// Waits for the file in which the server writes its address. A connection would not show which
    /// process answers.
    async fn wait_until_listening(&mut self) -> anyhow::Result<()> {
        let file = ports_file(&self.program, &self.directory, self.process.pid());
        let deadline = Instant::now() + START_TIMEOUT;

        while Instant::now() < deadline {
            if let Some(status) = self.process.ended() {
                bail!(
                    "nats-server ended with {status}:\n{}",
                    self.process.last_lines()
                );
            }

            // The file may be incomplete at this moment.
            if let Some(ports) = fs::read(&file)
                .ok()
                .and_then(|text| serde_json::from_slice::<Ports>(&text).ok())
            {
                self.url = ports
                    .nats
                    .into_iter()
                    .next()
                    .context("nats-server does not listen on any address")?;
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

/// Starts the program. Without a port, the server chooses a free one.
fn spawn(
    program: &Path,
    directory: &Path,
    configuration: &str,
    variables: &[(String, String)],
    port: Option<u16>,
) -> anyhow::Result<ChildProcess> {
    // A killed server leaves its ports file behind, and the next process may get the same id.
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

    // The directory distinguishes several servers: nats, or hub, leaf-a and so on.
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
