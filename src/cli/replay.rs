//! `gofavorites replay`: a shard's Postgres built anew from the bucket, while the shard serves.

use super::Settings;
use super::failed::CommandError;
use super::progress::Progress;
use super::show::print;
use crate::app::OperatorSession;
use crate::domain::Timestamp;
use crate::maintenance::{Operator, RebuildSummary, ReplayFrom};
use crate::owners::{Loss, OwnersError};
use anyhow::{Context as _, bail};
use clap::Args;

/// Rebuild a shard's Postgres from the bucket, while the shard serves.
///
/// Without --from-sequence and --from-time, each owner whom the shard hosts is brought anew, and then all records that the
/// bucket keeps are followed once more, so that older versions are known too. It may be broken off and run again.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites replay --config shard-a.toml
  gofavorites replay --config shard-a.toml --everyone              the database was lost: host everybody again
  gofavorites replay --config shard-a.toml --from-time 2026-11-23T05:00:00Z
  gofavorites replay --config shard-a.toml --accept-lost-history   then start the shard's workers again")]
pub(super) struct Replay {
    #[command(flatten)]
    settings: Settings,
    /// Host every owner of the bucket, not only those whom the shard hosts
    #[arg(long, conflicts_with_all = ["from_sequence", "from_time"])]
    everyone: bool,
    /// Only follow the records from this stream sequence on
    #[arg(long, value_name = "N", conflicts_with = "from_time")]
    from_sequence: Option<u64>,
    /// Only follow the records that the bucket took since
    #[arg(long, value_name = "RFC3339")]
    from_time: Option<String>,
    /// Take the bucket as it is, where it has less than was acknowledged: what only this shard still has is thrown away
    #[arg(long, conflicts_with_all = ["from_sequence", "from_time"])]
    accept_lost_history: bool,
}

impl Replay {
    pub async fn run(self) -> anyhow::Result<()> {
        let since = self.since()?;
        let settings = self.settings.read()?;
        let session = OperatorSession::open(&settings, "gofavorites replay").await?;
        let operator = &session.operator;
        match operator.check_continuity().await {
            Ok(()) => {}
            Err(OwnersError::HistoryWentBack(_)) if self.accept_lost_history => {
                let mut progress = Progress::new("emptied");
                operator
                    .accept_lost_history(|done, total| progress.step(done, total))
                    .await?;
                progress.end();
                print("the bucket is taken as it is; start the shard's workers again\n")?;
            }
            Err(OwnersError::HistoryWentBack(why)) => {
                bail!(
                    "the bucket's history went back: {why}; --accept-lost-history takes the bucket as it is"
                )
            }
            Err(error) => return Err(error.into()),
        }
        let rebuilt = match since {
            Some(since) => self.follow_again(operator, since).await?,
            None => self.all_anew(operator).await?,
        };
        match rebuilt.failed {
            0 => Ok(()),
            failed => Err(CommandError::differs(format!(
                "{failed} owners could not be brought; the log says why"
            ))
            .into()),
        }
    }

    fn since(&self) -> anyhow::Result<Option<ReplayFrom>> {
        Ok(match (self.from_sequence, &self.from_time) {
            (Some(sequence), _) => Some(ReplayFrom::Sequence(sequence)),
            (None, Some(time)) => {
                let moment = Timestamp::parse_rfc3339(time)
                    .context("--from-time: a time as 2026-11-23T05:00:00Z")?;
                Some(ReplayFrom::Moment(moment))
            }
            (None, None) => None,
        })
    }

    async fn all_anew(&self, operator: &Operator) -> anyhow::Result<RebuildSummary> {
        let loss = if self.accept_lost_history {
            Loss::Accept
        } else {
            Loss::Refuse
        };
        let mut progress = Progress::new("owners brought anew");
        let mut rebuilt = operator
            .rebuild_known(loss, |done, total| progress.step(done, total))
            .await?;
        progress.end();
        if self.everyone {
            let mut progress = Progress::new("owners of the bucket");
            let more = operator
                .host_everyone(|done, total| progress.step(done, total))
                .await?;
            progress.end();
            rebuilt = RebuildSummary {
                owners: rebuilt.owners + more.owners,
                failed: rebuilt.failed + more.failed,
            };
        }
        let mut progress = Progress::new("records followed");
        let complete = operator
            .refill_versions(|done, total| progress.step(done, total))
            .await?;
        progress.end();
        print(&format!(
            "{} owners brought anew, {} failed\n",
            rebuilt.owners, rebuilt.failed
        ))?;
        if complete > 0 {
            print(&format!(
                "{complete} owners had lacked older versions, and have all that the bucket keeps now\n"
            ))?;
        }
        Ok(rebuilt)
    }

    /// Refuses what the bucket has not come to yet: nothing would ever come.
    async fn has_begun(&self, operator: &Operator, since: &ReplayFrom) -> anyhow::Result<()> {
        let newest = operator.bucket.publish_barrier().await?;
        match since {
            ReplayFrom::Sequence(sequence) if *sequence > newest => Err(CommandError::usage(
                format!("--from-sequence: the bucket's newest record is {newest}"),
            )
            .into()),
            ReplayFrom::Moment(moment) if *moment > Timestamp::now() => {
                Err(CommandError::usage("--from-time: that time is yet to come").into())
            }
            ReplayFrom::Sequence(_) | ReplayFrom::Moment(_) => Ok(()),
        }
    }

    async fn follow_again(
        &self,
        operator: &Operator,
        since: ReplayFrom,
    ) -> anyhow::Result<RebuildSummary> {
        self.has_begun(operator, &since).await?;
        let mut progress = Progress::new("records followed");
        let rebuilt = operator
            .follow_again(since, |done, total| progress.step(done, total))
            .await?;
        progress.end();
        print(&format!(
            "{} owners differed and were brought anew, {} failed\n",
            rebuilt.owners, rebuilt.failed
        ))?;
        Ok(rebuilt)
    }
}
