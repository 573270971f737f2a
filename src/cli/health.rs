//! `gofavorites health`: prints whether workers answer; for people and for container health checks.

use super::client::Connection;
use super::failed::CommandError;
use super::output::{
    Cell, Column, Output, Screen, Table, grouped, plain, print_json, span, state_style, visible,
};
use super::workers::{fetch_statistics, format_reasons, refuse_unhealthy};
use crate::domain::Timestamp;
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;

/// How many digits of a commit name it to people.
const COMMIT_DIGITS: usize = 7;

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
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Health {
    pub async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let result = self.fetch().await;
        let any_answered = result.as_ref().is_ok_and(|workers| !workers.is_empty());
        if self.output.is_json() && !any_answered {
            print_json(&json!({ "workers": [] }))?;
        }

        let workers = result?;
        if workers.is_empty() {
            return Err(CommandError::unavailable("unhealthy: no worker answers").into());
        }

        let shown: Vec<Value> = workers.iter().map(to_json).collect();
        let reply = json!({ "workers": shown });
        self.output
            .print(&reply, |screen| format_workers(&workers, screen))?;

        Ok(refuse_unhealthy(&workers)?)
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

/// Returns what programs get of a worker.
fn to_json(worker: &Value) -> Value {
    json!({
        "id": worker["id"],
        "version": worker["version"],
        "commit": worker["metadata"]["commit"],
        "started": worker["started"],
        "data": worker["data"],
    })
}

/// Returns the table of workers, and a line for each reason why one is not healthy.
fn format_workers(workers: &[Value], screen: &Screen) -> String {
    let columns = [
        Column::words("SHARD"),
        Column::free_text("WORKER"),
        Column::words("STATE"),
        Column::words("UPTIME"),
        Column::words("PROJECTS"),
        Column::numbers("LAG"),
        Column::free_text("BUILD"),
    ];
    let rows = workers.iter().map(|worker| row(worker, screen.now));

    let table = Table::new(columns).with_rows(rows).format(screen);
    table + &format_reasons(workers)
}

/// A worker's row in the table.
fn row(worker: &Value, now: Timestamp) -> Vec<Cell> {
    let data = &worker["data"];
    let state = plain(&data["state"]);
    let projection = &data["projection"];
    let projects = match projection["here"].as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let commit = worker["metadata"]["commit"].as_str().unwrap_or_default();
    let commit: String = visible(commit).chars().take(COMMIT_DIGITS).collect();
    let build = format!("{} {commit}", plain(&worker["version"]));

    vec![
        plain(&data["shard"]).into(),
        plain(&worker["id"]).into(),
        Cell::styled(state.as_str(), state_style(&state)),
        uptime(&worker["started"], now).into(),
        projects.into(),
        grouped(&projection["lag"]).into(),
        build.trim_end().into(),
    ]
}

fn uptime(started: &Value, now: Timestamp) -> String {
    let started = started.as_str().and_then(Timestamp::parse_rfc3339);
    let Some(started) = started else {
        return "unknown".to_owned();
    };

    let millis = now.millis().saturating_sub(started.millis());
    span(Duration::from_millis(millis.try_into().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_a_degraded_worker_are_listed_below_the_table() {
        let screen = Screen::pipe();
        let data = json!({
            "shard": "a",
            "state": "degraded",
            "reasons": [
                {"part": "postgres", "why": "it does not answer", "since": "2026-01-02T03:04:05Z"},
                {"part": "truth", "why": "from an older release"},
            ],
            "projection": {"lag": 1003, "here": true},
        });
        let worker = json!({
            "id": "w1",
            "version": "0.1.0",
            "metadata": {"commit": "4eb9a774a562"},
            "started": screen.now.earlier_by_ms(7_200_000).to_rfc3339(),
            "data": data,
        });

        assert_eq!(
            format_workers(&[worker], &screen),
            "SHARD  WORKER  STATE     UPTIME  PROJECTS    LAG  BUILD\n\
             a      w1      degraded  2 h     yes       1,003  0.1.0 4eb9a77\n\
             w1 is degraded: postgres: it does not answer (since 2026-01-02T03:04:05Z)\n\
             w1 is degraded: truth: from an older release\n"
        );
    }
}
