//! The clients in `examples/`: each is installed and run as its README has it, and is answered once
//! and right although the only worker is killed between a write and its reply. The programs in those
//! READMEs and under "How to connect" in the contract run too, as they stand.
//!
//! What they need is installed below `target/examples`, once for each lock file. An example whose
//! tools are not on this machine is left out, and the output names it.

use crate::harness::World;
use crate::pages::{blocks, section, text};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a program may take to get somewhere, with the restart of a worker on a busy machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// How many writes each program makes: three puts, a taken code and three deletions.
const WRITES: u64 = 7;

/// What an installation leaves behind. It is not copied.
const INSTALLED: [&str; 4] = [".venv", "__pycache__", "dist", "node_modules"];

/// An example.
struct Example {
    name: &'static str,
    tools: &'static [&'static str],
    /// The file that fixes its dependencies.
    lock: &'static str,
    /// The language of the code blocks that are programs.
    language: &'static str,
    /// Where such a program is saved.
    program: &'static str,
    /// How it is run.
    run_program: &'static str,
}

const GO: Example = Example {
    name: "go",
    tools: &["go"],
    lock: "go.sum",
    language: "go",
    program: "saved/main.go",
    run_program: "go run ./saved",
};

const PYTHON: Example = Example {
    name: "python",
    tools: &["python3"],
    lock: "requirements.txt",
    language: "python",
    program: "saved.py",
    run_program: ".venv/bin/python saved.py",
};

const TYPESCRIPT: Example = Example {
    name: "typescript",
    tools: &["node", "npm"],
    lock: "package-lock.json",
    language: "ts",
    program: "src/saved.ts",
    run_program: "npm run build\nnode dist/saved.js",
};

/// Copies an example without what is installed in it.
fn copy_source(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");

    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());

        if entry.file_type().expect("a type").is_file() {
            fs::copy(entry.path(), target).expect("copied");
        } else if !INSTALLED.contains(&entry.file_name().to_string_lossy().as_ref()) {
            copy_source(&entry.path(), &target);
        }
    }
}

/// A program of an example under way, which is killed when it is dropped.
struct Run {
    child: Child,
    output: tempfile::NamedTempFile,
}

impl Run {
    fn output(&self) -> String {
        fs::read_to_string(self.output.path()).expect("an output")
    }

    /// Waits until the program has ended in order, and returns what it printed.
    async fn finish(mut self) -> String {
        let start = Instant::now();

        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                assert!(status.success(), "{}", self.output());
                return self.output();
            }

            assert!(start.elapsed() < STEP_TIMEOUT, "{}", self.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Example {
    /// Returns whether its tools are here, and names those that are not.
    fn is_possible(&self) -> bool {
        let is_here = |tool: &&str| {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .stdout(Stdio::null())
                .status();
            found.is_ok_and(|status| status.success())
        };
        let missing: Vec<_> = self.tools.iter().filter(|tool| !is_here(tool)).collect();

        for tool in &missing {
            println!("the example in {} is left out: no {tool}", self.name);
        }
        missing.is_empty()
    }

    /// Where it is installed.
    fn place(&self) -> PathBuf {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/examples");

        target.join(self.name)
    }

    /// Returns the commands of one block of its README, without those that lead to the directory
    /// and that set the user's variables: the test does both.
    fn commands(&self, block: usize) -> String {
        let readme = text(&format!("examples/{}/README.md", self.name));
        let mut shell_blocks = blocks(&readme);
        shell_blocks.retain(|(language, _)| language == "sh");
        let (_, commands) = shell_blocks.swap_remove(block);
        let is_kept = |line: &&str| !line.starts_with("cd ") && !line.starts_with(". ");

        commands
            .lines()
            .filter(is_kept)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-ec", script])
            .current_dir(self.place())
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("npm_config_update_notifier", "false")
            .stdin(Stdio::null());

        command
    }

    /// Installs it, unless that was done with the same dependencies.
    fn install(&self) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let mark = self.place().join(".installed");
        copy_source(&source.join(self.name), &self.place());

        let lock = fs::read_to_string(self.place().join(self.lock)).expect("a lock file");
        let wanted = format!("{}\n{lock}", self.commands(0));
        if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
            return;
        }

        let output = self.shell(&self.commands(0)).output().expect("sh");
        assert!(output.status.success(), "{}: {output:?}", self.name);
        fs::write(mark, wanted).expect("written");
    }

    /// Starts commands as alice, through that NATS user.
    fn start(&self, script: &str, world: &World, user: &str, variables: &[(&str, &str)]) -> Run {
        let output = tempfile::NamedTempFile::new().expect("a file");
        let file = output.reopen().expect("a file");
        let token = world.token(
            "alice",
            gofavorites::dev::tokens::ALL_SCOPES,
            Duration::from_secs(600),
        );

        let child = self
            .shell(script)
            .env("GOFAVORITES_URL", world.nats.url())
            .env("GOFAVORITES_USER", user)
            .env("GOFAVORITES_PASSWORD", world.secrets.nats(user))
            .env("GOFAVORITES_TOKEN", token)
            .env_remove("GOFAVORITES_INBOX_PREFIX")
            .env_remove("GOFAVORITES_TLS_CA")
            .env("EXAMPLE_TIMEOUT_S", STEP_TIMEOUT.as_secs().to_string())
            .envs(variables.iter().copied())
            .stdout(file.try_clone().expect("a file"))
            .stderr(file)
            .spawn()
            .expect("sh");

        Run { child, output }
    }

