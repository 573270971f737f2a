//! The servers that all tests of a run share.

use gofavorites::config::LogSettings;
use gofavorites::dev::fetch::{Servers, servers};
use gofavorites::dev::postgres::{PostgresOptions, PostgresServer};
use gofavorites::dev::{Platform, PlatformOptions, Topology};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::OnceCell;

/// The programs, and the Postgres server of this run.
pub struct Shared {
    pub servers: Servers,
    pub postgres: PostgresServer,
    directory: PathBuf,
    next: AtomicUsize,
}

static SHARED: OnceCell<Shared> = OnceCell::const_new();

/// Returns the servers that all tests of this run share. The first caller starts them.
pub async fn shared_servers() -> &'static Shared {
    SHARED.get_or_init(Shared::start).await
}

impl Shared {
    async fn start() -> Self {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let servers = servers(home, |step| eprintln!("{step}")).expect("the pinned servers");

        let runs = home.join("target/it");
        clear_earlier_runs(&runs);
        let directory = runs.join(std::process::id().to_string());
        fs::create_dir_all(&directory).expect("a directory");
        log_workers_to(&directory.join("workers.log"));

        let postgres = PostgresServer::start(PostgresOptions {
            bin: servers.postgres_bin.clone(),
            data: directory.join("postgres"),
            log: directory.join("postgres.log"),
            password: format!("p{}", uuid::Uuid::now_v7().simple()),
            usual_port: None,
            fsync: false,
        });
        let postgres = postgres.await.expect("Postgres");

        Self {
            servers,
            postgres,
            directory,
            next: AtomicUsize::new(0),
        }
    }

    /// Returns a number that no other test of this run has, and a directory of that name.
    pub fn place(&self) -> (usize, PathBuf) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(number.to_string());
        fs::create_dir_all(&directory).expect("a directory");

        (number, directory)
    }
}

/// Sets up the log of the workers in this process, with the default filter, because more lines
/// would slow down what is measured. The log is searched when all tests have ended.
fn log_workers_to(file: &Path) {
    let file = fs::File::create(file).expect("a file");
    let filter = tracing_subscriber::EnvFilter::new(LogSettings::default().filter);

    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    log.with_writer(std::sync::Mutex::new(file)).init();
}

/// Returns a dump of a database, as `pg_dump` writes it for a backup.
pub fn dump(bin: &Path, url: &str) -> Vec<u8> {
    run(bin, &["pg_dump", url])
}

/// Restores a dump into an empty database.
pub fn restore(bin: &Path, dump: &[u8], url: &str) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(dump).expect("written");
    let path = file.path().to_str().expect("a path");

    run(
        bin,
        &[
            "psql",
            "--no-psqlrc",
            "--set=ON_ERROR_STOP=1",
            "--file",
            path,
            url,
        ],
    );
}

/// Returns a dump of all databases of a server.
pub fn dump_all(bin: &Path, url: &str) -> Vec<u8> {
    run(bin, &["pg_dumpall", "--no-role-passwords", "--dbname", url])
}

/// Runs a program of `bin`, and returns what it wrote to its standard output.
fn run(bin: &Path, command: &[&str]) -> Vec<u8> {
    let output = Command::new(bin.join(command[0]))
        .args(&command[1..])
        .output()
        .expect(command[0]);

    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");

    output.stdout
}

/// Creates a directory for a platform that one test starts. The directory stays after the test,
/// because it is searched when all tests have ended.
pub fn kept_directory() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);

    let run = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/it")
        .join(std::process::id().to_string());
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = run.join(format!("platform-{number}"));
    fs::create_dir_all(&directory).expect("a directory");

    directory
}

/// Starts a platform with these shards of two workers each, below that directory.
pub async fn start_platform(directory: &Path, shards: &[&str]) -> Platform {
    let options = PlatformOptions {
        topology: Topology::Single,
        home: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        state: directory.join("dev"),
        fresh: true,
        tls: false,
        reference: false,
        program: PathBuf::from(env!("CARGO_BIN_EXE_gofavorites")),
        shards: shards.iter().map(|shard| (*shard).to_owned()).collect(),
        workers: 2,
        usual_ports: false,
        fsync: true,
    };

    Platform::start(options, |_| {}).await.expect("a platform")
}

/// Removes what earlier runs left on the disk. A run's directory has the name of its process, and
/// its servers ended with that process.
fn clear_earlier_runs(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let is_running = Command::new("ps")
            .args(["-p", &pid])
            .output()
            .is_ok_and(|ps| ps.status.success());

        if !is_running {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
