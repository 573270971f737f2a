//! A child process that does not outlive this process.

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process of an earlier run may take to disappear after `SIGKILL`.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A child process and its guard.
///
/// The child has a process group of its own, so that Ctrl-C in the terminal reaches only this
/// process. The guard is a shell that waits until a pipe from this process closes, and then kills
/// the child. The pipe closes however this process ends, even by `kill -9`.
#[derive(Debug)]
pub struct ChildProcess {
    name: String,
    child: Child,
    /// None as soon as the child has ended: the guard must not kill an unrelated process that later
    /// gets the same id.
    guard: Option<Child>,
    log: PathBuf,
}

impl ChildProcess {
    /// Starts `command` and appends its output to `log`.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;

        // From here on, `drop` kills the child if its guard cannot be started.
        let mut process = Self {
            name: name.to_owned(),
            child,
            guard: None,
            log: log.to_owned(),
        };
        process.guard = Some(spawn_guard(process.pid())?);

        Ok(process)
    }

    /// The name in messages and in `dev restart`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file of its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal, unless the process has ended. `SIGSTOP` pauses it, `SIGCONT` resumes it.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // No other process can get this id before the child is waited for, and only `ended` and
        // `kill9` wait for it.
        if self.ended().is_some() {
            return Ok(());
        }

        kill(Pid::from_raw(i32::try_from(self.pid())?), signal)
            .with_context(|| format!("{signal} to {}", self.name))
    }

    /// Returns how the process ended, or none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() {
            self.dismiss_guard();
        }

        status
    }

    /// Kills the process at once, as a crash would.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .with_context(|| format!("{} cannot be ended", self.name))?;
        self.dismiss_guard();
        self.child.wait()?;

        Ok(())
    }

    /// Asks the process to end by `signal`, and kills it after `timeout`. Returns how it ended.
    pub fn stop(&mut self, signal: Signal, timeout: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        // A paused process handles the signal only when it resumes.
        self.signal(Signal::SIGCONT)?;

        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }

        self.kill9()?;
        self.ended().context("it was killed and has no status")
    }

    /// Returns the last 15 lines of its output.
    pub fn last_lines(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();

        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn dismiss_guard(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.dismiss_guard();
        let _ = self.child.wait();
    }
}

fn spawn_guard(pid: u32) -> anyhow::Result<Child> {
    Command::new("sh")
        .args([
            "-c",
            "cat >/dev/null; kill -9 \"$0\" 2>/dev/null",
            &pid.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("sh cannot be started")
}

/// Records a process for [`end_recorded`]. The command line of that process must contain `marker`,
/// and no unrelated one may.
pub fn record(file: &Path, process: &ChildProcess, marker: &Path) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .with_context(|| file.display().to_string())?;
    writeln!(file, "{} {}", process.pid(), marker.display())?;

    Ok(())
}

/// Kills the processes that an earlier run recorded and left behind, and waits until they are gone.
/// A process is spared if its command line does not contain the recorded marker.
///
/// Usually the guards have already done this; they may have been killed themselves.
pub fn end_recorded(file: &Path) -> anyhow::Result<()> {
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        let Some((pid, marker)) = line.split_once(' ') else {
            continue;
        };
        let Ok(number) = pid.parse::<i32>() else {
            continue;
        };

        let deadline = Instant::now() + KILL_TIMEOUT;
        while number > 1 && command_line(pid).contains(marker) {
            if Instant::now() > deadline {
                bail!("process {pid} of an earlier run cannot be ended");
            }
            let _ = kill(Pid::from_raw(number), Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    if file.exists() {
        fs::remove_file(file).with_context(|| file.display().to_string())?;
    }

    Ok(())
}

/// Returns whether the process runs. One that ended and has not been waited for does not.
pub(super) fn is_running(pid: u32) -> bool {
    pid > 0 && !command_line(&pid.to_string()).trim().is_empty()
}

/// Returns the command line of a process, or an empty text if the process is gone. Systems without
/// `/proc` have `ps`.
fn command_line(pid: &str) -> String {
    if Path::new("/proc/self/cmdline").exists() {
        let line = fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
        return String::from_utf8_lossy(&line).replace('\0', " ");
    }

    // -ww: otherwise `ps` cuts the line at the width of the terminal.
    let output = Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", pid])
        .output();

    output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(mut done: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);

        while Instant::now() < deadline {
            if done() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }

        false
    }

    #[test]
    fn a_process_is_ended_by_its_handle_and_its_record() {
        let directory = tempfile::tempdir().expect("a directory");
        let marker = directory.path().join("marker");
        let mut sleep = Command::new("sh");
        sleep.args(["-c", "echo here; sleep 60; :"]).arg(&marker);
        let mut process = ChildProcess::spawn("sleep", &mut sleep, &directory.path().join("log"))
            .expect("started");
        let file = directory.path().join("pids");
        record(&file, &process, &marker).expect("recorded");
        assert!(process.ended().is_none());

        // A record with another marker does not end the process.
        let other = directory.path().join("other");
        fs::write(&other, format!("{} /no/such/marker\n", process.pid())).expect("written");
        end_recorded(&other).expect("nothing to do");
        assert!(process.ended().is_none());

        std::thread::scope(|scope| {
            scope.spawn(|| end_recorded(&file).expect("ended"));
            assert!(wait_for(|| process.ended().is_some()));
        });
        assert!(!file.exists());
        assert!(is_running(std::process::id()) && !is_running(process.pid()));
    }

    #[test]
    fn the_guard_ends_the_process_and_is_gone_after_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let start = || {
            let mut sleep = Command::new("sleep");
            sleep.arg("60");
            ChildProcess::spawn("sleep", &mut sleep, &directory.path().join("log"))
                .expect("started")
        };

        // The system closes this pipe when this process ends.
        let mut orphan = start();
        drop(orphan.guard.as_mut().expect("a guard").stdin.take());
        assert!(wait_for(|| orphan.ended().is_some()));

        let mut killed = start();
        killed.kill9().expect("killed");
        assert!(
            killed.guard.is_none(),
            "no guard is left that could kill an unrelated process"
        );
    }

    #[test]
    fn a_process_asked_to_stop_ends_in_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let mut deaf = Command::new("sh");
        deaf.args([
            "-c",
            "trap '' TERM; echo deaf; while :; do sleep 0.05; done",
        ]);
        let mut process = ChildProcess::spawn("deaf", &mut deaf, &log).expect("started");
        assert!(wait_for(|| process.last_lines() == "deaf"));

        let status = process
            .stop(Signal::SIGTERM, Duration::from_millis(200))
            .expect("ended");

        assert!(!status.success());
    }

    #[test]
    fn a_paused_process_can_be_stopped() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let mut process = ChildProcess::spawn("sleep", &mut sleep, &directory.path().join("log"))
            .expect("started");
        process.signal(Signal::SIGSTOP).expect("paused");

        let start = Instant::now();
        process
            .stop(Signal::SIGTERM, Duration::from_secs(20))
            .expect("ended");

        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
