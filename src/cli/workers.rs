//! Asking all workers at once what they know of themselves.

use super::client::Client;
use futures::StreamExt as _;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// After the first answer, how long the others are waited for.
const OTHERS: Duration = Duration::from_millis(300);
/// How long the first is waited for at most.
const FIRST: Duration = Duration::from_secs(3);

/// The statistics of each worker that answers, or of the one named, by shard and name; only those of `shard`, if one is
/// named.
pub(super) async fn statistics(
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
    let mut until = Instant::now()
        + FIRST.min(
            client
                .until()
                .saturating_duration_since(std::time::Instant::now()),
        );
    let mut told: Vec<Value> = Vec::new();
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        // Nobody listens there at all.
        if answer.status.is_some() {
            break;
        }
        let one: Value = serde_json::from_slice(&answer.payload)?;
        if shard.is_none_or(|shard| one["data"]["shard"] == shard) {
            told.push(one);
        }
        if worker.is_some() {
            break;
        }
        until = until.min(Instant::now() + OTHERS);
    }
    told.sort_by_key(|one| (one["data"]["shard"].to_string(), one["id"].to_string()));
    Ok(told)
}
