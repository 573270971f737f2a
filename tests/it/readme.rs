//! What the documents promise: both tours are played word for word, each `make` command is a
//! target, and the settings of the operations' guide are enough for a worker.

use crate::harness::{kept_directory, shared};
use crate::pages::{Step, blocks, documents, section, steps, text};
use async_nats::{ConnectOptions, HeaderMap};
use gofavorites::config::Settings;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program as the documents name it.
const PROGRAM: &str = "target/debug/gofavorites";

/// How long the platform may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// What differs from one run to the next, by its name in JSON.
pub(crate) const FLEETING: [&str; 9] = [
    "created_at",
    "updated_at",
    "built_at",
    "commit",
    "epoch",
    "next_cursor",
    "notify",
    "place",
    "shard",
];

/// Stands on the path where there is no `nats` program, and leaves the words of its command line
/// behind.
const STAND_IN: &str = "#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done >\"$NATS_WORDS\"\n";

/// The development platform.
struct Platform {
    /// The process that runs it, as `make run` starts it; none if it runs in containers.
    process: Option<Child>,
    /// The directory of its state, which the documents call `.dev`.
    state: PathBuf,
    /// The directory of the reader's shell.
    directory: PathBuf,
}

impl Platform {
    /// Starts it with these arguments of `dev`.
    fn start(arguments: &[&str]) -> Self {
        let directory = kept_directory();
        let state = directory.join("dev");
        let log = fs::File::create(directory.join("log")).expect("a file");

        let process = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
            .args(["dev", "--state"])
            .arg(&state)
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the program");

        let mut platform = Self {
            process: Some(process),
            state,
            directory,
        };
        platform.wait_until_ready();
        platform.install_stand_in();
        platform
    }

    /// Takes one that runs, and keeps its state in that directory.
    fn running(state: PathBuf) -> Self {
        let platform = Self {
            process: None,
            state,
            directory: kept_directory(),
        };
        platform.install_stand_in();
        platform
    }

    fn wait_until_ready(&mut self) {
        let until = Instant::now() + START_TIMEOUT;

        while !self.state.join("dev.json").exists() {
            let process = self.process.as_mut().expect("a process");
            let ended = process.try_wait().expect("a status");
            assert!(ended.is_none(), "the platform ended:\n{}", self.log());
            assert!(
                Instant::now() < until,
                "the platform does not start:\n{}",
                self.log()
            );

            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn install_stand_in(&self) {
        let stand_in = self.directory.join("nats");
        fs::write(&stand_in, STAND_IN).expect("written");

        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&stand_in, executable).expect("executable");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).expect("a log")
    }

    /// Where the stand-in leaves the words of its command line.
    fn words(&self) -> PathBuf {
        self.directory.join("words")
    }

    /// Runs a command as in the reader's shell, with the variables that earlier commands set.
    fn run(&self, command: &str) -> Output {
        let state = format!(" {}/", self.state.display());
        let command = command.replace(PROGRAM, env!("CARGO_BIN_EXE_gofavorites"));
        let command = command.replace(" .dev/", &state);

        let script = format!(
            "set -a; PATH=\"$PATH:{directory}\"; NATS_WORDS={words}; TMPDIR={directory}\n\
             GOFAVORITES_STATE={platform}\n\
             if [ -f {variables} ]; then . {variables}; fi\n\
             {command}\n\
             code=$?; export -p >{variables}; exit $code",
            directory = self.directory.display(),
            words = self.words().display(),
            platform = self.state.display(),
            variables = self.directory.join("variables").display(),
        );

        Command::new("sh")
            .arg("-c")
            .arg(script)
            .stdin(Stdio::null())
            .output()
            .expect("sh")
    }

    /// Returns what a variable of the reader's shell holds.
    fn variable(&self, name: &str) -> String {
        let output = self.run(&format!("printf %s \"${name}\""));
        String::from_utf8(output.stdout).expect("a text")
    }

    /// Makes the request of a `nats` command, by that program if it is here, and returns the reply.
    async fn ask(&self, command: &str) -> Value {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {output:?}");

        let reply = match fs::read_to_string(self.words()) {
            Err(_) => output.stdout,
            Ok(found) => {
                fs::remove_file(self.words()).expect("removed");
                let words: Vec<&str> = found.split_terminator('\0').collect();
                self.request(&words).await
            }
        };

        serde_json::from_slice(&reply).expect("a reply in JSON")
    }

