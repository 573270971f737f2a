//! Stores the commit and the date of the build in the program.
//!
//! The date is `GOFAVORITES_DATE`, else `SOURCE_DATE_EPOCH` (a convention of reproducible builds),
//! both in seconds since the Unix epoch, else the current time. The commit is `GOFAVORITES_COMMIT`,
//! else the repository's `HEAD`. An empty variable counts as not set.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    for variable in [
        "GOFAVORITES_DATE",
        "SOURCE_DATE_EPOCH",
        "GOFAVORITES_COMMIT",
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    for file in [
        ".git/HEAD",
        ".git/logs/HEAD",
        "migrations",
        "src",
        "Cargo.lock",
    ] {
        if std::path::Path::new(file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }

    println!("cargo::rustc-env=GOFAVORITES_COMMIT={}", commit());
    println!("cargo::rustc-env=GOFAVORITES_BUILT_AT={}", built_at());
}

fn commit() -> String {
    variable("GOFAVORITES_COMMIT")
        .or_else(|| git(&["rev-parse", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Returns what an environment variable holds, unless it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the output of a git command, or `None` if it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;

    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Returns the date of the build, in seconds since the Unix epoch.
fn built_at() -> u64 {
    match variable("GOFAVORITES_DATE").or_else(|| variable("SOURCE_DATE_EPOCH")) {
        Some(epoch) => match epoch.parse() {
            Ok(seconds) => seconds,
            Err(error) => panic!("the date must be a number of seconds: {error}"),
        },
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    }
}
