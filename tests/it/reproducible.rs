//! The build: a given commit and date are the ones that the program reports, and nothing else is.

use std::path::Path;
use std::process::{Command, Output};

/// Compiles the build script.
fn compile_build_script(script: &Path) -> Output {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());

    Command::new(compiler)
        .args(["--edition", "2024", "-o"])
        .arg(script)
        .arg(source)
        .output()
        .expect("rustc")
}

/// Runs the build script outside of a repository, as in a released package.
fn run(script: &Path, epoch: &str) -> Output {
    let directory = script.parent().expect("a directory");

    Command::new(script)
        .current_dir(directory)
        .env("SOURCE_DATE_EPOCH", epoch)
        .env("GOFAVORITES_COMMIT", "c0ffee")
        .output()
        .expect("ran")
}

#[test]
fn the_program_reports_the_commit_and_date_it_was_given() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("build-script");
    let compiled = compile_build_script(&script);
    let errors = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{errors}");

    let first = run(&script, "1700000000");
    let second = run(&script, "1700000000");
    let invalid_date = run(&script, "yesterday");

    assert_eq!(first.stdout, second.stdout);
    let output = String::from_utf8(first.stdout).expect("a text");

    for expected in [
        "cargo::rustc-env=GOFAVORITES_COMMIT=c0ffee",
        "cargo::rustc-env=GOFAVORITES_BUILT_AT=1700000000",
    ] {
        assert!(
            output.lines().any(|line| line == expected),
            "{expected} is not in:\n{output}"
        );
    }

    assert!(
        !invalid_date.status.success(),
        "an invalid date is an error"
    );
}
