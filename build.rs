//! Puts into the program what it was built from: the commit and the date of the build.
//!
//! `SOURCE_DATE_EPOCH` (seconds since the Unix epoch, the convention of reproducible builds) gives the date where it is
//! set, and `GOFAVORITES_COMMIT` the commit where there is no repository to ask.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    for variable in ["SOURCE_DATE_EPOCH", "GOFAVORITES_COMMIT"] {
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
    let given = std::env::var("GOFAVORITES_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty());
    given
        .or_else(|| git(&["rev-parse", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn built_at() -> u64 {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => match epoch.parse() {
            Ok(seconds) => seconds,
            Err(fault) => panic!("SOURCE_DATE_EPOCH is a number of seconds: {fault}"),
        },
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    }
}
