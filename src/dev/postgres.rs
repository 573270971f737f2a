//! A Postgres server that this process starts and stops.

use super::ports::free_port;
use super::postgres_user::{check_owner, data_directory, hand_over, program, programs_directory};
use super::process::{ChildProcess, end_recorded, record};
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The superuser of a development Postgres.
const SUPERUSER: &str = "gofavorites";
/// How long Postgres may take to start, including recovery after a crash.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long Postgres may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a failed start is retried.
///
/// The child processes of a killed server need a moment to notice that it is gone, and Postgres
/// does not start while they live. Another process may also take a free port first.
const RETRY_PERIOD: Duration = Duration::from_secs(10);

/// How to run Postgres.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The directory of Postgres's programs.
    pub bin: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// The file of its output.
    pub log: PathBuf,
    /// The superuser's password.
    pub password: String,
    /// The port to take if it is free.
    pub usual_port: Option<u16>,
    /// Whether Postgres waits for the disk. If not, a crash of the machine may lose data; a crash
    /// of the server does not.
    pub fsync: bool,
}

/// A running Postgres server.
#[derive(Debug)]
pub struct PostgresServer {
    options: PostgresOptions,
    bin: PathBuf,
    data: PathBuf,
    port: u16,
    process: ChildProcess,
}

impl PostgresServer {
    /// Starts a server, and creates its data if there is none. Ends the server that an earlier run
    /// left on the same data.
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        end_recorded(&pid_file(&options.data))?;

        let bin = programs_directory(&options.bin)?;
        let data = data_directory(&options.data)?;
        check_owner(&data)?;
        if !data.join("PG_VERSION").exists() {
            create_data(&bin, &data, &options)?;
        }

        let port = free_port(options.usual_port)?;
        let process = spawn(&options, &bin, &data, port)?;
        let mut server = Self {
            options,
            bin,
            data,
            port,
            process,
        };
        server.wait_until_ready(true).await?;

        Ok(server)
    }

    /// The URL for clients of a database.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}",
            self.options.password, self.port
        )
    }

    /// The address for clients.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The program `psql`.
    pub(super) fn psql(&self) -> PathBuf {
        self.bin.join("psql")
    }

    /// The directory of the data, which may be outside the state.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// The server's process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }

    /// Creates a database, unless it exists.
    pub fn create_database(&self, name: &str) -> anyhow::Result<()> {
        if self
            .query(
                "postgres",
                &format!("select 1 from pg_database where datname = '{name}'"),
            )?
            .is_empty()
        {
            self.query("postgres", &format!("create database \"{name}\""))?;
        }
        Ok(())
    }

    /// Executes a statement with `psql`. Returns one line for each row.
    pub fn query(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        let output = Command::new(self.psql())
            .args([
                "--no-psqlrc",
                "--tuples-only",
                "--no-align",
                "--quiet",
                "--command",
                statement,
            ])
            .arg(format!(
                "host=127.0.0.1 port={} user={SUPERUSER} dbname={database}",
                self.port
            ))
            .env("PGPASSWORD", &self.options.password)
            .output()
            .context("psql cannot be started")?;

        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
        }

        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Starts the server again after it has ended, with the same data and on the same port.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.options, &self.bin, &self.data, self.port)?;
        self.wait_until_ready(false).await
    }

    /// Stops the server gracefully: it disconnects its clients. Kills it if it takes too long.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGINT, STOP_TIMEOUT).map(|_| ())
    }

    /// Waits until the server accepts connections. If it ends instead, starts it again during
    /// `RETRY_PERIOD`; with `any_port`, each time on a newly chosen port.
    async fn wait_until_ready(&mut self, any_port: bool) -> anyhow::Result<()> {
        let start = Instant::now();

        while start.elapsed() < START_TIMEOUT {
            if let Some(status) = self.process.ended() {
                if start.elapsed() > RETRY_PERIOD {
                    bail!(
                        "Postgres ended with {status}:\n{}",
                        self.process.last_lines()
                    );
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                if any_port {
                    self.port = free_port(self.options.usual_port)?;
                }
                self.process = spawn(&self.options, &self.bin, &self.data, self.port)?;
            }

            if reports_ready(&self.data, self.process.pid()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        bail!(
            "Postgres is not ready in time:\n{}",
            self.process.last_lines()
        )
    }
}

/// Returns whether the process with that id reports itself ready.
///
/// Reads the file that `pg_ctl` reads too: the id is in the first line, the state in the eighth. A
/// connection would not show which process answers.
fn reports_ready(data: &Path, pid: u32) -> bool {
    let status = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = status.lines().map(str::trim);

    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}

fn pid_file(data: &Path) -> PathBuf {
    data.with_extension("pid")
}

fn spawn(
    options: &PostgresOptions,
    bin: &Path,
    data: &Path,
    port: u16,
) -> anyhow::Result<ChildProcess> {
    let mut command = program(bin, "postgres")?;
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);

    let fsync = if options.fsync {
        "fsync=on"
    } else {
        "fsync=off"
    };
    // 300 connections: all tests of a run share one server, each with pools of its own.
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=300",
        fsync,
    ] {
        command.args(["-c", setting]);
    }

    let process =
        ChildProcess::spawn("postgres", &mut command, &options.log).context("Postgres")?;
    record(&pid_file(&options.data), &process, data)?;

    Ok(process)
}

/// Creates the data in a directory beside `data` and renames it when it is complete, so that an
/// interrupted attempt is not taken for data.
fn create_data(bin: &Path, data: &Path, options: &PostgresOptions) -> anyhow::Result<()> {
    let unfinished = data.with_extension("unfinished");
    let password_file = data.with_extension("password");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    if password_file.exists() {
        fs::remove_file(&password_file)?;
    }

    fs::create_dir(&unfinished)
        .with_context(|| format!("{} cannot be made", unfinished.display()))?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o700))?;
    hand_over(&unfinished)?;

    fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&password_file)?
        .write_all(options.password.as_bytes())?;
    hand_over(&password_file)?;

    let mut initdb = initdb(bin, &unfinished, &password_file, options.fsync)?;
    let output = initdb.output();
    fs::remove_file(&password_file)?;
    let output = output.context("initdb cannot be started")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }

    if data.exists() {
        fs::remove_dir(data).with_context(|| format!("{} holds something else", data.display()))?;
    }
    fs::rename(&unfinished, data)?;

    Ok(())
}

fn initdb(bin: &Path, data: &Path, password_file: &Path, fsync: bool) -> anyhow::Result<Command> {
    let mut initdb = program(bin, "initdb")?;
    initdb
        .arg("-D")
        .arg(data)
        .args(["--username", SUPERUSER, "--auth=scram-sha-256"]);
    initdb
        .args(["--encoding=UTF8", "--locale=C"])
        .arg(format!("--pwfile={}", password_file.display()));
    if !fsync {
        initdb.arg("--no-sync");
    }

    Ok(initdb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_process_itself_reports_that_it_is_ready() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("postmaster.pid");
        let ready = "42\n/data\n1700000000\n5432\n\n127.0.0.1\n  123 0\nready   \n";
        assert!(!reports_ready(directory.path(), 42));

        fs::write(&file, ready).expect("written");
        assert!(reports_ready(directory.path(), 42));
        assert!(!reports_ready(directory.path(), 43));

        fs::write(&file, ready.replace("ready   ", "starting")).expect("written");
        assert!(!reports_ready(directory.path(), 42));
    }
}