    /// Does what `nats` would do with these words.
    async fn request(&self, words: &[&str]) -> Vec<u8> {
        let mut headers = HeaderMap::new();
        let mut rest = Vec::new();
        let mut words = words.iter();

        while let Some(word) = words.next() {
            match *word {
                "-H" => {
                    let header = words.next().expect("a header");
                    let (name, value) = header.split_once(':').expect("a name and a value");
                    headers.insert(name, value);
                }
                "--raw" => {}
                word => rest.push(word),
            }
        }

        let ["req", subject, body] = rest[..] else {
            panic!("not a request: {rest:?}")
        };

        let user = self.variable("NATS_USER");
        let password = self.variable("NATS_PASSWORD");
        let mut options = ConnectOptions::with_user_and_password(user, password);
        let authority = self.variable("NATS_CA");
        if !authority.is_empty() {
            options = options.add_root_certificates(authority.into());
        }
        let client = options
            .connect(self.variable("NATS_URL"))
            .await
            .expect("a connection");

        let reply = client
            .request_with_headers(subject.to_owned(), headers, body.to_owned().into())
            .await
            .expect("a reply");
        reply.payload.to_vec()
    }

    /// Stops it, if it is a process of this test.
    fn stop(mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        let id = process.id().try_into().expect("a process id");
        let pid = nix::unistd::Pid::from_raw(id);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("a signal");

        let status = process.wait().expect("a status");
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // Its own processes end when it does, however it does.
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A tour under way, on a platform of its own.
struct Tour {
    platform: Platform,
    /// What the last block of commands printed.
    printed: String,
    /// What the last `nats req` was answered.
    reply: Value,
    /// How many commands were run.
    commands: usize,
}

impl Tour {
    fn on(platform: Platform) -> Self {
        Self {
            platform,
            printed: String::new(),
            reply: Value::Null,
            commands: 0,
        }
    }

    /// Plays the blocks of a document in their order: runs the commands, and compares what the
    /// document shows with what came.
    async fn play(&mut self, document: &str) {
        for (language, block) in blocks(document) {
            match language.as_str() {
                "sh" => self.run_block(&block).await,
                "text" => self.compare_output(&block),
                "json" => self.compare_reply(&block),
                other => panic!("a block of {other}"),
            }
        }
    }

    async fn run_block(&mut self, block: &str) {
        self.printed.clear();

        for step in steps(block) {
            self.commands += 1;

            if step.command.starts_with("nats ") {
                self.ask(&step).await;
            } else {
                self.run(&step);
            }
        }
    }

    async fn ask(&mut self, step: &Step) {
        let Step { command, refused } = step;

        self.reply = self.platform.ask(command).await;

        let code = self.reply["error"]["code"].as_str();
        assert_eq!(code, refused.as_deref(), "{command}: {}", self.reply);
    }

    fn run(&mut self, step: &Step) {
        let Step { command, refused } = step;

        let output = self.platform.run(command);
        let both = [output.stdout, output.stderr].concat();
        let both = String::from_utf8(both).expect("a text");

        assert_eq!(
            output.status.success(),
            refused.is_none(),
            "{command}: {both}"
        );
        if let Some(code) = refused {
            assert!(both.contains(code.as_str()), "{command}: {both}");
        }

        self.printed.push_str(&both);
    }

    fn compare_output(&self, shown: &str) {
        let real = &self.printed;

        assert_eq!(
            lasting_lines(shown),
            lasting_lines(real),
            "shown:\n{shown}real:\n{real}"
        );
    }

    fn compare_reply(&self, shown: &str) {
        let shown: Value = serde_json::from_str(shown).expect("JSON in the document");

        same_shape("reply", &shown, &self.reply);
    }
}

/// Returns a word of an output, masked if it is a number, a time, a commit, an id or a database: those differ
/// from one run to the next.
fn lasting(word: &str) -> &str {
    let bare = word.trim_end_matches([':', ',']);
    let number = bare.bytes().all(|byte| byte.is_ascii_digit());
    let time = bare.ends_with('Z') && bare.starts_with("20");
    let is_hex = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let hash = [32, 36, 40].contains(&bare.len()) && bare.bytes().all(is_hex);
    let commit = hash || bare == "unknown";
    let database = bare.starts_with('(') && bare.contains(':') && bare.contains('/');

    if number || time || commit || database {
        "…"
    } else {
        word
    }
}

/// Returns the words of a line that are the same in every run. The shard that answers first and the
/// name of the bucket's history are not.
pub(crate) fn lasting_words(line: &str) -> Vec<&str> {
    let mut words: Vec<&str> = line.split_whitespace().map(lasting).collect();

    if let [.., "shard" | "--epoch", name] = &mut words[..] {
        *name = "…";
    }

    words
}

/// Returns the lasting words of an output, line by line. The lines are sorted, since no reader relies on the order of
/// fields.
fn lasting_lines(output: &str) -> Vec<Vec<&str>> {
    let mut lines: Vec<_> = output.lines().map(lasting_words).collect();
    lines.sort();
    lines
}

/// Fails unless the two are of one shape, and equal in what lasts.
fn same_shape(name: &str, shown: &Value, real: &Value) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let shown_keys: Vec<&String> = shown.keys().collect();
            let real_keys: Vec<&String> = real.keys().collect();
            assert_eq!(shown_keys, real_keys, "{name}");

            for (key, value) in shown {
                same_shape(key, value, &real[key]);
            }
        }
        (Value::Array(shown), Value::Array(real)) => {
            assert_eq!(shown.len(), real.len(), "{name}");

            for (shown, real) in std::iter::zip(shown, real) {
                same_shape(name, shown, real);
            }
        }
        (Value::Number(_), Value::Number(_)) if name != "status" => {}
        (Value::String(_), Value::String(_)) if FLEETING.contains(&name) => {}
        // A worker makes its id, or its settings name it.
        (Value::String(shown), Value::String(_)) if name == "id" && lasting(shown) == "…" => {}
        (Value::String(shown), Value::String(real)) => {
            assert_eq!(lasting_words(shown), lasting_words(real), "{name}");
        }
        (shown, real) => assert_eq!(shown, real, "{name}"),
    }
}

