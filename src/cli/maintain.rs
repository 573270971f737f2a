//! `gofavorites maintain`: forgets old deletions, beside the workers.

use super::Settings;
use super::show::{print, print_json};
use crate::app::Maintenance;
use crate::shutdown::told_to_stop;
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
        let told = told_to_stop()?;
        let maintenance = Maintenance::build(&self.settings.read()?).await?;
        if !self.once {
            maintenance.run(async { info!("told to stop by {}", told.await) }).await;
            return Ok(());
        }
        let round = maintenance.once().await?;
        if self.json {
            print_json(&json!(round))?;
        } else {
            print(&format!(
                "{} owners: {} deletions of {} of them forgotten, {} not yet\n",
                round.owners, round.purged, round.tidied, round.failed
            ))?;
        }
        anyhow::ensure!(round.failed == 0, "{} owners could not be tidied: see the log", round.failed);
        Ok(())
    }
}