    /// Saves the program of a document as it stands and runs it. Returns what it printed.
    async fn run_saved(&self, document: &str, world: &World) -> String {
        let (_, program) = blocks(document)
            .into_iter()
            .find(|(language, _)| language == self.language)
            .expect("a program in that language");
        let file = self.place().join(self.program);
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(&file, program).expect("written");

        let run = self.start(self.run_program, world, "gateway", &[]);
        run.finish().await
    }
}

/// Keeps the projection of shard a from going on, so that a reply waits for its row.
fn hold_projection(world: &World) -> JoinHandle<()> {
    let shared = world.shared;
    let database = world.database("a");

    let holding = std::thread::spawn(move || {
        let hold = "begin; select 1 from cursor for update; select pg_sleep(120)";
        // It ends with an error when it is released.
        let _ = shared.postgres.query(&database, hold);
    });
    while world.query("a", &format!("select count(*) {ASLEEP}")) == "0" {
        std::thread::sleep(Duration::from_millis(10));
    }

    holding
}

/// The session that holds the projection.
const ASLEEP: &str = "from pg_stat_activity where datname = current_database() \
                      and wait_event = 'PgSleep' and query like '%pg_sleep(120)%'";

fn release_projection(world: &World, holding: JoinHandle<()>) {
    world.query("a", &format!("select pg_terminate_backend(pid) {ASLEEP}"));
    holding.join().expect("no panic");
}

async fn count_records(world: &World) -> u64 {
    world.records().await.values().sum()
}

/// Runs the program. Kills the only worker when so many of its writes are stored, and before the
/// program has printed this line. Then starts another one. Returns what the program printed.
async fn run_through_an_outage(
    example: &Example,
    world: &World,
    user: &str,
    kill_after: (u64, &str),
    variables: &[(&str, &str)],
) -> String {
    let (writes, line) = kill_after;
    let mut settings = world.settings("a");
    // Longer than a client gives each try: a write waits until its time is nearly up. One that had
    // waited so long in vain would spare the next ones the wait.
    settings.write.local_wait_ms = 10_000;
    let mut worker = world.serve(settings);
    worker.is_ready().await;
    let before = count_records(world).await;
    let holding = hold_projection(world);

    let run = example.start(&example.commands(1), world, user, variables);
    let start = Instant::now();
    while count_records(world).await < before + writes {
        assert!(start.elapsed() < STEP_TIMEOUT, "{}", run.output());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.signal(Signal::SIGKILL);
    worker.ended().await;
    assert!(!run.output().contains(line), "answered before the kill");

    release_projection(world, holding);
    let mut next = world.serve(world.settings("a"));
    next.is_ready().await;
    let output = run.finish().await;

    assert_eq!(count_records(world).await, before + WRITES, "{output}");
    output
}

/// Goal: the client of an example is answered once and right, whatever happens to the worker.
///
/// Method: the program runs twice, as each kind of calling service. The only worker gets `kill -9`
/// between the first put, or a taken code, and its reply. The second run continues from a copy of a
/// history that the bucket no longer has. The bucket must have each write once, and the run must
/// learn that an item of that copy has vanished. It stores its copy.
async fn play(example: &Example) {
    if !example.is_possible() {
        return;
    }
    example.install();
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let mut worker = world.serve(world.settings("a"));
    worker.is_ready().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "mine", "x").await;

    let contract = text("docs/contract.md");
    let readme = text(&format!("examples/{}/README.md", example.name));
    for document in [section(&contract, "How to connect"), &readme] {
        let output = example.run_saved(document, &world).await;
        assert!(output.contains("stored the note as version "), "{output}");
        let note = json!({"kind": "text", "id": "note"});
        let note = alice.done("a.get", &note).await;
        assert_eq!(note["item"]["data"]["text"], "milk");
        alice
            .done("a.delete", &json!({"kind": "text", "id": "note"}))
            .await;
    }
    alice.put_text("a", "note", "milk").await;

    worker.signal(Signal::SIGTERM);
    worker.ended().await;
    let kept = tempfile::NamedTempFile::new().expect("a file");
    let vanished = json!({
        "items": {"text/vanished": {"kind": "text", "id": "vanished", "version": 1}},
        "since": 1,
        "epoch": "gone",
    });
    fs::write(kept.path(), vanished.to_string()).expect("written");
    let path = kept.path().to_str().expect("a path");
    let continues = [("EXAMPLE_COPY", path)];
    let first = run_through_an_outage(example, &world, "gateway", (1, "put "), &[]).await;
    let second = run_through_an_outage(example, &world, "direct", (4, "took "), &continues).await;

    assert!(
        second.contains("deleted since then: text/vanished\n"),
        "{second}"
    );
    let stored: Value = serde_json::from_slice(&fs::read(path).expect("a copy")).expect("JSON");
    assert_eq!(stored["items"].as_object().expect("an object").len(), 5);
    assert_ne!(stored["epoch"], "gone");
    for output in [first, second] {
        for line in [
            "put DE0007164600 at version ",
            "refused: invalid_item (422), data.currency\n",
            "listed 3, with DE0007164600: ",
            "got SAP at version ",
            "a code of 6 digits\n",
            "took 4417-2093, 1 left\n",
            "followed the changes, and hold 5 items\n",
            "deleted all three\n",
        ] {
            assert!(output.contains(line), "{line}: {output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_go_survives_an_outage() {
    play(&GO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_survives_an_outage() {
    play(&PYTHON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_typescript_survives_an_outage() {
    play(&TYPESCRIPT).await;
}
