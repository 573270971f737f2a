//! Stops a running development platform from another process.

use super::state::{RunningPlatform, is_locked};
use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// How long a platform may take to stop all of its processes.
const STOP_TIMEOUT: Duration = Duration::from_secs(180);

/// Asks the platform to stop, and waits until it has.
///
/// # Errors
///
/// The platform runs in containers, belongs to another user, or does not stop in time.
pub fn stop(platform: &RunningPlatform) -> anyhow::Result<()> {
    platform.has_processes()?;
    let pid = platform.description()["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .filter(|pid| *pid > 1)
        .context("dev.json does not name the process of `dev`: stop it with Ctrl-C")?;

    kill(Pid::from_raw(pid), Signal::SIGTERM)
        .with_context(|| format!("process {pid} of `dev` cannot be stopped"))?;

    let deadline = Instant::now() + STOP_TIMEOUT;
    while is_locked(platform.state())? {
        if Instant::now() > deadline {
            bail!("process {pid} of `dev` does not stop");
        }
        std::thread::sleep(Duration::from_millis(20));
    }

    Ok(())
}
