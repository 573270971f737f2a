//! Programs as operators run them: a process each, which ends with an exit code.

use super::world::World;
use gofavorites::config::{Role, Settings};
use gofavorites::domain::next;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use toml::{Table, Value};

/// How long a process may take for any step.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait before the process is checked again.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running `gofavorites serve` or `maintain`, which is killed when it is dropped.
pub struct Process {
    child: Child,
    settings: Settings,
    file: PathBuf,
    ready: PathBuf,
    log: PathBuf,
}

impl World {
    /// Starts a worker with these settings as a process, without `init`.
    pub fn serve(&self, settings: Settings) -> Process {
        self.start_program(own_program(), "serve", settings, &[], None)
    }

    /// Does the same as [`serve`](Self::serve), with another build of the program.
    pub fn serve_by(&self, program: &Path, settings: Settings) -> Process {
        self.start_program(program, "serve", settings, &[], None)
    }

    /// Does the same as [`serve`](Self::serve), with a log that goes there and not to a file.
    pub fn serve_with_log(&self, settings: Settings, log: impl Into<Stdio>) -> Process {
        self.start_program(own_program(), "serve", settings, &[], Some(log.into()))
    }

    /// Does the same as [`serve`](Self::serve), with a worker of the made-up next release.
    pub fn serve_next(&self, settings: Settings) -> Process {
        let next = [(next::VARIABLE, "1")];
        self.start_program(own_program(), "serve", settings, &next, None)
    }

    /// Starts `maintain` with these settings as a process.
    pub fn maintain(&self, mut settings: Settings) -> Process {
        self.connect_all_as(&mut settings, "maintain");
        self.start_program(own_program(), "maintain", settings, &[], None)
    }

    fn start_program(
        &self,
        program: &Path,
        command: &str,
        mut settings: Settings,
        environment: &[(&str, &str)],
        stderr: Option<Stdio>,
    ) -> Process {
        let name = uuid::Uuid::now_v7().to_string();
        let place = |end: &str| self.directory.join(format!("{name}.{end}"));
        let file = place("toml");
        let ready = place("ready");
        let log = place("log");
        settings.worker.ready_file = ready.clone();

        replace(&file, &toml_of(&settings));
        let stderr = stderr.unwrap_or_else(|| file_for(&log));
        let child = spawn(program, command, &file, environment, stderr);

        Process {
            child,
            settings,
            file,
            ready,
            log,
        }
    }

    /// Starts that program with `serve` or `maintain`, with the settings of that file and of these
    /// variables.
    pub fn start_from(
        &self,
        program: &Path,
        command: &str,
        file: &Path,
        environment: &[(&str, &str)],
    ) -> Process {
        let name = uuid::Uuid::now_v7().to_string();
        let ready = self.directory.join(format!("{name}.ready"));
        let log = self.directory.join(format!("{name}.log"));
        let ready_file = ready.to_str().expect("a path in UTF-8");
        let environment = [
            environment,
            &[("GOFAVORITES__WORKER__READY_FILE", ready_file)],
        ];
        let child = spawn(
            program,
            command,
            file,
            &environment.concat(),
            file_for(&log),
        );

        Process {
            child,
            settings: Settings::default(),
            file: file.to_owned(),
            ready,
            log,
        }
    }
}

/// The program of this build.
fn own_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_gofavorites"))
}

fn file_for(log: &Path) -> Stdio {
    fs::File::create(log).expect("a file").into()
}

fn spawn(
    program: &Path,
    command: &str,
    file: &Path,
    environment: &[(&str, &str)],
    stderr: Stdio,
) -> Child {
    Command::new(program)
        .args([command, "--config"])
        .arg(file)
        .env_remove(next::VARIABLE)
        .envs(environment.iter().copied())
        .stderr(stderr)
        .spawn()
        .expect("started")
}

impl Process {
    /// Waits until the worker is ready.
    pub async fn is_ready(&mut self) {
        self.until("ready", |this| this.ready.exists()).await;
    }

    /// Waits until the log contains that text. A line comes a little later than what it tells of: a
    /// thread of its own writes the log.
    pub async fn says(&mut self, what: &str) {
        self.says_times(what, 1).await;
    }

    /// Waits until the log contains that text so many times.
    pub async fn says_times(&mut self, what: &str, times: usize) {
        self.until(what, |this| this.log().matches(what).count() >= times)
            .await;
    }

    /// Waits until the log has a line with all of these parts, and returns it.
    pub async fn line_with(&mut self, parts: [&str; 2]) -> String {
        let line_of = |this: &Self| {
            let log = this.log();
            let mut lines = log.lines();
            lines
                .find(|line| parts.iter().all(|part| line.contains(part)))
                .map(str::to_owned)
        };

        self.until(parts[0], |this| line_of(this).is_some()).await;
        line_of(self).expect("the line is there")
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();

        while !done(self) {
            let status = self.child.try_wait().expect("a status");
            assert!(
                status.is_none(),
                "ended, and not {what}: {status:?}\n{}",
                self.log()
            );
            assert!(start.elapsed() < STEP_TIMEOUT, "not {what}\n{}", self.log());

            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns what the worker logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// Changes the settings in the worker's file.
    pub fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.write(&toml_of(&self.settings));
    }

    /// Replaces the worker's settings file, in one step.
    pub fn write(&self, text: &str) {
        replace(&self.file, text);
    }

    /// Returns how many files and connections the process has open.
    pub fn open_files(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(directory).expect("it runs").count()
    }

    /// Returns the most memory that the process ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(status).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = peak.and_then(|line| line.split_whitespace().next());
        let kib: u64 = number.and_then(|number| number.parse().ok()).expect("KiB");

        kib << 10
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().try_into().expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("signalled");
    }

    /// Waits until the process has ended, and returns its exit status.
    pub async fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();

        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }

            assert!(start.elapsed() < STEP_TIMEOUT, "it does not end");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Replaces a file in one step.
pub fn replace(file: &Path, text: &str) {
    let unfinished = file.with_extension("unfinished");
    fs::write(&unfinished, text).expect("written");
    fs::rename(&unfinished, file).expect("renamed");
}

/// Returns the text of a settings file, with the secrets.
fn toml_of(settings: &Settings) -> String {
    // The printed settings hide the secrets, so they are put back.
    let mut shown: Table = toml::from_str(&settings.shown().expect("TOML")).expect("TOML");
    for (section, field, secret) in [
        ("nats", "url", &settings.nats.url),
        ("postgres", "url", &settings.postgres.url),
        ("keys", "identity", &settings.keys.identity),
        ("keys", "encryption", &settings.keys.encryption),
    ] {
        shown[section][field] = Value::String(secret.clone());
    }
    for role in Role::ALL {
        let password = settings.nats.user(role).password.clone();
        shown["nats"][role.name()]["password"] = Value::String(password);
    }

    toml::to_string(&shown).expect("TOML")
}
