//! After the whole suite: nothing that its callers sent can be read in what the servers keep.
//!
//! `make test` runs this when all other tests have ended. It looks through the stores of every NATS server, the files of
//! Postgres (tables, indexes and the write-ahead log) and a dump of each, and the logs of servers and workers. On which
//! subjects messages go, and what is in them, `unreadable.rs` looks at.

use crate::harness::{dump, dump_all};
use gofavorites::dev::fetch::servers;
use gofavorites::dev::postgres::{PostgresOptions, PostgresServer};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What callers of the suite are called, what they write, and how every token begins.
/// Shorter ones, such as `bob`, are found in any noise.
const MARKS: [&str; 9] = [
    "alice",
    "newcomer",
    "load-0-",
    "load-1-",
    "writer-0-",
    "writer-1-",
    "a-favourite-text-",
    "milk, bread",
    "eyJ0eXAiOiJhdCtqd3Qi",
];
/// The instruments of the suite.
const ISINS: &str = "XS[0-9]{10}";

/// The directory of the newest run.
fn newest_run() -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/it");
    let runs = fs::read_dir(&all)
        .expect("a run")
        .map(|entry| entry.expect("an entry").path());
    runs.max_by_key(|run| {
        fs::metadata(run)
            .and_then(|run| run.modified())
            .expect("a time")
    })
    .expect("a run")
}

/// Every form that a stranger would try: as it is, in hexadecimal, in base64 at any offset.
fn forms(mark: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let hex: String = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = (0..3).map(|offset| {
        let text = STANDARD_NO_PAD.encode([&[0; 3][..offset], mark.as_bytes()].concat());
        text[offset + 1..text.len() - 1].to_owned()
    });
    [mark.to_owned(), hex].into_iter().chain(base64).collect()
}

/// What the servers and workers keep and say, however deep it lies, and not what a test wrote down for itself.
fn places(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let place = entry.expect("an entry").path();
        let is_log = place
            .extension()
            .is_some_and(|extension| extension == "log");
        if is_log
            || ["store", "postgres"]
                .iter()
                .any(|name| place.ends_with(name))
        {
            found.push(place);
        } else if place.is_dir() && !place.is_symlink() {
            places(&place, found);
        }
    }
}

/// The files in which one of the patterns stands.
fn found(patterns: &[String], how: &str, places: &[PathBuf]) -> Vec<String> {
    let mut grep = Command::new("grep");
    grep.args(["--recursive", "--text", "--files-with-matches", how])
        .env("LC_ALL", "C");
    patterns.iter().for_each(|pattern| {
        grep.arg("-e").arg(pattern);
    });
    let output = grep.arg("--").args(places).output().expect("grep");
    assert!(
        output.status.code().is_some_and(|code| code < 2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The files below those places in which anything of the suite's callers stands.
fn readable(places: &[PathBuf]) -> Vec<String> {
    let marks: Vec<String> = MARKS.iter().flat_map(|mark| forms(mark)).collect();
    [
        found(&marks, "--fixed-strings", places),
        found(&[ISINS.to_owned()], "--extended-regexp", places),
    ]
    .concat()
}

/// It would be found, in whatever form.
fn each_form_is_found_in(place: &Path) {
    let planted = [place.join("planted")];
    for form in MARKS
        .iter()
        .flat_map(|mark| forms(mark))
        .chain(["XS0000000017".to_owned()])
    {
        fs::write(&planted[0], [b"\0\xff", form.as_bytes(), b"\xff"].concat()).expect("written");
        assert_eq!(readable(&planted).len(), 1, "{form} is found");
    }
    fs::remove_file(&planted[0]).expect("removed");
}

/// It would be found in a place of that kind.
fn a_mark_is_found_in(place: &Path) {
    let file = if place.is_dir() {
        place.join("planted")
    } else {
        place.to_owned()
    };
    let before = fs::metadata(&file).map_or(0, |file| file.len());
    let mut planted = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .expect("a file");
    planted.write_all(MARKS[0].as_bytes()).expect("written");
    assert_eq!(
        readable(&[place.to_owned()]),
        [file.to_str().expect("a path")]
    );
    planted.set_len(before).expect("as it was");
    if place.is_dir() {
        fs::remove_file(file).expect("removed");
    }
}

/// What a backup of that Postgres would hold. Its files alone do not tell: it compresses what is long.
async fn dump_is_unreadable(data: &Path) {
    let bin = servers(Path::new(env!("CARGO_MANIFEST_DIR")), |_| ())
        .expect("the pinned servers")
        .postgres_bin;
    // The run that it is of has ended, and its password with it.
    fs::write(
        data.join("pg_hba.conf"),
        "host all all 127.0.0.1/32 trust\n",
    )
    .expect("written");
    let options = PostgresOptions {
        bin: bin.clone(),
        data: data.to_owned(),
        log: data.with_extension("scan"),
        password: String::new(),
        usual_port: None,
        fsync: false,
    };
    let mut postgres = PostgresServer::start(options).await.expect("Postgres");
    let place = [data.with_extension("dump")];
    let all = dump_all(&bin, &postgres.url("postgres"));
    assert!(
        String::from_utf8_lossy(&all).contains("COPY public.item_version "),
        "the rows are in it"
    );
    fs::write(&place[0], all).expect("written");
    assert_eq!(readable(&place), [""; 0]);
    // Not logged, so that nothing of it stays.
    postgres.create_database("planted").expect("a database");
    let plant = format!(
        "create unlogged table planted as select repeat('{}', 1000) as words",
        MARKS[0]
    );
    postgres.query("planted", &plant).expect("planted");
    fs::write(&place[0], dump(&bin, &postgres.url("planted"))).expect("written");
    assert_eq!(readable(&place).len(), 1, "a planted one is found");
    postgres
        .query("postgres", "drop database planted")
        .expect("dropped");
    fs::remove_file(&place[0]).expect("removed");
    postgres.stop().expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs when all other tests have ended: make test"]
async fn the_whole_suite_left_nothing_readable() {
    let mut all = Vec::new();
    places(&newest_run(), &mut all);
    let of_kind = |name: &str| {
        all.iter()
            .filter(|place| place.ends_with(name))
            .collect::<Vec<_>>()
    };
    let (stores, postgres) = (of_kind("store"), of_kind("postgres"));
    assert!(
        stores.len() > 50,
        "the suite has run: {} stores",
        stores.len()
    );
    assert_eq!(readable(&all), [""; 0]);
    each_form_is_found_in(stores[0]);
    for kind in [
        "store",
        "postgres",
        "nats.log",
        "postgres.log",
        "workers.log",
    ] {
        a_mark_is_found_in(of_kind(kind)[0]);
    }
    for data in &postgres {
        dump_is_unreadable(data).await;
    }
    println!(
        "{} stores, {} of Postgres with their dumps, and {} logs: nothing of what the suite's callers sent is readable",
        stores.len(),
        postgres.len(),
        all.len() - stores.len() - postgres.len(),
    );
}
