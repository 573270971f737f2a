//! `gofavorites verify`: compares a shard's Postgres with the bucket, and repairs it if asked to.

use super::CommandSettings;
use super::failed::CommandError;
use super::output::{count, print, print_json};
use super::progress::Progress;
use super::wait::{Wait, with_exit_code};
use crate::app::OperatorSession;
use crate::maintenance::{Finding, Operator, Repair, VerifyProgress, VerifySummary};
use crate::owners::OwnersError;
use crate::shutdown::shutdown_signal;
use clap::Args;
use serde_json::{Value, json};

/// Compare a shard's Postgres with the bucket, owner by owner, while the shard serves.
///
/// Ends with 0 if all owners are equal or repaired, and with 1 if not. It takes the settings of a
/// worker of the shard. If you interrupt it, it says how to go on.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites verify --config shard-a.toml
  gofavorites verify --config shard-a.toml --repair --dry-run
  gofavorites verify --config shard-a.toml --repair
  gofavorites verify --config shard-a.toml --from-sequence 51200   go on after an interruption")]
pub(super) struct Verify {
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
    /// Rebuild each owner whose rows differ
    #[arg(long)]
    repair: bool,
    /// Only print what --repair would do
    #[arg(long, requires = "repair")]
    dry_run: bool,
    /// Only compare owners whose key is at this stream sequence or later, as an interrupted run says
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    from_sequence: u64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        let session = OperatorSession::open(&settings, "gofavorites verify", self.wait.limit())
            .await
            .map_err(with_exit_code)?;
        let place = session.operator.store.place();
        let compared = format!("shard {} ({place})", settings.shard.id);

        session
            .within_rights(self.compare(&session.operator, &compared))
            .await
            .map_err(with_exit_code)
    }

    /// Compares all owners. `compared` names the shard and its database.
    async fn compare(&self, operator: &Operator, compared: &str) -> anyhow::Result<()> {
        let history_went_back = match operator.check_continuity().await {
            Ok(()) => None,
            Err(OwnersError::HistoryWentBack(why)) => Some(why),
            Err(error) => return Err(error.into()),
        };
        if let Some(why) = &history_went_back
            && !self.json
        {
            print(&format!("the bucket's history went back: {why}\n"))?;
        }

        // If the bucket has lost history, the copies here may be all that is left, so none is
        // replaced.
        let repair = if self.repair && !self.dry_run && history_went_back.is_none() {
            Repair::Yes
        } else {
            Repair::No
        };
        let mut owners = Vec::new();
        let mut printed = Ok(());
        let report = |finding: Finding| {
            if self.json {
                owners.push(to_json(&finding));
            } else {
                printed = print(&self.format_finding(&finding));
            }
        };
        let (counts, rest_from) = self.until_interrupted(operator, repair, report).await?;
        printed?;

        if self.json {
            print_json(&json!({
                "history_went_back": history_went_back,
                "owners": owners,
                "counts": counts,
                "interrupted_at": rest_from,
            }))?;
        } else {
            self.print_counts(compared, &counts)?;
        }

        if let Some(sequence) = rest_from {
            let error = format!("interrupted: go on with --from-sequence {sequence}");
            return Err(CommandError::differs(error).into());
        }
        Self::check(&counts, history_went_back.is_some())
    }

    /// Compares owners until all are compared, or a signal comes. Returns the counts, and after a signal the
    /// sequence from which to go on.
    async fn until_interrupted(
        &self,
        operator: &Operator,
        repair: Repair,
        report: impl FnMut(Finding),
    ) -> anyhow::Result<(VerifySummary, Option<u64>)> {
        let total = operator.store.known_count().await?;
        let mut progress = Progress::new("owners");
        let mut reached = (VerifySummary::default(), self.from_sequence);
        let on_page = |page: VerifyProgress| {
            progress.step(page.looked_at, total);
            reached = (page.counts, page.rest_from);
        };

        let interrupted = shutdown_signal()?;
        let verification = operator.verify_all(self.from_sequence, repair, report, on_page);
        let counts = tokio::select! {
            counts = verification => Some(counts?),
            _ = interrupted => None,
        };
        progress.end();

        let (counts_so_far, sequence) = reached;
        Ok(match counts {
            Some(counts) => (counts, None),
            None => (counts_so_far, Some(sequence)),
        })
    }

    /// Fails if the copies are not equal to the bucket.
    fn check(counts: &VerifySummary, history_went_back: bool) -> anyhow::Result<()> {
        if history_went_back {
            let error = "the bucket has lost history; `gofavorites replay --accept-lost-history` \
                         accepts it as it is";
            return Err(CommandError::differs(error).into());
        }
        if !counts.all_equal() {
            let error = "this shard's Postgres differs from the bucket";
            return Err(CommandError::differs(error).into());
        }
        Ok(())
    }

    fn print_counts(&self, compared: &str, counts: &VerifySummary) -> anyhow::Result<()> {
        let repaired = if self.repair {
            format!(", {} of them mended", counts.repaired)
        } else {
            String::new()
        };

        print(&format!(
            "{compared}: {} compared: {} equal, {} differ{repaired}, {} unclear\n",
            count(counts.owners, "owner"),
            counts.equal,
            counts.differ,
            counts.unclear
        ))
    }

    /// Returns the line for an owner that differs or cannot be compared.
    fn format_finding(&self, finding: &Finding) -> String {
        let divergence = match &finding.what {
            Ok(divergence) => divergence,
            Err(error) => return format!("{}: cannot be compared: {error}\n", finding.owner),
        };

        let of_the_copy = divergence
            .differences
            .iter()
            .all(|one| one.is_of_the_copy());
        let outcome = match (finding.repaired, self.repair, of_the_copy) {
            (true, ..) => ": mended",
            (false, true, true) if self.dry_run => ": would be rebuilt",
            (false, true, true) => ": not mended",
            (false, true, false) => ": cannot be mended here",
            (false, false, _) => "",
        };

        format!("{}: {divergence}{outcome}\n", finding.owner)
    }
}

fn to_json(finding: &Finding) -> Value {
    let owner = finding.owner.to_string();

    match &finding.what {
        Ok(divergence) => json!({
            "owner": owner,
            "differences": divergence.differences,
            "here": divergence.here,
            "truth": divergence.truth,
            "mended": finding.repaired,
        }),
        Err(error) => json!({"owner": owner, "fault": error.to_string(), "mended": false}),
    }
}
