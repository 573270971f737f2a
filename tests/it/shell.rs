//! What the program writes for shells and for `man`: completions that complete, and manual pages
//! that groff formats without a warning.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Calls the completion function as bash does, with the words of a command line of which the last
/// one is to be completed.
pub(crate) const COMPLETE: &str = r#"
. "$SCRIPT"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
function=$(complete -p gofavorites | sed -n 's/.* -F \([^ ]*\) .*/\1/p')
"$function" gofavorites "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
echo "${COMPREPLY[@]}"
"#;

/// The commands that check a script without running it.
const CHECKS: [(&str, &str); 3] = [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")];

/// Stands in the environment of the program, and nowhere in what it writes.
const PASSWORD: &str = "a-password-of-the-environment";

/// Runs the program with these arguments, which must succeed, and returns its standard output.
fn run(arguments: &[&str]) -> String {
    let Output { status, stdout, .. } = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
        .args(arguments)
        .env("GOFAVORITES_PASSWORD", PASSWORD)
        .output()
        .expect("it starts");

    assert!(status.success(), "{arguments:?}");

    String::from_utf8(stdout).expect("UTF-8")
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Returns a search path that has the program, which the scripts call.
pub(crate) fn path() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_gofavorites"));
    let directory = program.parent().expect("a directory");

    format!("{}:/usr/bin:/bin", directory.display())
}

/// Returns what bash proposes for the last of these words.
fn complete(script: &Path, words: &[&str]) -> Vec<String> {
    let output = Command::new("bash")
        .args(["--norc", "-c", COMPLETE, "bash"])
        .args(words)
        .env("SCRIPT", script)
        .env("PATH", path())
        .output()
        .expect("bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");

    let proposals = String::from_utf8(output.stdout).expect("UTF-8");
    proposals.split_whitespace().map(str::to_owned).collect()
}

/// Writes the manual pages to a directory, and returns them by the names of their files.
fn write_pages(directory: &Path) -> BTreeMap<String, String> {
    run(&["man", directory.to_str().expect("UTF-8")]);

    fs::read_dir(directory)
        .expect("the directory was created")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read_to_string(entry.path()).expect("a page"))
        })
        .collect()
}

#[test]
fn bash_completes_commands_and_options() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("gofavorites.bash");
    fs::write(&script, run(&["completions", "bash"])).expect("written");

    let commands = complete(&script, &["gofavorites", "comp"]);
    let below = complete(&script, &["gofavorites", "otp", ""]);
    let options = complete(&script, &["gofavorites", "otp", "code", "--wat"]);
    let values = complete(&script, &["gofavorites", "completions", "z"]);

    assert_eq!(commands, ["completions"]);
    for command in ["add", "code", "verify"] {
        assert!(below.iter().any(|found| found == command), "{below:?}");
    }
    assert_eq!(options, ["--watch"]);
    assert_eq!(values, ["zsh"]);
}

#[test]
fn each_shell_reads_its_script() {
    let directory = tempfile::tempdir().expect("a directory");

    for (shell, check) in CHECKS {
        if !is_installed(shell) {
            continue;
        }
        let script = directory.path().join(shell);
        fs::write(&script, run(&["completions", shell])).expect("written");

        let output = Command::new(shell)
            .arg(check)
            .arg(&script)
            .env("HOME", directory.path())
            .output()
            .expect("it starts");

        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && errors.is_empty(),
            "{shell}: {errors}"
        );
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let directory = tempfile::tempdir().expect("a directory");

    let pages = write_pages(&directory.path().join("man1"));
    let again = write_pages(&directory.path().join("again"));
    let own = run(&["man"]);

    assert_eq!(pages, again);
    assert_eq!(own, pages["gofavorites.1"]);
    for name in ["put", "otp-code", "shard-evict", "man"] {
        let file = format!("gofavorites-{name}.1");
        assert!(pages.contains_key(&file), "{file} is not there");
    }
    for (name, page) in &pages {
        assert!(!page.contains(PASSWORD), "{name}");
    }
}

#[test]
fn groff_formats_the_manual_pages_without_a_warning() {
    if !is_installed("groff") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");

    for name in write_pages(directory.path()).keys() {
        let output = Command::new("groff")
            .args(["-K", "utf8", "-ww", "-man", "-T", "utf8"])
            .arg(directory.path().join(name))
            .output()
            .expect("groff");

        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && warnings.is_empty(),
            "{name}: {warnings}"
        );
    }
}
