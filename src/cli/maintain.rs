//! `gofavorites maintain`: forgets old deletions, beside the workers.

use super::Settings;
use super::show::{print, print_json};
use crate::app::Maintenance;
use crate::shutdown::told_to_stop;
use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tracing::info;

/// Forget deletions that are older than maintain.deletions_d. Runs until it is told to stop; one for all shards is
/// enough, and more do no harm. Its settings are a worker's, with the NATS user `maintain`.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites maintain --config maintain.toml
  gofavorites maintain --config maintain.toml --once --json")]
pub(super) struct Maintain {
    #[command(flatten)]
    settings: Settings,
    /// Go through the bucket once, say what was done, and end
    #[arg(long)]
    once: bool,
    /// With --once: print what was done as JSON
    #[arg(long, requires = "once")]
    json: bool,
}

impl Maintain {
    pub async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        // Before anything else: whoever tells it to stop while it starts is heard as well.
        let mut told = std::pin::pin!(told_to_stop().context("signals cannot be heard")?);
        let maintenance = tokio::select! {
            maintenance = Maintenance::build(&settings) => maintenance?,
            signal = &mut told => {
                info!("told to stop by {signal} before it began");
                return Ok(());
            }
        };
        if !self.once {
            let told = async {
                let signal = told.await;
                info!("told to stop by {signal}");
            };
            maintenance.run(told).await;
            return Ok(());
        }
        let round = tokio::select! {
            round = maintenance.once() => round?,
            signal = told => anyhow::bail!("{signal} before it was through: what was done is done"),
        };
        if self.json {
            print_json(&json!(round))?;
        } else {
            print(&format!(
                "{} owners: {} deletions of {} of them forgotten, {} not yet\n",
                round.owners, round.purged, round.tidied, round.failed
            ))?;
        }
        anyhow::ensure!(
            round.failed == 0,
            "{} owners could not be tidied: see the log",
            round.failed
        );
        Ok(())
    }
}
