//! What the documents promise: the README's tour is walked word for word, and each setting's default is as written.

use crate::harness::{beside, kept_directory};
use async_nats::{ConnectOptions, HeaderMap};
use gofavorites::config::Settings;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program as the README names it.
const PROGRAM: &str = "target/release/gofavorites";
/// How long the platform may take to start, or to stop.
const PATIENCE: Duration = Duration::from_secs(120);
/// What differs from one run to the next, by its name in JSON.
pub(crate) const FLEETING: [&str; 7] = [
    "created_at",
    "updated_at",
    "built_at",
    "commit",
    "next_cursor",
    "notify",
    "shard",
];
/// Stands on the path where there is no `nats` program, and leaves the words of its command line behind.
const STAND_IN: &str = "#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done >\"$NATS_WORDS\"\n";

/// What a document says.
pub(crate) fn text(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a document")
}

/// The fenced blocks of a text in their order: their language and what stands in them.
pub(crate) fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if within => within = false,
            Some(language) => {
                within = true;
                found.push((language.to_owned(), String::new()));
            }
            None if within => {
                let (_, block) = found.last_mut().expect("a block has begun");
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    found
}

/// A command of the tour, and the code with which it has to be refused.
struct Step {
    command: String,
    refused: Option<String>,
}

/// The commands of a block: a line each, but for those that a backslash continues, and what one reads up to `END`.
fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut refused, mut read) = (None, false);
    for line in block.replace("\\\n", " ").lines() {
        match (
            line.strip_prefix("# refused: "),
            steps.last_mut().filter(|_| read),
        ) {
            (_, Some(Step { command, .. })) => {
                command.push_str(&format!("\n{line}"));
                read = line != "END";
            }
            (Some(code), None) => refused = Some(code.to_owned()),
            (None, None) => {
                steps.push(Step {
                    command: line.to_owned(),
                    refused: refused.take(),
                });
                read = line.ends_with("<<'END'");
            }
        }
    }
    steps
}

/// The development platform, as `make run` starts it.
struct Platform {
    process: Child,
    directory: PathBuf,
}

