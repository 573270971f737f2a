//! After the complete suite: nothing that its callers sent can be read in what the servers store.
//!
//! `make test` runs this when all other tests have ended. It searches the stores of every NATS
//! server and the files of every Postgres: tables, indexes and the write-ahead log. It also searches
//! a dump of each Postgres, and the logs of servers and workers. `unreadable.rs` checks the subjects
//! and contents of messages.

use crate::harness::samples::{BANK, CODE_MARK, OTHER_SECRET, OTHER_SECRET_BYTES, RFC_SECRET};
use crate::harness::{dump, dump_all};
use gofavorites::dev::fetch::servers;
use gofavorites::dev::postgres::{PostgresOptions, PostgresServer};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names of the suite's callers, texts, secrets, issuers and codes that they write, and the
/// beginning of every token. Shorter names, such as `bob`, would also be found in random bytes.
const MARKS: [&str; 14] = [
    "alice",
    "newcomer",
    "load-0-",
    "load-1-",
    "writer-0-",
    "writer-1-",
    "a-favourite-text-",
    "milk, bread",
    "eyJ0eXAiOiJhdCtqd3Qi",
    RFC_SECRET,
    OTHER_SECRET,
    OTHER_SECRET_BYTES,
    BANK,
    CODE_MARK,
];

/// The pattern of the suite's instruments.
const ISINS: &str = "XS[0-9]{10}";

/// The kinds of places. A mark that is planted in one of each has to be found.
const KINDS_OF_PLACES: [&str; 5] = [
    "store",
    "postgres",
    "nats.log",
    "postgres.log",
    "workers.log",
];

/// Returns the directory of the newest run.
fn newest_run() -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/it");
    let modified = |run: &PathBuf| {
        fs::metadata(run)
            .and_then(|run| run.modified())
            .expect("a time")
    };

    fs::read_dir(&all)
        .expect("a run")
        .map(|entry| entry.expect("an entry").path())
        .max_by_key(modified)
        .expect("a run")
}

/// Returns every form that a stranger would try: as it is, in hexadecimal, and in base64 at any
/// offset.
fn forms(mark: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;

    let hex: String = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = (0..3).map(|offset| {
        let bytes = [&[0; 3][..offset], mark.as_bytes()].concat();
        let text = STANDARD_NO_PAD.encode(bytes);
        // The first and the last character also depend on the bytes around the mark.
        text[offset + 1..text.len() - 1].to_owned()
    });

    [mark.to_owned(), hex].into_iter().chain(base64).collect()
}

/// Collects what servers and workers store and log, at any depth. What a test wrote for itself is
/// not included.
fn collect_places(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let place = entry.expect("an entry").path();
        let is_log = place
            .extension()
            .is_some_and(|extension| extension == "log");
        let is_of_server = place.ends_with("store") || place.ends_with("postgres");

        if is_log || is_of_server {
            found.push(place);
        } else if place.is_dir() && !place.is_symlink() {
            collect_places(&place, found);
        }
    }
}

