//! After the whole suite: nothing that its callers sent can be read in what the servers keep.
//!
//! `make test` runs this when all other tests have ended. It looks through the stores of every NATS server, the files of
//! Postgres (tables, indexes and the write-ahead log), and the servers' logs.

use std::fs;
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
    let runs = fs::read_dir(&all).expect("a run").map(|entry| entry.expect("an entry").path());
    runs.max_by_key(|run| fs::metadata(run).and_then(|run| run.modified()).expect("a time")).expect("a run")
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

/// What the servers keep and say: their stores and logs, and not what a test wrote down for itself.
fn places(run: &Path) -> Vec<PathBuf> {
    let mut places = vec![run.join("postgres"), run.join("postgres.log")];
    for entry in fs::read_dir(run).expect("a directory") {
        let world = entry.expect("an entry").path();
        if world.join("dev").is_dir() {
            platform(&world.join("dev"), &mut places);
            continue;
        }
        let servers = ["", "hub", "leaf-a", "leaf-b", "n1", "n2", "n3"].map(|name| world.join(name));
        let kept = servers.iter().flat_map(|server| ["store", "nats.log"].map(|name| server.join(name)));
        places.extend(kept.chain([world.join("worker.log")]).filter(|place| place.exists()));
    }
    places
}

/// What the servers and workers of a development platform keep and say, however deep it lies.
fn platform(directory: &Path, places: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let place = entry.expect("an entry").path();
        let is_log = place.extension().is_some_and(|extension| extension == "log");
        if is_log || ["store", "postgres"].iter().any(|name| place.ends_with(name)) {
            places.push(place);
        } else if place.is_dir() && !place.is_symlink() {
            platform(&place, places);
        }
    }
}

/// The files in which one of the patterns stands.
fn found(patterns: &[String], how: &str, places: &[PathBuf]) -> Vec<String> {
    let mut grep = Command::new("grep");
    grep.args(["--recursive", "--text", "--files-with-matches", how]).env("LC_ALL", "C");
    patterns.iter().for_each(|pattern| {
        grep.arg("-e").arg(pattern);
    });
    let output = grep.arg("--").args(places).output().expect("grep");
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "runs when all other tests have ended: make test"]
fn the_whole_suite_left_nothing_readable() {
    let run = newest_run();
    let places = places(&run);
    let stores = places.iter().filter(|place| place.ends_with("store")).count();
    assert!(stores > 50, "the suite has run: {stores} stores");
    let marks: Vec<String> = MARKS.iter().flat_map(|mark| forms(mark)).collect();
    let look = || {
        [found(&marks, "--fixed-strings", &places), found(&[ISINS.to_owned()], "--extended-regexp", &places)].concat()
    };
    // It would find one, wherever it stood and in whatever form.
    let planted = places.iter().find(|place| place.ends_with("store")).expect("a store").join("planted");
    for form in marks.iter().map(String::as_str).chain(["XS0000000017"]) {
        fs::write(&planted, [b"\0\xff", form.as_bytes(), b"\xff"].concat()).expect("written");
        let pattern = if form.starts_with("XS0") { vec![ISINS.to_owned()] } else { vec![form.to_owned()] };
        let how = if form.starts_with("XS0") { "--extended-regexp" } else { "--fixed-strings" };
        assert_eq!(found(&pattern, how, std::slice::from_ref(&planted)).len(), 1, "a planted one is found");
    }
    fs::remove_file(&planted).expect("removed");
    let readable = look();
    assert!(readable.is_empty(), "readable in {readable:#?}");
    println!("{stores} stores, Postgres and the logs: nothing of what the suite's callers sent is readable");
}
