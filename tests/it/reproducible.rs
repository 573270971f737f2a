//! The build says what it was built from: where a commit and a date are given, those and nothing else.

use std::process::Command;

#[test]
fn the_commit_and_the_date_that_are_given_are_what_the_program_tells() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("build-script");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let made = Command::new(compiler)
        .args(["--edition", "2024", "-o"])
        .arg(&script)
        .arg(source)
        .output();
    let made = made.expect("rustc");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    // Where there is no repository to ask, as in a released package.
    let run = |epoch: &str| {
        let mut run = Command::new(&script);
        run.current_dir(directory.path())
            .env("SOURCE_DATE_EPOCH", epoch)
            .env("GOFAVORITES_COMMIT", "c0ffee");
        run.output().expect("ran")
    };
    let (once, again) = (run("1700000000"), run("1700000000"));
    assert_eq!(once.stdout, again.stdout);
    let told = String::from_utf8(once.stdout).expect("a text");
    for line in [
        "cargo::rustc-env=GOFAVORITES_COMMIT=c0ffee",
        "cargo::rustc-env=GOFAVORITES_BUILT_AT=1700000000",
    ] {
        assert!(
            told.lines().any(|one| one == line),
            "{line} is not in:\n{told}"
        );
    }
    assert!(
        !run("yesterday").status.success(),
        "a date that is none is not passed over"
    );
}
