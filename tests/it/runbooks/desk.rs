//! An operator's desk: a shell with the variables and functions of the page, in which the commands
//! of a runbook are run as they stand there.
//!
//! Three programs are not on the machine of a test: `ssh`, `systemctl` and `nats`. Scripts of these
//! names take their place. `ssh` runs its command here; the other two hand theirs to this process,
//! see `machines.rs`.

use super::machines::Machines;
use crate::harness::World;
use crate::pages::{blocks, section, text};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::time::sleep;

/// The page with the runbooks.
pub const PAGE: &str = "docs/runbooks.md";

/// The section of the page that says how the shell is set up.
pub const SETUP: &str = "Set up your shell";

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(180);

/// How often it is looked whether a command has ended, or has something for a machine.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Runs the command of its arguments as the machine that its first argument names.
const SSH: &str = "#!/bin/sh\nMACHINE=$1; export MACHINE; shift\nexec sh -c \"$*\"\n";

/// Hands its name and its arguments to this process, and prints what that answers. Ends with it.
const HANDED_OVER: &str = "#!/bin/sh\n\
    call=$CALLS/$$\n\
    printf '%s\\0' \"$MACHINE\" \"${0##*/}\" \"$@\" >\"$call.new\"; mv \"$call.new\" \"$call.call\"\n\
    while [ ! -e \"$call.done\" ]; do kill -0 \"$DESK\" || exit; sleep 0.02; done\n\
    cat \"$call.done\"; rm \"$call.done\"\n";

/// The desk, with the machines that can be reached from it.
pub struct Desk {
    pub machines: Machines,
    directory: PathBuf,
    /// The values of the page's variables, which are addresses, paths and passwords.
    variables: BTreeMap<&'static str, String>,
    /// The functions of the page's shell.
    functions: String,
}

impl Desk {
    /// Puts up a desk for these machines, with this program as the release that is installed.
    pub fn new(mut machines: Machines) -> Self {
        let directory = machines.world().directory.join("desk");
        let place = |name: &str| {
            let place = directory.join(name);
            fs::create_dir_all(&place).expect("a directory");
            place.display().to_string()
        };
        let world = machines.world();
        let variables = BTreeMap::from([
            ("ETC", place("etc")),
            ("BIN", place("bin")),
            ("RELEASES", place("releases")),
            ("BACKUPS", place("backups")),
            ("NATS", world.directory.display().to_string()),
            ("POSTGRES", world.shared.postgres.url("postgres")),
            ("DATABASE", world.database("a")),
            (
                "DATABASE_URL",
                world.shared.postgres.url(&world.database("a")),
            ),
            ("GOFAVORITES_URL", world.nats.url()),
            ("GOFAVORITES_USER", "operator".into()),
            (
                "GOFAVORITES_PASSWORD_FILE",
                format!("{}/operator.password", place("etc")),
            ),
        ]);
        place("calls");
        fs::write(directory.join("kept"), "").expect("written");

        let bin = directory.join("bin");
        for (name, script) in [
            ("ssh", SSH),
            ("systemctl", HANDED_OVER),
            ("nats", HANDED_OVER),
        ] {
            write_script(&bin.join(name), script);
        }
        let this = directory.join("releases/0.1.0");
        fs::create_dir_all(&this).expect("a directory");
        symlink(env!("CARGO_BIN_EXE_gofavorites"), this.join("gofavorites")).expect("a link");
        symlink(this.join("gofavorites"), bin.join("gofavorites")).expect("a link");
        machines.etc = directory.join("etc");
        machines.program = bin.join("gofavorites");

        let page = text(PAGE);
        let functions = functions(section(&page, SETUP), &variables);
        Self {
            machines,
            directory,
            variables,
            functions,
        }
    }

    /// The world of the test.
    pub fn world(&self) -> &World {
        self.machines.world()
    }

