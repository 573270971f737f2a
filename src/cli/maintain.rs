//! `gofavorites maintain`: purges old deletions from the bucket while workers run.

use super::CommandSettings;
use super::output::{count, print, print_json};
use super::wait::{Wait, with_exit_code};
use crate::app::{Maintenance, Succession, Turn, WaitLimit};
use crate::shutdown::shutdown_signal;
use crate::telemetry::write_in_background;
use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tracing::info;

/// Purge deletions that are older than maintain.deletions_d. Runs until SIGTERM or SIGINT. One for
/// all shards is enough; more do no harm. It takes the settings of a worker, with the NATS user
/// `maintain`.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites maintain --config maintain.toml
  gofavorites maintain --config maintain.toml --once --json")]
pub(super) struct Maintain {
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
    /// Go through the bucket once, print what was done, and end
    #[arg(long)]
    once: bool,
    /// With --once: print what was done as JSON
    #[arg(long, requires = "once")]
    json: bool,
}

impl Maintain {
    pub async fn run(self) -> anyhow::Result<()> {
        // Before anything else, so that a signal during the start is not missed.
        let shutdown = shutdown_signal().context("cannot listen for signals")?;
        let limit = self.wait.limit();

        if !self.once {
            write_in_background()?;
            let (first, watch) = self.settings.settings.watch()?;
            let run = move |turn| run_rounds(turn, limit);
            let ended = Succession::new(first, watch, run).run(shutdown).await;
            return ended.map_err(with_exit_code);
        }

        let settings = self.settings.read()?;
        let mut shutdown = std::pin::pin!(shutdown);
        let maintenance = tokio::select! {
            maintenance = Maintenance::build(&settings, limit) => {
                maintenance.map_err(with_exit_code)?
            }
            signal = &mut shutdown => {
                info!("received {signal} during the start, stopping");
                return Ok(());
            }
        };
        let round = tokio::select! {
            round = maintenance.once_within_rights() => round.map_err(with_exit_code)?,
            signal = shutdown => anyhow::bail!(
                "received {signal} before the end of the round: what was purged stays purged"
            ),
        };

        if self.json {
            print_json(&json!(round))?;
        } else {
            print(&format!(
                "{}: purged {} of {}; {} could not be purged\n",
                count(round.owners, "owner"),
                count(round.purged, "deletion"),
                count(round.tidied, "owner"),
                count(round.failed, "owner"),
            ))?;
            if round.pressed {
                print(&format!(
                    "the bucket is full, or nearly: purged {} to make room\n",
                    count(round.dropped, "old record"),
                ))?;
            }
        }
        anyhow::ensure!(
            round.failed == 0,
            "the deletions of {} could not be purged: see the log",
            count(round.failed, "owner")
        );

        Ok(())
    }
}

/// Runs rounds with the settings of this turn until it ends. The first turn begins within `limit`.
async fn run_rounds(turn: Turn, limit: WaitLimit) -> anyhow::Result<()> {
    let limit = if turn.is_first {
        limit
    } else {
        WaitLimit::FOREVER
    };
    let maintenance = tokio::select! {
        maintenance = Maintenance::build(&turn.settings, limit) => {
            maintenance.map_err(with_exit_code)?
        }
        () = turn.stop.cancelled() => return Ok(()),
    };

    // Nobody waits for it if this turn has been told to stop.
    let _ = turn.ready.send(());
    maintenance.run(turn.stop.cancelled()).await;
    Ok(())
}
