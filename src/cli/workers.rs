//! Asks all workers at once for their statistics.

use super::client::Client;
use super::failed::CommandError;
use super::output::{plain, visible, warn};
use futures::StreamExt as _;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long to wait for the first answer.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait for another answer after one came.
const NEXT_ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// How many workers are looked at, and how much of an answer: of each list, and of each text in
/// characters. A worker sends less.
const WORKERS_MAX: usize = 2_000;
const ENTRIES_MAX: usize = 64;
const TEXT_CHARS_MAX: usize = 2_000;

/// Reads the answer of a worker. `None` if it is no JSON.
pub(super) fn read_answer(payload: &[u8]) -> Option<Value> {
    let mut answer = serde_json::from_slice(payload).ok()?;
    limit(&mut answer);

    Some(answer)
}

/// Cuts off what is longer than any worker's answer: anybody may answer for a worker.
fn limit(value: &mut Value) {
    match value {
        Value::String(text) => limit_text(text),
        Value::Array(entries) => {
            entries.truncate(ENTRIES_MAX);
            entries.iter_mut().for_each(limit);
        }
        Value::Object(fields) => {
            let all = std::mem::take(fields).into_iter();
            *fields = all
                .take(ENTRIES_MAX)
                .map(|(mut name, mut value)| {
                    limit_text(&mut name);
                    limit(&mut value);
                    (name, value)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn limit_text(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
    }
}

/// Fails if no worker is better than unhealthy.
pub(super) fn refuse_unhealthy(workers: &[Value]) -> Result<(), CommandError> {
    let is_unhealthy = |worker: &Value| worker["data"]["state"] == "unhealthy";
    if workers.iter().all(is_unhealthy) {
        let message = "unhealthy: requests do not reach any of these workers";
        return Err(CommandError::unavailable(message));
    }

    Ok(())
}

/// Returns a line for each reason why one of the workers is not healthy.
pub(super) fn format_reasons(workers: &[Value]) -> String {
    let mut lines = String::new();
    for worker in workers {
        let data = &worker["data"];
        for reason in data["reasons"].as_array().into_iter().flatten() {
            let since = match reason["since"].as_str() {
                Some(since) => format!(" (since {})", visible(since)),
                None => String::new(),
            };
            lines += &format!(
                "{} is {}: {}: {}{since}\n",
                plain(&worker["id"]),
                plain(&data["state"]),
                plain(&reason["part"]),
                plain(&reason["why"])
            );
        }
    }

    lines
}

/// Returns the statistics of each worker that answers, sorted by shard and worker id; only those of
/// `worker` or of `shard`, if one is given.
pub(super) async fn fetch_statistics(
    client: &Client,
    worker: Option<&str>,
    shard: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let nats = client.nats();
    let subject = match worker {
        Some(id) => format!("$SRV.STATS.{}.{id}", client.service_name()),
        None => format!("$SRV.STATS.{}", client.service_name()),
    };

    let inbox = nats.new_inbox();
    let mut answers = nats.subscribe(inbox.clone()).await?;
    nats.publish_with_reply(subject, inbox, "".into()).await?;

    let time_left = client.deadline().saturating_duration_since(Instant::now());
    let mut until = Instant::now() + FIRST_ANSWER_TIMEOUT.min(time_left);
    let mut workers: Vec<Value> = Vec::new();
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        // A message with a status comes from the server: no worker listens.
        if answer.status.is_some() {
            break;
        }

        until = until.min(Instant::now() + NEXT_ANSWER_TIMEOUT);
        let Some(statistics) = read_answer(&answer.payload) else {
            warn("the answer of a worker cannot be read");
            continue;
        };
        if shard.is_none_or(|shard| statistics["data"]["shard"] == shard) {
            workers.push(statistics);
        }
        if worker.is_some() || workers.len() == WORKERS_MAX {
            break;
        }
    }
    workers.sort_by_key(|one| (one["data"]["shard"].to_string(), one["id"].to_string()));

    Ok(workers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_cut_off_where_no_worker_goes_on() {
        let long = "ä".repeat(TEXT_CHARS_MAX + 1);
        let answer = json!({"list": vec![1; 1_000], &long: {"text": long}});

        let read = read_answer(answer.to_string().as_bytes()).expect("JSON");

        let kept = "ä".repeat(TEXT_CHARS_MAX);
        assert_eq!(
            read,
            json!({"list": vec![1; ENTRIES_MAX], &kept: {"text": kept}})
        );
        assert_eq!(read_answer(b"{"), None);
    }
}
