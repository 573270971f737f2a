//! `gofavorites replay`: rebuilds a shard's Postgres from the bucket, while the shard serves.

use super::CommandSettings;
use super::failed::CommandError;
use super::output::{count, print};
use super::progress::Progress;
use super::wait::{Wait, with_exit_code};
use crate::app::OperatorSession;
use crate::domain::Timestamp;
use crate::maintenance::{Operator, RebuildSummary, ReplayFrom};
use crate::owners::{Loss, OwnersError};
use anyhow::{Context as _, bail};
use clap::Args;

/// Rebuild a shard's Postgres from the bucket, while the shard serves.
///
/// Without --from-sequence and --from-time it rebuilds each owner that the shard hosts, then adds
/// every older version that the bucket keeps. You may interrupt it and run it again.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites replay --config shard-a.toml
  gofavorites replay --config shard-a.toml --everyone              after you lost the database
  gofavorites replay --config shard-a.toml --from-time 2026-11-23T05:00:00Z
  gofavorites replay --config shard-a.toml --accept-lost-history   then start the shard's workers again")]
pub(super) struct Replay {
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
    /// Host every owner of the bucket, not only the owners that the shard hosts
    #[arg(long, conflicts_with_all = ["from_sequence", "from_time"])]
    everyone: bool,
    /// Only go through the records from this stream sequence on, and rebuild owners that differ
    #[arg(long, value_name = "N", conflicts_with = "from_time")]
    from_sequence: Option<u64>,
    /// Only go through the records since this time, and rebuild owners that differ
    #[arg(long, value_name = "RFC3339")]
    from_time: Option<String>,
    /// Accept that the bucket lost acknowledged records: delete what only this shard still has
    #[arg(long, conflicts_with_all = ["from_sequence", "from_time"])]
    accept_lost_history: bool,
}

impl Replay {
    pub async fn run(self) -> anyhow::Result<()> {
        let start = self.start()?;
        let settings = self.settings.read()?;
        let session = OperatorSession::open(&settings, "gofavorites replay", self.wait.limit())
            .await
            .map_err(with_exit_code)?;

        session
            .within_rights(self.replay(&session.operator, start))
            .await
            .map_err(with_exit_code)
    }

    async fn replay(&self, operator: &Operator, start: Option<ReplayFrom>) -> anyhow::Result<()> {
        match operator.check_continuity().await {
            Ok(()) => {}
            Err(OwnersError::HistoryWentBack(_)) if self.accept_lost_history => {
                accept_lost_history(operator).await?;
            }
            Err(OwnersError::HistoryWentBack(why)) => {
                bail!(
                    "the bucket's history went back: {why}; --accept-lost-history accepts the \
                     bucket as it is"
                )
            }
            Err(error) => return Err(error.into()),
        }

        let rebuilt = match start {
            Some(start) => follow_again(operator, start).await?,
            None => self.rebuild_all(operator).await?,
        };

        if rebuilt.failed > 0 {
            return Err(CommandError::differs(format!(
                "{} could not be rebuilt; the log says why",
                count(rebuilt.failed, "owner")
            ))
            .into());
        }
        Ok(())
    }

    /// Parses where to start; `None` is a complete replay.
    fn start(&self) -> anyhow::Result<Option<ReplayFrom>> {
        Ok(match (self.from_sequence, &self.from_time) {
            (Some(sequence), _) => Some(ReplayFrom::Sequence(sequence)),
            (None, Some(time)) => {
                let moment = Timestamp::parse_rfc3339(time)
                    .context("--from-time: give a time such as 2026-11-23T05:00:00Z")?;
                Some(ReplayFrom::Moment(moment))
            }
            (None, None) => None,
        })
    }

    async fn rebuild_all(&self, operator: &Operator) -> anyhow::Result<RebuildSummary> {
        let loss = if self.accept_lost_history {
            Loss::Accept
        } else {
            Loss::Refuse
        };
        let mut progress = Progress::new("owners rebuilt");
        let mut rebuilt = operator
            .rebuild_known(loss, |done, total| progress.step(done, total))
            .await?;
        progress.end();

        if self.everyone {
            let mut progress = Progress::new("records of the bucket");
            let others = operator
                .host_everyone(|done, total| progress.step(done, total))
                .await?;
            progress.end();

            rebuilt = RebuildSummary {
                owners: rebuilt.owners + others.owners,
                failed: rebuilt.failed + others.failed,
            };
        }

        let mut progress = Progress::new("records replayed");
        let completed = operator
            .refill_versions(|done, total| progress.step(done, total))
            .await?;
        progress.end();

        print(&format!(
            "{} rebuilt, {} failed\n",
            count(rebuilt.owners, "owner"),
            rebuilt.failed
        ))?;
        if completed > 0 {
            print(&format!(
                "{} lacked older versions, and now have all that the bucket keeps\n",
                count(completed, "owner")
            ))?;
        }

        Ok(rebuilt)
    }
}

async fn accept_lost_history(operator: &Operator) -> anyhow::Result<()> {
    let mut progress = Progress::new("owners emptied");
    operator
        .accept_lost_history(|done, total| progress.step(done, total))
        .await?;
    progress.end();

    print("the bucket is accepted as it is; start the shard's workers again\n")
}

async fn follow_again(operator: &Operator, start: ReplayFrom) -> anyhow::Result<RebuildSummary> {
    check_start(operator, start).await?;

    let mut progress = Progress::new("records replayed");
    let rebuilt = operator
        .follow_again(start, |done, total| progress.step(done, total))
        .await?;
    progress.end();

    print(&format!(
        "{} differed and had to be rebuilt, {} failed\n",
        count(rebuilt.owners, "owner"),
        rebuilt.failed
    ))?;
    Ok(rebuilt)
}

/// Refuses a start that the bucket has not reached yet: there would be nothing to replay.
async fn check_start(operator: &Operator, start: ReplayFrom) -> anyhow::Result<()> {
    let newest = operator.bucket.publish_barrier().await?;

    match start {
        ReplayFrom::Sequence(sequence) if sequence > newest => Err(CommandError::usage(format!(
            "--from-sequence: the bucket's newest record is {newest}"
        ))
        .into()),
        ReplayFrom::Moment(moment) if moment > Timestamp::now() => {
            Err(CommandError::usage("--from-time: this time is in the future").into())
        }
        ReplayFrom::Sequence(_) | ReplayFrom::Moment(_) => Ok(()),
    }
}
