//! Restarts a part of the running platform on request.
//!
//! Another process writes the part's name into a file. The platform polls that file, and writes the
//! outcome into another one.

use super::Platform;
use super::state::{RunningPlatform, is_locked, no_platform};
use anyhow::{Context as _, bail};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The file with the name of the part to restart.
const REQUEST_FILE: &str = "restart";

/// The file with the outcome: empty after success, else the error.
const ANSWER_FILE: &str = "restart.done";

/// How long the platform may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the platform that keeps its state in `state` to restart a part, and waits until it runs.
///
/// # Errors
///
/// No platform keeps its state there, it does not answer in time, or it cannot restart that part.
pub fn ask(state: &Path, name: &str) -> anyhow::Result<()> {
    RunningPlatform::find(state)?.has_processes()?;
    let _ = fs::remove_file(state.join(ANSWER_FILE));
    replace(state, REQUEST_FILE, name)?;

    let start = Instant::now();
    while start.elapsed() < ANSWER_TIMEOUT {
        if let Ok(answer) = fs::read_to_string(state.join(ANSWER_FILE)) {
            let _ = fs::remove_file(state.join(ANSWER_FILE));
            return if answer.is_empty() {
                Ok(())
            } else {
                bail!("{answer}")
            };
        }
        if !is_locked(state)? {
            bail!(no_platform(state));
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    bail!("the platform does not answer");
}

/// Executes a pending request, if there is one. Returns a message about its outcome.
pub(super) async fn poll(platform: &mut Platform, state: &Path) -> anyhow::Result<Option<String>> {
    let Ok(request) = fs::read_to_string(state.join(REQUEST_FILE)) else {
        return Ok(None);
    };
    fs::remove_file(state.join(REQUEST_FILE))?;

    let name = request.trim();
    let (message, answer) = match restart(platform, name).await {
        Ok(()) => (format!("{name} was restarted"), String::new()),
        Err(error) => (
            format!("{name} could not be restarted: {error:#}"),
            format!("{error:#}"),
        ),
    };
    replace(state, ANSWER_FILE, &answer)?;

    Ok(Some(message))
}

/// Writes a draft and renames it, so that no reader sees an incomplete file.
fn replace(state: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    let draft = state.join(format!("{file}.new"));
    fs::write(&draft, text).with_context(|| draft.display().to_string())?;
    fs::rename(&draft, state.join(file)).with_context(|| draft.display().to_string())?;

    Ok(())
}

async fn restart(platform: &mut Platform, name: &str) -> anyhow::Result<()> {
    let names = platform.process_names();
    let process = platform.find_process(name).with_context(|| {
        format!(
            "there is no process {name}; the processes are: {}",
            names.join(", ")
        )
    })?;
    if process.ended().is_none() {
        process.kill9()?;
    }

    match name {
        "auth" => platform.restart_auth(),
        "postgres" => platform.restart_postgres().await,
        "reference" => platform.restart_reference(),
        "maintain" => platform.restart_maintain(),
        _ => match platform.find_worker(name) {
            Some((shard, worker)) => platform.restart_worker(shard, worker).await,
            None => platform.restart_server(name).await,
        },
    }
}