/// Returns the targets of the `make` commands in a document's code spans and blocks.
fn make_targets(document: &str) -> Vec<&str> {
    // Every second part between backticks is code, also where three of them fence a block.
    let code = document.split('`').skip(1).step_by(2);

    code.flat_map(str::lines)
        .filter_map(|line| line.trim_start().strip_prefix("make "))
        .filter_map(|words| words.split_whitespace().next())
        .collect()
}

/// Returns the settings that a TOML text makes of the defaults.
fn read_settings(toml: &str) -> Settings {
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    fs::write(file.path(), toml).expect("written");

    Settings::read(Some(file.path())).expect("every setting of the document is one")
}

async fn play_the_readme(arguments: &[&str]) {
    let _permit = shared().await;
    let readme = text("README.md");
    let mut tour = Tour::on(Platform::start(arguments));

    tour.play(section(&readme, "A one-minute tour")).await;

    assert!(tour.commands >= 4, "only {} commands", tour.commands);
    tour.platform.stop();
}

async fn play_the_long_tour(platform: Platform) {
    let document = text("docs/tour.md");
    let mut tour = Tour::on(platform);

    tour.play(&document).await;
    // Here, because the tour has set the variables.
    let contract = text("docs/contract.md");
    let shell = blocks(section(&contract, "How to connect"));
    for (_, block) in shell.iter().filter(|(language, _)| language == "sh") {
        tour.run_block(block).await;
    }

    assert!(tour.commands > 15, "only {} commands", tour.commands);
    tour.platform.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_tour_goes_as_it_says() {
    play_the_readme(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_tour_goes_over_tls_too() {
    play_the_readme(&["--tls"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_long_tour_goes_as_it_says() {
    let _permit = shared().await;

    play_the_long_tour(Platform::start(&[])).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a platform whose state TOUR_STATE names: make compose"]
async fn the_long_tour_goes_on_a_platform_in_containers() {
    let state = std::env::var_os("TOUR_STATE").expect("TOUR_STATE");

    play_the_long_tour(Platform::running(state.into())).await;
}

#[test]
fn each_make_command_of_the_documents_is_a_target() {
    let makefile = text("Makefile");
    let is_target = |name: &str| {
        let rule = format!("{name}:");
        makefile.lines().any(|line| line.starts_with(&rule))
    };
    let mut named = 0;

    for path in documents() {
        let document = fs::read_to_string(&path).expect("a document");

        for target in make_targets(&document) {
            assert!(is_target(target), "{}: make {target}", path.display());
            named += 1;
        }
    }

    assert!(named >= 4, "only {named} commands were found");
}

/// `.ci/compose` runs them with a project and ports of its own.
#[test]
fn each_compose_command_of_the_document_is_run() {
    let document = text("docs/containers.md");
    let script = text(".ci/compose");
    let mut named = 0;

    for (_, block) in blocks(&document) {
        for line in block.lines() {
            let Some(words) = line.strip_prefix("docker compose ") else {
                continue;
            };
            let command = words
                .split(' ')
                .find(|word| !word.starts_with("--") && *word != "development")
                .expect("a command");
            assert!(script.contains(&format!("compose {command} ")), "{line}");
            named += 1;
        }
    }

    assert!(named >= 6, "only {named} commands were found");
}

#[test]
fn the_settings_of_operations_are_enough_for_a_worker() {
    let document = text("docs/operations.md");
    let (_, toml) = blocks(&document)
        .into_iter()
        .find(|(language, _)| language == "toml")
        .expect("a block of settings");

    let settings = read_settings(&toml);

    settings.check().expect("complete");
}
