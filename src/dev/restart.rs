//! Restarts parts of the running platform on request.
//!
//! Another process writes the names of the parts into a file. The platform polls that file, and
//! writes the outcome into another one.

use super::Platform;
use super::state::{RunningPlatform, is_locked, no_platform};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The file with the names of the parts to restart, one a line.
const REQUEST_FILE: &str = "restart";

/// The file with the outcome, an [`Answer`].
const ANSWER_FILE: &str = "restart.done";

/// How long the platform may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What the platform did.
#[derive(Default, Serialize, Deserialize)]
struct Answer {
    /// The parts that run again.
    restarted: Vec<String>,
    /// Why it stopped there.
    error: Option<String>,
}

/// Asks the platform that keeps its state in `state` to restart parts, and waits until they run. A
/// name is that of a part, `worker-a` for all workers of that shard, or `all`. Calls `report` with
/// the name of each part that was restarted.
///
/// # Errors
///
/// No platform keeps its state there, it does not answer in time, or it cannot restart a part.
pub fn ask(state: &Path, names: &[String], mut report: impl FnMut(&str)) -> anyhow::Result<()> {
    RunningPlatform::find(state)?.has_processes()?;

    let _ = fs::remove_file(state.join(ANSWER_FILE));
    replace(state, REQUEST_FILE, &names.join("\n"))?;

    let start = Instant::now();
    while start.elapsed() < ANSWER_TIMEOUT {
        if let Ok(answer) = fs::read(state.join(ANSWER_FILE)) {
            let _ = fs::remove_file(state.join(ANSWER_FILE));
            let answer: Answer = serde_json::from_slice(&answer)?;
            for name in &answer.restarted {
                report(name);
            }
            return answer.error.map_or(Ok(()), |error| bail!("{error}"));
        }
        if !is_locked(state)? {
            bail!(no_platform(state));
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    bail!("the platform does not answer");
}

/// Executes a pending request, if there is one. Returns a message about what was restarted; the
/// process that asked prints an error.
pub(super) async fn poll(platform: &mut Platform, state: &Path) -> anyhow::Result<Option<String>> {
    let request_file = state.join(REQUEST_FILE);
    let Ok(request) = fs::read_to_string(&request_file) else {
        return Ok(None);
    };
    fs::remove_file(&request_file).with_context(|| request_file.display().to_string())?;

    let answer = execute(platform, &request).await;
    replace(state, ANSWER_FILE, &serde_json::to_string(&answer)?)?;

    let restarted = answer.restarted.join(", ");
    Ok((!restarted.is_empty()).then(|| format!("restarted: {restarted}")))
}

async fn execute(platform: &mut Platform, request: &str) -> Answer {
    let mut answer = Answer::default();
    let names = match chosen(request.lines(), &platform.process_names()) {
        Ok(names) => names,
        Err(error) => {
            answer.error = Some(format!("{error:#}"));
            return answer;
        }
    };

    for name in names {
        if let Err(error) = restart(platform, &name).await {
            answer.error = Some(format!("{name} could not be restarted: {error:#}"));
            break;
        }
        answer.restarted.push(name);
    }

    answer
}

/// Returns the parts that were asked for, in the order of `all`.
fn chosen<'a>(asked: impl Iterator<Item = &'a str>, all: &[String]) -> anyhow::Result<Vec<String>> {
    let mut is_chosen = vec![false; all.len()];

    for name in asked {
        let is_worker = |part: &str| {
            let number = part
                .strip_prefix(name)
                .and_then(|end| end.strip_prefix('-'));
            number.is_some_and(|number| number.parse::<usize>().is_ok())
        };
        let mut found = false;
        for (part, is_chosen) in all.iter().zip(&mut is_chosen) {
            if name == "all" || part == name || is_worker(part) {
                *is_chosen = true;
                found = true;
            }
        }
        if !found {
            bail!(
                "there is no part {name}; the parts are: {}, and all",
                all.join(", ")
            );
        }
    }

    let chosen = all
        .iter()
        .zip(is_chosen)
        .filter(|(_, is_chosen)| *is_chosen);
    Ok(chosen.map(|(part, _)| part.clone()).collect())
}

/// Writes a draft and renames it, so that no reader sees an incomplete file.
fn replace(state: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    let draft = state.join(format!("{file}.new"));
    fs::write(&draft, text).with_context(|| draft.display().to_string())?;
    fs::rename(&draft, state.join(file)).with_context(|| draft.display().to_string())?;

    Ok(())
}

async fn restart(platform: &mut Platform, name: &str) -> anyhow::Result<()> {
    let process = platform.find_process(name).context("it is gone")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_part_for_a_shards_workers_or_for_all() {
        let all = ["nats", "postgres", "worker-a-0", "worker-a-1", "worker-b-0"].map(str::to_owned);
        let choose = |asked: &[&str]| chosen(asked.iter().copied(), &all);

        let of_a = choose(&["worker-a"]).expect("two");
        let mixed = choose(&["worker-b-0", "nats", "nats"]).expect("two");
        let every = choose(&["all"]).expect("all");

        assert_eq!(of_a, ["worker-a-0", "worker-a-1"]);
        assert_eq!(mixed, ["nats", "worker-b-0"]);
        assert_eq!(every, all);
        for unknown in ["worker", "worker-a-", "nat", ""] {
            assert!(choose(&["nats", unknown]).is_err(), "{unknown}");
        }
    }
}