    /// Returns the place of that name on the desk, such as `etc/shard-a.toml`.
    pub fn place(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes the page's variable have another value.
    pub fn set(&mut self, name: &'static str, value: &str) {
        let before = self.variables.insert(name, value.to_owned());
        assert!(before.is_some(), "{name} is no variable of the page");

        // What a command set stays: only this one is set again.
        let mut kept = self.kept();
        kept.push_str(&format!("export {name}='{value}'\n"));
        fs::write(self.directory.join("kept"), kept).expect("written");
    }

    /// Returns the variables that earlier commands set, as a script.
    fn kept(&self) -> String {
        fs::read_to_string(self.directory.join("kept")).expect("a script")
    }

    /// Makes the page's variables those of this shard's database.
    pub fn turn_to(&mut self, shard: &str) {
        let database = self.world().database(shard);
        let url = self.world().shared.postgres.url(&database);
        self.set("DATABASE", &database);
        self.set("DATABASE_URL", &url);
    }

    /// Takes a backup with the program.
    pub async fn back_up(&mut self) {
        let create =
            "as backup gofavorites backup create \"$BACKUPS\" --config \"$ETC/bucket.toml\"";
        let (taken, printed) = self.run(create).await;
        assert!(taken, "{printed}");
    }

    /// Waits until the shard knows that the bucket has lost history.
    pub async fn until_lost(&mut self) {
        let wait = "until gofavorites shard | grep 'lost history'; do sleep 1; done";
        let (noticed, printed) = self.run(wait).await;
        assert!(noticed, "{printed}");
    }

    /// Runs a command in a shell with the page's functions, and with the variables that earlier
    /// commands set. Returns whether it succeeded, and all that it printed.
    pub async fn run(&mut self, command: &str) -> (bool, String) {
        let script = format!(
            "{}\n. \"$KEPT\"\n{command}\ncode=$?; export -p >\"$KEPT\"; exit $code",
            self.functions
        );
        let printed = self.directory.join("printed");
        let output = fs::File::create(&printed).expect("a file");
        let postgres = &self.world().shared.servers.postgres_bin;
        let path = std::env::var("PATH").expect("a path");
        let path = format!("{}:{}:{path}", self.variables["BIN"], postgres.display());

        let mut shell = Command::new("sh")
            .args(["-c", &format!("set -a\n{script}")])
            .env_clear()
            .envs(&self.variables)
            .env("PATH", path)
            .env("KEPT", self.directory.join("kept"))
            .env("CALLS", self.directory.join("calls"))
            .env("MACHINE", "desk")
            .env("DESK", std::process::id().to_string())
            .env("NO_COLOR", "1")
            .env("HOME", &self.directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .expect("sh");

        let begun = Instant::now();
        let status = loop {
            if let Some(status) = shell.try_wait().expect("a status") {
                break status;
            }
            assert!(begun.elapsed() < COMMAND_TIMEOUT, "{command} does not end");
            self.answer_calls().await;
            sleep(POLL_INTERVAL).await;
        };

        let printed = fs::read_to_string(printed).expect("a text");
        (status.success(), printed)
    }

    /// Does what the stand-ins were asked for.
    async fn answer_calls(&mut self) {
        for entry in fs::read_dir(self.directory.join("calls")).expect("a directory") {
            let call = entry.expect("an entry").path();
            if call.extension().is_none_or(|extension| extension != "call") {
                continue;
            }

            let words = fs::read_to_string(&call).expect("a call");
            fs::remove_file(&call).expect("removed");
            let words: Vec<&str> = words.split_terminator('\0').collect();
            let answer = self.machines.obey(&words).await;

            let unfinished = call.with_extension("unfinished");
            fs::write(&unfinished, answer).expect("written");
            fs::rename(&unfinished, call.with_extension("done")).expect("renamed");
        }
    }
}

/// Returns the functions of the page's shell. Each line that sets a variable has to set one that has
/// a value here, and nothing else is left out.
fn functions(setup: &str, variables: &BTreeMap<&str, String>) -> String {
    let (_, block) = blocks(setup)
        .into_iter()
        .find(|(language, _)| language == "sh")
        .expect("a block of commands");

    let mut functions = String::new();
    for line in block.lines() {
        match line.strip_prefix("export ") {
            Some(assignment) => {
                let (name, _) = assignment.split_once('=').expect("a value");
                assert!(variables.contains_key(name), "{name} has no value here");
            }
            None => {
                functions.push_str(line);
                functions.push('\n');
            }
        }
    }

    functions
}

/// Writes a script that can be run.
pub fn write_script(file: &Path, script: &str) {
    fs::write(file, script).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("executable");
}
