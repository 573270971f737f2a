//! `gofavorites health`: prints whether workers answer; for people and for container health checks.

use super::client::Connection;
use super::failed::CommandError;
use super::show::{plain, print, print_json};
use super::workers::fetch_statistics;
use clap::Args;
use serde_json::{Value, json};

/// Show whether workers answer, and which of their dependencies do not.
///
/// A worker is healthy, degraded (it serves, but one of its dependencies does not answer) or
/// unhealthy (it does not answer, or requests do not reach it). The command fails if no worker is
/// better than unhealthy: a degraded worker serves as designed, and a restart does not help.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites health
  gofavorites health --shard a
  gofavorites health --own      in a worker's container, with its GOFAVORITES__WORKER__ID")]
pub(super) struct Health {
    /// Only the worker of this id (the setting worker.id)
    #[arg(long)]
    worker: Option<String>,
    /// Only the worker of this environment: the one that GOFAVORITES__WORKER__ID names
    #[arg(long, conflicts_with = "worker")]
    own: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Health {
    pub async fn run(self) -> anyhow::Result<()> {
        let result = self.fetch().await;
        let any_answered = result.as_ref().is_ok_and(|workers| !workers.is_empty());
        if self.json && !any_answered {
            print_json(&json!({ "workers": [] }))?;
        }

        let workers = result?;
        if workers.is_empty() {
            return Err(CommandError::unavailable("unhealthy: no worker answers").into());
        }

        if self.json {
            let workers: Vec<Value> = workers
                .iter()
                .map(|worker| json!({"id": worker["id"], "data": worker["data"]}))
                .collect();
            print_json(&json!({ "workers": workers }))?;
        } else {
            print(&workers.iter().map(format_worker).collect::<String>())?;
        }

        let is_unhealthy = |worker: &Value| worker["data"]["state"] == "unhealthy";
        if workers.iter().all(is_unhealthy) {
            let message = "unhealthy: requests do not reach any of these workers";
            return Err(CommandError::unavailable(message).into());
        }
        Ok(())
    }

    async fn fetch(&self) -> anyhow::Result<Vec<Value>> {
        let own = if self.own { Some(own_id()?) } else { None };
        let client = self.connection.open().await?;
        fetch_statistics(
            &client,
            own.as_deref().or(self.worker.as_deref()),
            self.connection.requested_shard(),
        )
        .await
    }
}

/// Returns the id of the worker whose environment this process has. Without one the command must
/// not ask all workers: another one would answer for it.
fn own_id() -> Result<String, CommandError> {
    std::env::var("GOFAVORITES__WORKER__ID")
        .ok()
        .filter(|id| !id.is_empty())
        .ok_or_else(|| CommandError::usage("--own: GOFAVORITES__WORKER__ID is not set"))
}

/// Returns a worker's line, and a line for each reason why it is degraded.
fn format_worker(worker: &Value) -> String {
    let data = &worker["data"];
    let lag = &data["projection"]["lag"];

    let mut out = format!(
        "{} {} {} lag {lag}\n",
        plain(&data["shard"]),
        plain(&worker["id"]),
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
    fn the_reasons_of_a_degraded_worker_are_listed_below_it() {
        let data = json!({
            "shard": "a",
            "state": "degraded",
            "reasons": [{"part": "postgres", "why": "it does not answer"}],
            "projection": {"lag": 3},
        });

        let text = format_worker(&json!({"id": "w1", "data": data}));

        assert_eq!(
            text,
            "a w1 degraded lag 3\n  postgres: it does not answer\n"
        );
    }
}