/// Returns the files below those places that match one of the patterns. `mode` is the option of
/// `grep` that says what a pattern is.
fn grep(patterns: &[String], mode: &str, places: &[PathBuf]) -> Vec<String> {
    let mut grep = Command::new("grep");
    grep.args(["--recursive", "--text", "--files-with-matches", mode])
        .env("LC_ALL", "C");
    for pattern in patterns {
        grep.arg("-e").arg(pattern);
    }

    let output = grep.arg("--").args(places).output().expect("grep");

    let error = String::from_utf8_lossy(&output.stderr);
    let succeeded = output.status.code().is_some_and(|code| code < 2);
    assert!(succeeded, "{error}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Returns the files below those places that contain something of the suite's callers.
fn readable(places: &[PathBuf]) -> Vec<String> {
    let marks: Vec<String> = MARKS.iter().flat_map(|mark| forms(mark)).collect();

    let with_marks = grep(&marks, "--fixed-strings", places);
    let with_isins = grep(&[ISINS.to_owned()], "--extended-regexp", places);

    [with_marks, with_isins].concat()
}

/// Checks that each form of a mark is found in that directory if it is there.
fn check_each_form_is_found(directory: &Path) {
    let planted = [directory.join("planted")];
    let forms = MARKS
        .iter()
        .flat_map(|mark| forms(mark))
        .chain(["XS0000000017".to_owned()]);

    for form in forms {
        let bytes = [b"\0\xff", form.as_bytes(), b"\xff"].concat();
        fs::write(&planted[0], bytes).expect("written");

        assert_eq!(readable(&planted).len(), 1, "{form} is found");
    }

    fs::remove_file(&planted[0]).expect("removed");
}

/// Checks that a mark is found in that file, or below that directory, if it is there.
fn check_mark_is_found(place: &Path) {
    let file = if place.is_dir() {
        place.join("planted")
    } else {
        place.to_owned()
    };
    let length = fs::metadata(&file).map_or(0, |file| file.len());
    let mut planted = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .expect("a file");

    planted.write_all(MARKS[0].as_bytes()).expect("written");
    let found = readable(&[place.to_owned()]);
    assert_eq!(found, [file.to_str().expect("a path")]);

    planted.set_len(length).expect("as it was");
    if place.is_dir() {
        fs::remove_file(file).expect("removed");
    }
}

/// Starts a Postgres server on files of an earlier run, without a password, because that run's
/// password is lost.
async fn start_postgres(bin: &Path, data: &Path) -> PostgresServer {
    let trust = "host all all 127.0.0.1/32 trust\n";
    fs::write(data.join("pg_hba.conf"), trust).expect("written");

    let options = PostgresOptions {
        bin: bin.to_owned(),
        data: data.to_owned(),
        log: data.with_extension("scan"),
        password: String::new(),
        usual_port: None,
        fsync: false,
    };

    PostgresServer::start(options).await.expect("Postgres")
}

/// Checks what a backup of that Postgres would hold. The files alone do not show it, because
/// Postgres compresses long values.
async fn check_dump(data: &Path) {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let servers = servers(home, |_| ()).expect("the pinned servers");
    let bin = servers.postgres_bin;
    let mut postgres = start_postgres(&bin, data).await;
    let file = [data.with_extension("dump")];

    let all = dump_all(&bin, &postgres.url("postgres"));
    let text = String::from_utf8_lossy(&all);
    assert!(
        text.contains("COPY public.item_version "),
        "the rows are in it"
    );
    fs::write(&file[0], &all).expect("written");
    assert_eq!(readable(&file), [""; 0]);

    // The table is unlogged, so that nothing of it stays in the write-ahead log.
    let plant = format!(
        "create unlogged table planted as select repeat('{}', 1000) as words",
        MARKS[0]
    );
    postgres.create_database("planted").expect("a database");
    postgres.query("planted", &plant).expect("planted");
    fs::write(&file[0], dump(&bin, &postgres.url("planted"))).expect("written");
    assert_eq!(readable(&file).len(), 1, "a planted mark is found");

    let remove = "drop database planted";
    postgres.query("postgres", remove).expect("dropped");
    fs::remove_file(&file[0]).expect("removed");
    postgres.stop().expect("stopped");
}

/// Goal: nothing that the suite's callers sent is readable in what its servers and workers stored
/// and logged.
///
/// Method: after the suite, all files of the newest run and a dump of each Postgres are searched
/// for marks in several encodings. Planted marks show that the search finds them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs when all other tests have ended: make test"]
async fn the_complete_suite_left_nothing_readable() {
    let mut all = Vec::new();
    collect_places(&newest_run(), &mut all);
    let of_kind = |name: &str| {
        let places = all.iter().filter(|place| place.ends_with(name));
        places.collect::<Vec<_>>()
    };
    let stores = of_kind("store");
    let postgres = of_kind("postgres");
    let store_count = stores.len();
    assert!(store_count > 50, "the suite has run: {store_count} stores");

    assert_eq!(readable(&all), [""; 0]);

    check_each_form_is_found(stores[0]);
    for kind in KINDS_OF_PLACES {
        check_mark_is_found(of_kind(kind)[0]);
    }
    for data in &postgres {
        check_dump(data).await;
    }

    let postgres_count = postgres.len();
    let log_count = all.len() - store_count - postgres_count;
    println!(
        "searched {store_count} stores, {postgres_count} of Postgres with their dumps, and \
         {log_count} logs: nothing of what the suite's callers sent is readable"
    );
}