impl Platform {
    fn start() -> Self {
        let directory = kept_directory();
        let log = fs::File::create(directory.join("log")).expect("a file");
        let process = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
            .args(["dev", "--state"])
            .arg(directory.join("dev"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn();
        let mut platform = Self {
            process: process.expect("the program"),
            directory,
        };
        let until = Instant::now() + PATIENCE;
        while !platform.state().join("dev.json").exists() {
            let ended = platform.process.try_wait().expect("a status");
            let log = fs::read_to_string(platform.directory.join("log")).expect("a log");
            assert!(
                ended.is_none() && Instant::now() < until,
                "the platform does not start:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        platform
    }

    fn state(&self) -> PathBuf {
        self.directory.join("dev")
    }

    /// Runs a command as in the reader's shell: what an earlier one set is there.
    fn run(&self, command: &str) -> Output {
        let (kept, directory) = (self.directory.join("variables"), &self.directory);
        let command = command.replace(PROGRAM, env!("CARGO_BIN_EXE_gofavorites"));
        let command = command.replace(" .dev/", &format!(" {}/", self.state().display()));
        let kept = kept.display();
        let script = format!(
            "set -a; PATH=\"$PATH:{}\"; NATS_WORDS={}; if [ -f {kept} ]; then . {kept}; fi\n{command}\ncode=$?; \
             export -p >{kept}; exit $code",
            directory.display(),
            directory.join("words").display(),
        );
        let shell = Command::new("sh")
            .arg("-c")
            .arg(script)
            .stdin(Stdio::null())
            .output();
        shell.expect("sh")
    }

    /// What a variable of the reader's shell holds.
    fn variable(&self, name: &str) -> String {
        let output = self.run(&format!("printf %s \"${name}\""));
        String::from_utf8(output.stdout).expect("a text")
    }

    /// Makes the request of a `nats` command, by that program if it is here, and gives the reply.
    async fn ask(&self, command: &str) -> Value {
        let words = self.directory.join("words");
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {output:?}");
        let reply = match fs::read_to_string(&words) {
            Err(_) => output.stdout,
            Ok(found) => {
                fs::remove_file(&words).expect("removed");
                self.request(&found.split_terminator('\0').collect::<Vec<_>>())
                    .await
            }
        };
        serde_json::from_slice(&reply).expect("a reply in JSON")
    }

    /// What `nats` would do with these words.
    async fn request(&self, words: &[&str]) -> Vec<u8> {
        let mut headers = HeaderMap::new();
        let mut rest = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "-H" => {
                    let (name, value) = words
                        .next()
                        .and_then(|header| header.split_once(':'))
                        .expect("a header");
                    headers.insert(name, value);
                }
                "--raw" => {}
                word => rest.push(word),
            }
        }
        let ["req", subject, body] = rest[..] else {
            panic!("not a request: {rest:?}")
        };
        let (user, password) = (self.variable("NATS_USER"), self.variable("NATS_PASSWORD"));
        let client = ConnectOptions::with_user_and_password(user, password)
            .connect(self.variable("NATS_URL"))
            .await;
        let client = client.expect("a connection");
        let reply = client
            .request_with_headers(subject.to_owned(), headers, body.to_owned().into())
            .await;
        reply.expect("a reply").payload.to_vec()
    }

    fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().try_into().expect("a process id"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("a signal");
        let status = self.process.wait().expect("a status");
        assert!(
            status.success(),
            "{status}: {}",
            fs::read_to_string(self.directory.join("log")).expect("a log")
        );
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // Its own processes end when it does, however it does.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A word of an output, numbers, times, commits and ids aside: they differ from one run to the next.
fn lasting(word: &str) -> &str {
    let bare = word.trim_end_matches([':', ',']);
    let time = bare.ends_with('Z') && bare.starts_with("20");
    let commit = bare == "unknown"
        || [32, 40].contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    if time || commit || bare.bytes().all(|byte| byte.is_ascii_digit()) {
        "…"
    } else {
        word
    }
}

/// The words of a line that last; which shard answers first is open.
pub(crate) fn lasting_words(line: &str) -> Vec<&str> {
    let mut words: Vec<&str> = line.split_whitespace().map(lasting).collect();
    if let [.., "shard", id] = &mut words[..] {
        *id = "…";
    }
    words
}

/// What lasts of an output. Its lines are in the order of the alphabet, since no reader relies on that of the fields.
fn lasting_lines(output: &str) -> Vec<Vec<&str>> {
    let mut lines: Vec<_> = output.lines().map(lasting_words).collect();
    lines.sort();
    lines
}

/// Fails unless the two are of one shape, and equal in what lasts.
fn same_shape(name: &str, shown: &Value, real: &Value) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            assert!(
                shown.keys().eq(real.keys()),
                "{name}: {:?} are shown, and {:?} there",
                shown.keys(),
                real.keys()
            );
            shown
                .iter()
                .for_each(|(key, value)| same_shape(key, value, &real[key]));
        }
        (Value::Array(shown), Value::Array(real)) => {
            assert_eq!(shown.len(), real.len(), "{name}");
            std::iter::zip(shown, real).for_each(|(shown, real)| same_shape(name, shown, real));
        }
        (Value::Number(_), Value::Number(_)) if name != "status" => {}
        (Value::String(_), Value::String(_)) if FLEETING.contains(&name) => {}
        (Value::String(shown), Value::String(real)) => {
            assert_eq!(lasting_words(shown), lasting_words(real), "{name}");
        }
        (shown, real) => assert_eq!(shown, real, "{name}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_tour_goes_as_it_says() {
    let _turn = beside().await;
    let readme = text("README.md");
    let (_, tour) = readme
        .split_once("\n## A five-minute tour\n")
        .expect("a tour");
    let (tour, _) = tour.split_once("\n## ").expect("an end of the tour");
    let platform = Platform::start();
    let stand_in = platform.directory.join("nats");
    fs::write(&stand_in, STAND_IN).expect("written");
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).expect("executable");
    let (mut printed, mut reply, mut made) = (String::new(), Value::Null, 0);
    for (language, block) in blocks(tour) {
        match language.as_str() {
            "sh" => printed.clear(),
            "text" => assert_eq!(
                lasting_lines(&block),
                lasting_lines(&printed),
                "shown:\n{block}real:\n{printed}"
            ),
            "json" => same_shape(
                "reply",
                &serde_json::from_str(&block).expect("JSON in the README"),
                &reply,
            ),
            other => panic!("a block of {other}"),
        }
        for Step { command, refused } in if language == "sh" {
            steps(&block)
        } else {
            Vec::new()
        } {
            made += 1;
            if command.starts_with("nats ") {
                reply = platform.ask(&command).await;
                let code = reply["error"]["code"].as_str().map(str::to_owned);
                assert_eq!(code, refused, "{command}: {reply}");
                continue;
            }
            let output = platform.run(&command);
            let both = [output.stdout, output.stderr].concat();
            let both = String::from_utf8(both).expect("a text");
            assert_eq!(
                output.status.success(),
                refused.is_none(),
                "{command}: {both}"
            );
            assert!(
                refused.is_none_or(|code| both.contains(&code)),
                "{command}: {both}"
            );
            printed.push_str(&both);
        }
    }
    assert!(made > 15, "only {made} commands were found");
    platform.stop();
}

#[test]
fn each_make_command_of_the_readme_is_a_target() {
    let (readme, makefile) = (text("README.md"), text("Makefile"));
    let named = readme
        .split("`")
        .chain(readme.lines())
        .filter_map(|words| words.strip_prefix("make "));
    let targets: Vec<&str> = named
        .filter_map(|words| words.split_whitespace().next())
        .collect();
    assert!(targets.len() >= 4, "{targets:?}");
    for target in targets {
        assert!(
            makefile
                .lines()
                .any(|line| line.starts_with(&format!("{target}:"))),
            "make {target}"
        );
    }
}

#[test]
fn the_readmes_settings_are_enough_for_a_worker() {
    let (_, settings) = blocks(&text("README.md"))
        .into_iter()
        .find(|(language, _)| language == "toml")
        .expect("a block");
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    fs::write(file.path(), settings).expect("written");
    Settings::read(Some(file.path()))
        .expect("well formed")
        .check()
        .expect("complete");
}

#[test]
fn the_document_of_settings_has_each_with_its_default() {
    let document = text("docs/settings.md");
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').split_once('.')?;
        let default = cells.next()?;
        Some((
            name,
            if default == "none" {
                "\"\""
            } else {
                default.trim_matches('`')
            },
        ))
    });
    let rows: Vec<_> = rows.collect();
    let toml: String = rows
        .iter()
        .map(|((section, field), default)| format!("{section}.{field} = {default}\n"))
        .collect();
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    fs::write(file.path(), toml).expect("written");
    let written = Settings::read(Some(file.path())).expect("every setting of the document is one");
    let (written, real) = (
        format!("{written:#?}"),
        format!("{:#?}", Settings::default()),
    );
    assert_eq!(written, real, "a default is another");
    for field in real
        .lines()
        .filter_map(|line| line.trim().split_once(": ").map(|(field, _)| field))
    {
        let known = |((section, name), _): &((&str, &str), _)| {
            name.rsplit('.').next() == Some(field) || *section == field
        };
        assert!(
            field == "item" || rows.iter().any(known),
            "{field} is not in the document"
        );
    }
}
