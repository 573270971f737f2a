//! `gofavorites replay`: a shard's Postgres built anew from the bucket, while the shard serves.

use super::Settings;
use super::failed::Failed;
use super::progress::Progress;
use super::show::print;
use crate::app::Tools;
use crate::domain::Timestamp;
use crate::owners::{Loss, OwnersFault, Rebuilt, Since};
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
        let tools = Tools::open(&settings, "gofavorites replay").await?;
        match tools.owners.check_history().await {
            Ok(()) => {}
            Err(OwnersFault::HistoryWentBack(_)) if self.accept_lost_history => {
                let mut progress = Progress::new("emptied");
                tools
                    .owners
                    .accept_lost_history(|done, total| progress.step(done, total))
                    .await?;
                progress.end();
                print("the bucket is taken as it is; start the shard's workers again\n")?;
            }
            Err(OwnersFault::HistoryWentBack(why)) => {
                bail!(
                    "the bucket's history went back: {why}; --accept-lost-history takes the bucket as it is"
                )
            }
            Err(fault) => return Err(fault.into()),
        }
        let rebuilt = match since {
            Some(since) => self.follow_again(&tools, since).await?,
            None => self.all_anew(&tools).await?,
        };
        match rebuilt.failed {
            0 => Ok(()),
            failed => Err(Failed::differs(format!(
                "{failed} owners could not be brought; the log says why"
            ))
            .into()),
        }
    }

    fn since(&self) -> anyhow::Result<Option<Since>> {
        Ok(match (self.from_sequence, &self.from_time) {
            (Some(sequence), _) => Some(Since::Sequence(sequence)),
            (None, Some(time)) => {
                let moment = Timestamp::parse_rfc3339(time)
                    .context("--from-time: a time as 2026-11-23T05:00:00Z")?;
                Some(Since::Moment(moment))
            }
            (None, None) => None,
        })
    }

    async fn all_anew(&self, tools: &Tools) -> anyhow::Result<Rebuilt> {
        let loss = if self.accept_lost_history {
            Loss::Accept
        } else {
            Loss::Refuse
        };
        let mut progress = Progress::new("owners brought anew");
        let mut rebuilt = tools
            .owners
            .rebuild_known(loss, |done, total| progress.step(done, total))
            .await?;
        progress.end();
        if self.everyone {
            let mut progress = Progress::new("owners of the bucket");
            let more = tools
                .owners
                .host_everyone(|done, total| progress.step(done, total))
                .await?;
            progress.end();
            rebuilt = Rebuilt {
                owners: rebuilt.owners + more.owners,
                failed: rebuilt.failed + more.failed,
            };
        }
        let mut progress = Progress::new("records followed");
        let complete = tools
            .owners
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
    async fn has_begun(&self, tools: &Tools, since: &Since) -> anyhow::Result<()> {
        let newest = tools.owners.truth().ring_barrier().await?;
        match since {
            Since::Sequence(sequence) if *sequence > newest => Err(Failed::usage(format!(
                "--from-sequence: the bucket's newest record is {newest}"
            ))
            .into()),
            Since::Moment(moment) if *moment > Timestamp::now() => {
                Err(Failed::usage("--from-time: that time is yet to come").into())
            }
            Since::Sequence(_) | Since::Moment(_) => Ok(()),
        }
    }

    async fn follow_again(&self, tools: &Tools, since: Since) -> anyhow::Result<Rebuilt> {
        self.has_begun(tools, &since).await?;
        let mut progress = Progress::new("records followed");
        let rebuilt = tools
            .owners
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
