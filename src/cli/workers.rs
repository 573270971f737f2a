//! Asks all workers at once for their statistics.

use super::client::Client;
use super::output::plain;
use futures::StreamExt as _;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long to wait for the first answer.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait for another answer after one came.
const NEXT_ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// Returns a line for each reason why one of the workers is not healthy.
pub(super) fn format_reasons(workers: &[Value]) -> String {
    let mut lines = String::new();
    for worker in workers {
        let data = &worker["data"];
        for reason in data["reasons"].as_array().into_iter().flatten() {
            lines += &format!(
                "{} is {}: {}: {}\n",
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

        let statistics: Value = serde_json::from_slice(&answer.payload)?;
        if shard.is_none_or(|shard| statistics["data"]["shard"] == shard) {
            workers.push(statistics);
        }
        if worker.is_some() {
            break;
        }
        until = until.min(Instant::now() + NEXT_ANSWER_TIMEOUT);
    }
    workers.sort_by_key(|one| (one["data"]["shard"].to_string(), one["id"].to_string()));

    Ok(workers)
}
