//! `gofavorites verify`: whether this shard's Postgres is what the truth says.

use super::Settings;
use super::failed::CommandError;
use super::show::{print, print_json};
use crate::app::OperatorSession;
use crate::maintenance::{Finding, Repair};
use crate::owners::OwnersError;
use clap::Args;
use serde_json::{Value, json};

/// Compare a shard's Postgres with the bucket, owner by owner, while the shard serves.
///
/// Ends with 0 if all is equal, or was mended, and with 1 if not. It takes the settings of a worker of the shard.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites verify --config shard-a.toml
  gofavorites verify --config shard-a.toml --repair --dry-run
  gofavorites verify --config shard-a.toml --repair")]
pub(super) struct Verify {
    #[command(flatten)]
    settings: Settings,
    /// Bring each owner anew whose rows differ
    #[arg(long)]
    repair: bool,
    /// Only say what --repair would do
    #[arg(long, requires = "repair")]
    dry_run: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        let session = OperatorSession::open(&settings, "gofavorites verify").await?;
        let operator = &session.operator;
        let history = match operator.check_continuity().await {
            Ok(()) => None,
            Err(OwnersError::HistoryWentBack(why)) => Some(why),
            Err(error) => return Err(error.into()),
        };
        if let (Some(why), false) = (&history, self.json) {
            print(&format!("the bucket's history went back: {why}\n"))?;
        }
        // Onto a bucket that lost history nothing is mended: the copies here may be all that is left.
        let mend = if self.repair && !self.dry_run && history.is_none() {
            Repair::Yes
        } else {
            Repair::No
        };
        let (mut all, mut failed) = (Vec::new(), Ok(()));
        let tell = |found: Finding| match self.json {
            true => all.push(told(&found)),
            false => failed = print(&self.line(&found)),
        };
        let counts = operator.verify_all(mend, tell, |_| ()).await?;
        failed?;
        if self.json {
            print_json(&json!({"history_went_back": history, "owners": all, "counts": counts}))?;
        } else {
            let repaired = if self.repair {
                format!(", {} of them mended", counts.repaired)
            } else {
                String::new()
            };
            print(&format!(
                "{} owners compared: {} equal, {} differ{repaired}, {} unclear\n",
                counts.owners, counts.equal, counts.differ, counts.unclear
            ))?;
        }
        match (history, counts.all_equal()) {
            (None, true) => Ok(()),
            (Some(_), _) => Err(CommandError::differs(
                "the bucket has lost history; `gofavorites replay --accept-lost-history` takes it as it is",
            )
            .into()),
            (None, false) => Err(CommandError::differs("this shard's Postgres is not what the bucket says").into()),
        }
    }

    fn line(&self, found: &Finding) -> String {
        let differing = match &found.what {
            Ok(differing) => differing,
            Err(error) => return format!("{}: cannot be compared: {error}\n", found.owner),
        };
        let what: Vec<_> = differing
            .differences
            .iter()
            .map(ToString::to_string)
            .collect();
        let of_the_copy = differing.differences.iter().all(|one| one.is_of_the_copy());
        let done = match (found.repaired, self.repair, of_the_copy) {
            (true, ..) => ": mended",
            (false, true, true) if self.dry_run => ": would be brought anew",
            (false, true, true) => ": not mended",
            (false, true, false) => ": cannot be mended here",
            (false, false, _) => "",
        };
        format!("{}: {}{done}\n", found.owner, what.join(", "))
    }
}

fn told(found: &Finding) -> Value {
    match &found.what {
        Ok(differing) => json!({
            "owner": found.owner.to_string(), "differences": differing.differences, "here": differing.here,
            "truth": differing.truth, "mended": found.repaired,
        }),
        Err(error) => {
            json!({"owner": found.owner.to_string(), "fault": error.to_string(), "mended": false})
        }
    }
}
