//! `gofavorites health`: healthy, degraded and why, or unhealthy; for people and for container health checks.

use super::client::{Client, Connection};
use super::failed::Failed;
use super::show::{plain, print, print_json};
use clap::Args;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// After the first answer, how long the others are waited for.
const OTHERS: Duration = Duration::from_millis(300);
/// How long the first is waited for at most.
const FIRST: Duration = Duration::from_secs(3);

/// Tell whether workers answer, and what they lack.
///
/// A worker is healthy, degraded (it answers, but something that it needs is away) or unhealthy (it does not answer).
/// Only the last fails: a degraded worker serves as designed, and killing it would help nobody.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites health
  gofavorites health --shard a
  gofavorites health --worker \"$HOSTNAME\"      in a container, where worker.id is the same")]
pub(super) struct Health {
    #[command(flatten)]
    connection: Connection,
    /// Only the worker of this id (the setting worker.id)
    #[arg(long)]
    worker: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Health {
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.open().await?;
        let mut told = self.ask(&client).await?;
        told.sort_by_key(|one| (one["data"]["shard"].to_string(), one["id"].to_string()));
        if told.is_empty() {
            return Err(Failed::away("unhealthy: no worker answers").into());
        }
        if self.json {
            let workers: Vec<Value> = told.iter().map(|one| json!({"id": one["id"], "data": one["data"]})).collect();
            return print_json(&json!({ "workers": workers }));
        }
        print(&told.iter().map(lines).collect::<String>())
    }

    /// The statistics of each worker that answers.
    async fn ask(&self, client: &Client) -> anyhow::Result<Vec<Value>> {
        let nats = client.nats();
        let subject = match &self.worker {
            Some(id) => format!("$SRV.STATS.{}.{id}", client.service_name()),
            None => format!("$SRV.STATS.{}", client.service_name()),
        };
        let inbox = nats.new_inbox();
        let mut answers = nats.subscribe(inbox.clone()).await?;
        nats.publish_with_reply(subject, inbox, "".into()).await?;
        let mut until = Instant::now() + FIRST.min(client.until().saturating_duration_since(std::time::Instant::now()));
        let mut told = Vec::new();
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            // Nobody listens there at all.
            if answer.status.is_some() {
                break;
            }
            let one: Value = serde_json::from_slice(&answer.payload)?;
            if self.connection.shard_named().is_none_or(|shard| one["data"]["shard"] == shard) {
                told.push(one);
            }
            if self.worker.is_some() {
                break;
            }
            until = until.min(Instant::now() + OTHERS);
        }
        Ok(told)
    }
}

/// A worker's line, and one for each thing that it lacks.
fn lines(one: &Value) -> String {
    let data = &one["data"];
    let lag = &data["projection"]["lag"];
    let mut out = format!("{} {} {} lag {lag}\n", plain(&data["shard"]), plain(&one["id"]), plain(&data["state"]));
    for reason in data["reasons"].as_array().into_iter().flatten() {
        out += &format!("  {}: {}\n", plain(&reason["part"]), plain(&reason["why"]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_lacks_is_told_below_it() {
        let reasons = json!([{"part": "postgres", "why": "it does not answer"}]);
        let data = json!({"shard": "a", "state": "degraded", "reasons": reasons, "projection": {"lag": 3}});
        let told = lines(&json!({"id": "w1", "data": data}));
        assert_eq!(told, "a w1 degraded lag 3\n  postgres: it does not answer\n");
    }
}
