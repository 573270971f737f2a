//! `gofavorites health`: healthy, degraded and why, or unhealthy; for people and for container health checks.

use super::client::Connection;
use super::failed::CommandError;
use super::show::{plain, print, print_json};
use super::workers::statistics;
use clap::Args;
use serde_json::{Value, json};

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
        let told = self.ask().await;
        if self.json && !matches!(&told, Ok(told) if !told.is_empty()) {
            print_json(&json!({ "workers": [] }))?;
        }
        let told = told?;
        if told.is_empty() {
            return Err(CommandError::away("unhealthy: no worker answers").into());
        }
        if self.json {
            let workers: Vec<Value> = told
                .iter()
                .map(|one| json!({"id": one["id"], "data": one["data"]}))
                .collect();
            return print_json(&json!({ "workers": workers }));
        }
        print(&told.iter().map(lines).collect::<String>())
    }

    async fn ask(&self) -> anyhow::Result<Vec<Value>> {
        let client = self.connection.open().await?;
        statistics(
            &client,
            self.worker.as_deref(),
            self.connection.shard_named(),
        )
        .await
    }
}

/// A worker's line, and one for each thing that it lacks.
fn lines(one: &Value) -> String {
    let data = &one["data"];
    let lag = &data["projection"]["lag"];
    let mut out = format!(
        "{} {} {} lag {lag}\n",
        plain(&data["shard"]),
        plain(&one["id"]),
        plain(&data["state"])
    );
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
        assert_eq!(
            told,
            "a w1 degraded lag 3\n  postgres: it does not answer\n"
        );
    }
}
