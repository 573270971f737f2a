//! A Postgres server of our own.

use super::ports::free_port;
use super::postgres_user::{data_place, give, own, program, programs_place};
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
/// How long it may take to start, recovery after a crash included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a start that fails is tried again: the children of one that was killed take a moment to see that it is gone,
/// and it does not start while they live; and a free port may be taken by somebody else first.
const AGAIN: Duration = Duration::from_secs(10);

/// How to run it.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The directory of its programs.
    pub bin: PathBuf,
    /// Where its data are kept.
    pub data: PathBuf,
    /// Where what it prints is kept.
    pub log: PathBuf,
    /// The superuser's password.
    pub password: String,
    /// The port to take if it is free.
    pub usual_port: Option<u16>,
    /// Whether it waits for the disk; without, a crash of the machine may lose data, a crash of the server does not.
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
    /// Starts one, its data made new where there are none. Ends the one that an earlier run left on the same data.
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        end_recorded(&pid_file(&options.data))?;
        let (bin, data) = (programs_place(&options.bin)?, data_place(&options.data)?);
        own(&data)?;
        if !data.join("PG_VERSION").exists() {
            make_data(&bin, &data, &options)?;
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
        server.become_ready(true).await?;
        Ok(server)
    }

    /// Where clients connect to a database.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}",
            self.options.password, self.port
        )
    }

    /// Its process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }

    /// Makes a database, unless it is there.
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

    /// What a statement gives, a line each row.
    pub fn query(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        let output = Command::new(self.bin.join("psql"))
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

    /// Starts it again, with its data and on its port, after it has ended.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.options, &self.bin, &self.data, self.port)?;
        self.become_ready(false).await
    }

    /// Stops it in order: those connected are sent away.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGINT, PATIENCE).map(|_| ())
    }

    /// Waits until it takes connections; one that ends instead is started again for a while.
    async fn become_ready(&mut self, any_port: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.process.ended() {
                if began.elapsed() > AGAIN {
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
            if says_ready(&self.data, self.process.pid()) {
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

/// Whether that very process says so, in the file that `pg_ctl` looks at: its id in the first line, its state in the
/// eighth. A connection would not tell who answers.
fn says_ready(data: &Path, pid: u32) -> bool {
    let said = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = said.lines().map(str::trim);
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
    // The tests of one run share it, each with pools of its own.
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

/// Makes them beside where they belong: what was left half done has no name to be found under.
fn make_data(bin: &Path, data: &Path, options: &PostgresOptions) -> anyhow::Result<()> {
    let (unfinished, word) = (
        data.with_extension("unfinished"),
        data.with_extension("password"),
    );
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    if word.exists() {
        fs::remove_file(&word)?;
    }
    fs::create_dir(&unfinished)
        .with_context(|| format!("{} cannot be made", unfinished.display()))?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o700))?;
    give(&unfinished)?;
    fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&word)?
        .write_all(options.password.as_bytes())?;
    give(&word)?;
    let mut initdb = program(bin, "initdb")?;
    initdb
        .arg("-D")
        .arg(&unfinished)
        .args(["--username", SUPERUSER, "--auth=scram-sha-256"]);
    initdb
        .args(["--encoding=UTF8", "--locale=C"])
        .arg(format!("--pwfile={}", word.display()));
    if !options.fsync {
        initdb.arg("--no-sync");
    }
    let made = initdb.output();
    fs::remove_file(&word)?;
    let made = made.context("initdb cannot be started")?;
    if !made.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
    }
    if data.exists() {
        fs::remove_dir(data).with_context(|| format!("{} holds something else", data.display()))?;
    }
    fs::rename(&unfinished, data)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_itself_says_that_it_is_ready() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(!says_ready(directory.path(), 42));
        let said = "42\n/data\n1700000000\n5432\n\n127.0.0.1\n  123 0\nready   \n";
        fs::write(directory.path().join("postmaster.pid"), said).expect("written");
        assert!(says_ready(directory.path(), 42));
        assert!(!says_ready(directory.path(), 43));
        fs::write(
            directory.path().join("postmaster.pid"),
            said.replace("ready   ", "starting"),
        )
        .expect("written");
        assert!(!says_ready(directory.path(), 42));
    }
}
