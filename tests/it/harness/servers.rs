//! The servers that all tests of a run share.

use gofavorites::config::LogSettings;
use gofavorites::dev::fetch::{Servers, servers};
use gofavorites::dev::postgres::{PostgresOptions, PostgresServer};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::OnceCell;

/// Programs, and the Postgres server of this run.
pub struct Shared {
    pub servers: Servers,
    pub postgres: PostgresServer,
    directory: PathBuf,
    next: AtomicUsize,
}

static SHARED: OnceCell<Shared> = OnceCell::const_new();

/// What all tests of this run share, started by the first that asks.
pub async fn shared_servers() -> &'static Shared {
    SHARED.get_or_init(Shared::start).await
}

impl Shared {
    async fn start() -> Self {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let servers = servers(home, |step| eprintln!("{step}")).expect("the pinned servers");
        let all = home.join("target/it");
        clear_earlier_runs(&all);
        let directory = all.join(std::process::id().to_string());
        fs::create_dir_all(&directory).expect("a directory");
        workers_log(&directory.join("workers.log"));
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

    /// A number that no other test of this run has, and a directory of that name.
    pub fn place(&self) -> (usize, PathBuf) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(number.to_string());
        fs::create_dir_all(&directory).expect("a directory");
        (number, directory)
    }
}

/// Where the workers in this process say what they do, as much as they say unless told otherwise: more would slow down what
/// is measured. It is searched when all tests have ended.
fn workers_log(place: &Path) {
    let file = fs::File::create(place).expect("a file");
    let filter = tracing_subscriber::EnvFilter::new(LogSettings::default().filter);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    log.with_writer(std::sync::Mutex::new(file)).init();
}

/// A dump of a database, as `pg_dump` makes it for a backup.
pub fn dump(bin: &Path, url: &str) -> Vec<u8> {
    dumped(bin, &["pg_dump", url])
}

/// A dump of all databases of a server.
pub fn dump_all(bin: &Path, url: &str) -> Vec<u8> {
    dumped(bin, &["pg_dumpall", "--no-role-passwords", "--dbname", url])
}

fn dumped(bin: &Path, command: &[&str]) -> Vec<u8> {
    let output = Command::new(bin.join(command[0]))
        .args(&command[1..])
        .output()
        .expect(command[0]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A directory for a platform of a test's own, which stays after it: it is searched when all tests have ended.
pub fn kept_directory() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let run = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/it")
        .join(std::process::id().to_string());
    let directory = run.join(format!("platform-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// What earlier runs left on the disk. Their processes ended with them.
fn clear_earlier_runs(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let alive = Command::new("ps")
            .args(["-p", &pid])
            .output()
            .is_ok_and(|ps| ps.status.success());
        if !alive {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
