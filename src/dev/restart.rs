//! Starting a part of the running platform again: another process writes its name into a file, and the platform, which
//! looks there now and then, answers in another.

use super::Platform;
use anyhow::{Context as _, bail};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Holds the name of what is to be started again.
const ASKED: &str = "restart";
/// Holds what came of it: nothing where all went well.
const ANSWER: &str = "restart.done";
/// How long the platform may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the platform that keeps its state there to start a part again; ends when it runs.
pub fn ask(state: &Path, name: &str) -> anyhow::Result<()> {
    if !state.join("dev.json").exists() {
        bail!(
            "no platform runs here: start it with `gofavorites dev`, or name its directory with --state"
        );
    }
    let _ = fs::remove_file(state.join(ANSWER));
    // Written beside, and named when it is whole.
    let draft = state.join(format!("{ASKED}.new"));
    fs::write(&draft, name)?;
    fs::rename(&draft, state.join(ASKED))?;
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Ok(answer) = fs::read_to_string(state.join(ANSWER)) {
            let _ = fs::remove_file(state.join(ANSWER));
            return if answer.is_empty() {
                Ok(())
            } else {
                bail!("{answer}")
            };
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the platform does not answer");
}

/// Does what was asked for, if anything was. Gives what to tell about it.
pub(super) async fn look(platform: &mut Platform, state: &Path) -> anyhow::Result<Option<String>> {
    let Ok(name) = fs::read_to_string(state.join(ASKED)) else {
        return Ok(None);
    };
    fs::remove_file(state.join(ASKED))?;
    let (told, answer) = match restart(platform, name.trim()).await {
        Ok(()) => (format!("{} was started again", name.trim()), String::new()),
        Err(error) => (
            format!("{} could not be started again: {error:#}", name.trim()),
            format!("{error:#}"),
        ),
    };
    let draft = state.join(format!("{ANSWER}.new"));
    fs::write(&draft, answer)?;
    fs::rename(&draft, state.join(ANSWER))?;
    Ok(Some(told))
}

async fn restart(platform: &mut Platform, name: &str) -> anyhow::Result<()> {
    let known = platform.names();
    let process = platform.process(name);
    let process =
        process.with_context(|| format!("there is no {name}; there are: {}", known.join(", ")))?;
    if process.ended().is_none() {
        process.kill9()?;
    }
    match name {
        "auth" => platform.restart_auth(),
        "postgres" => platform.restart_postgres().await,
        "maintain" => platform.restart_maintain(),
        _ => match platform.worker_named(name) {
            Some((shard, worker)) => platform.restart_worker(shard, worker).await,
            None => platform.restart_server(name).await,
        },
    }
}
