//! `gofavorites metrics`: prints what all workers report about themselves as metrics.

mod families;
mod family;
mod file;
mod sample;
mod scrape;
mod text;

#[cfg(test)]
mod documents;

use super::client::{Client, Connection};
use super::duration::duration;
use super::error_report::{USAGE, exit_code};
use super::failed::CommandError;
use super::output::{note, print, warn};
use super::workers::{fetch_statistics, refuse_unhealthy};
use crate::domain::Timestamp;
use crate::shutdown::shutdown_signal;
use crate::telemetry::error_chain;
use clap::Args;
use scrape::Scrape;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use text::Format;
use tokio::time::{Instant, sleep_until};

/// The shortest time between two questions to the workers.
const PERIOD_MIN: Duration = Duration::from_secs(1);

/// Print metrics of all workers, for Prometheus and programs like it.
///
/// It asks the workers over NATS, as `health` does, and prints OpenMetrics. If no worker answers, the
/// text is complete all the same: gofavorites_scrape_success and the missing samples show it.
/// The command fails as `health` does: if no worker is better than unhealthy.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites metrics --user operator
  gofavorites metrics --shard a | grep gofavorites_refusals_total
  gofavorites metrics --format prometheus --every 15s --to /run/gofavorites-metrics/gofavorites.prom")]
pub(super) struct Metrics {
    /// Only the worker of this id (the setting worker.id)
    #[arg(long)]
    worker: Option<String>,
    /// The format of the text
    #[arg(long, value_enum, default_value_t = Format::Openmetrics)]
    format: Format,
    /// Write the text to this file, in one step, instead of printing it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Write the file again after each TIME, until SIGTERM or Ctrl-C
    #[arg(long, value_name = "TIME", requires = "to", value_parser = period)]
    every: Option<Duration>,
    #[command(flatten)]
    connection: Connection,
}

/// Reads the time between two questions.
fn period(text: &str) -> Result<Duration, String> {
    let period = duration(text)?;
    if period < PERIOD_MIN {
        return Err("must be 1s or more".into());
    }

    Ok(period)
}

impl Metrics {
    pub async fn run(self) -> anyhow::Result<()> {
        match self.every {
            Some(period) => self.go_on(period).await,
            None => self.write_once(&mut None).await?,
        }
    }

    /// Asks and writes, until a signal ends it. What is unavailable may come back, and a file that
    /// cannot be written may be writable again.
    async fn go_on(&self, period: Duration) -> anyhow::Result<()> {
        let mut stop = std::pin::pin!(shutdown_signal()?);
        let mut last_problem: Option<String> = None;
        let mut is_first = true;
        let mut client = None;

        loop {
            let next = Instant::now() + period;
            let written = tokio::select! {
                _ = &mut stop => return Ok(()),
                written = self.write_once(&mut client) => written,
            };

            let outcome = match written {
                // What has never worked is wrong usage.
                Err(error) if is_first => return Err(error),
                written => written.flatten(),
            };
            is_first = false;
            let problem = outcome.err().map(|error| error_chain(&error));
            report_change(last_problem.as_deref(), problem.as_deref());
            last_problem = problem;

            tokio::select! {
                _ = &mut stop => return Ok(()),
                _ = sleep_until(next) => {}
            }
        }
    }

    /// Asks the workers and writes the text. Fails if nothing was written. The inner result is the
    /// workers' state. Leaves the connection for the next time in `client`, unless it has failed.
    async fn write_once(&self, client: &mut Option<Client>) -> anyhow::Result<anyhow::Result<()>> {
        let at = Timestamp::now();
        let (scrape, outcome) = match self.fetch(client).await {
            Ok(workers) => {
                let outcome = check(&workers);
                (Scrape::of(workers, at), outcome)
            }
            Err(error) if exit_code(&error) == USAGE => return Err(error),
            Err(error) => (Scrape::failed(at), Err(error)),
        };

        let text = text::format(&scrape, self.format);
        match &self.to {
            Some(path) => file::replace(path, &text)?,
            None => print(&text)?,
        }
        Ok(outcome)
    }

    async fn fetch(&self, kept: &mut Option<Client>) -> anyhow::Result<Vec<Value>> {
        let client = match kept.take() {
            Some(mut client) => {
                client.restart_timeout();
                client
            }
            None => self.connection.open().await?,
        };
        let shard = self.connection.requested_shard();
        let workers = fetch_statistics(&client, self.worker.as_deref(), shard).await?;

        let state = client.nats().connection_state();
        if workers.is_empty() && state != async_nats::connection::State::Connected {
            return Err(CommandError::unavailable("the connection to NATS is lost").into());
        }
        *kept = Some(client);
        Ok(workers)
    }
}

/// Fails if no worker is better than unhealthy.
fn check(workers: &[Value]) -> anyhow::Result<()> {
    if workers.is_empty() {
        return Err(CommandError::unavailable("no worker answers").into());
    }

    Ok(refuse_unhealthy(workers)?)
}

/// Says what is wrong since the last time, and what no longer is.
fn report_change(before: Option<&str>, now: Option<&str>) {
    match now {
        _ if before == now => {}
        Some(problem) => warn(problem),
        None => note("workers answer again"),
    }
}
