//! Repairing an owner whose records in the bucket are not complete: what is missing comes back from
//! the shards' copies, by ordinary writes on top of the owner's last state.
//!
//! The repair never removes a record, and every write of it is a compare-and-set on the owner's
//! version. So it may run beside the workers, and may be interrupted and run again.

mod compose;
mod evidence;
mod merge;
mod plan;
mod report;

#[cfg(test)]
mod tests;

pub use evidence::NoRepair;
pub use merge::Losses;
pub use report::{CopyReport, Damage, RepairOutcome, RepairReport, Verdict, Work};

use super::verify::{Comparison, Difference, Verifier};
use super::{Operator, Repair};
use crate::domain::Version;
use crate::owners::{Loss, OwnersError, Snapshot};
use crate::requester::{CallError, Transient as _};
use crate::seal::{OwnerKey, OwnerSet};
use crate::truth::{AppendError, StoredMessage, TruthError};
use compose::{Writer, stored};
use evidence::{Evidence, newest_of};
use merge::Merged;
use plan::{Plan, PlanError};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// How often a repair begins again, because the owner wrote meanwhile or an acknowledgement is missing.
const TRIES_MAX: usize = 20;
/// The pause before that.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long the acknowledgement of a write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a repair may go on although something is lost, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptLoss {
    /// Change nothing then.
    No,
    /// Bring back what is left.
    Yes,
}

/// A shard that a repair may take copies from.
pub struct RepairShard {
    /// The shard.
    pub name: String,
    /// Its tools.
    pub operator: Operator,
}

/// Repairs owners, with the copies of some shards.
pub struct Repairer {
    /// The shard whose connection to the bucket is used.
    first: RepairShard,
    others: Vec<RepairShard>,
}

/// An owner that was looked at.
struct Examined {
    report: RepairReport,
    /// The evidence and what has to be written, if something can be done.
    work: Option<(Evidence, Plan)>,
}

/// How the writes of a plan ended.
enum Written {
    /// All are acknowledged.
    All(Version),
    /// The owner has another version by now, or one write was not acknowledged.
    Again,
}

impl Repairer {
    /// Creates a repairer, which writes as the first shard does; `None` without a shard.
    pub fn new(shards: Vec<RepairShard>) -> Option<Self> {
        let mut others = shards;
        if others.is_empty() {
            return None;
        }

        Some(Self {
            first: others.remove(0),
            others,
        })
    }

    fn shards(&self) -> impl Iterator<Item = &RepairShard> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Returns the owners of the shards for whom `verify` finds that the bucket is at fault.
    pub async fn broken_owners(&self) -> Result<Vec<OwnerKey>, OwnersError> {
        let mut owners = BTreeSet::new();
        for shard in self.shards() {
            let note = |finding: super::Finding| {
                let is_broken = match &finding.what {
                    Ok(divergence) => divergence.differences.iter().any(|difference| {
                        use Difference::{TruthLost, TruthNotWhole};
                        matches!(difference, TruthNotWhole | TruthLost { .. })
                    }),
                    Err(error) => !error.is_unavailable(),
                };
                if is_broken {
                    owners.insert(finding.owner);
                }
            };
            shard
                .operator
                .verify_all(0, Repair::No, note, |_| ())
                .await?;
        }

        Ok(owners.into_iter().collect())
    }

    /// Looks at the owner, and changes nothing.
    pub async fn examine(&self, owner: &OwnerKey) -> Result<RepairReport, OwnersError> {
        Ok(self.look_at(owner).await?.report)
    }

    /// Repairs the owner, if that is needed and possible.
    ///
    /// # Errors
    ///
    /// A server is unavailable, the owner writes all the time, or the bucket as a whole has lost
    /// history.
    pub async fn repair(
        &self,
        owner: &OwnerKey,
        accept: AcceptLoss,
    ) -> Result<RepairOutcome, OwnersError> {
        let mut found = None;
        for _ in 0..TRIES_MAX {
            let Examined { report, work } = self.look_at(owner).await?;
            let found = found.get_or_insert(report.clone()).clone();
            let loses = report.verdict.loses();
            let Some((evidence, plan)) = work.filter(|_| !loses || accept == AcceptLoss::Yes)
            else {
                return self.end(found, &report).await;
            };

            match self.write(&evidence, &plan).await? {
                Written::All(version) => {
                    return Ok(RepairOutcome {
                        found,
                        version: Some(version.get()),
                        behind: self.renew_copies(owner).await,
                    });
                }
                Written::Again => sleep(RETRY_PAUSE).await,
            }
        }

        Err(TruthError::from(CallError::TimedOut).into())
    }

    /// The end of a run that has nothing to write, or nothing more.
    async fn end(
        &self,
        found: RepairReport,
        last: &RepairReport,
    ) -> Result<RepairOutcome, OwnersError> {
        let is_repaired = last.verdict == Verdict::Sound && found.verdict != Verdict::Sound;
        let behind = if is_repaired {
            self.renew_copies(&last.owner).await
        } else {
            Vec::new()
        };

        Ok(RepairOutcome {
            version: is_repaired.then_some(last.bucket_version),
            found,
            behind,
        })
    }

    async fn look_at(&self, owner: &OwnerKey) -> Result<Examined, OwnersError> {
        let Operator {
            bucket, keyring, ..
        } = &self.first.operator;
        bucket.read_marks().await?;
        let (copies, sets) = self.read_copies(owner).await?;
        let barrier = Version::new(bucket.publish_barrier().await?).unwrap_or_default();
        let messages = bucket.stored_messages(owner).await?;

        let mut report = RepairReport {
            owner: *owner,
            bucket_version: newest_of(&messages).get(),
            bucket_records: count_names(&messages),
            damage: Damage::default(),
            copies,
            verdict: Verdict::Sound,
        };
        if messages.is_empty() && sets.is_empty() {
            return Ok(Examined { report, work: None });
        }

        let evidence = match Evidence::of(keyring, *owner, &messages, sets) {
            Ok(evidence) => evidence,
            Err(why) => {
                report.verdict = without_repair(why, &report);
                return Ok(Examined { report, work: None });
            }
        };
        count_ahead(&mut report.copies, &evidence);
        self.judge(report, evidence, barrier)
    }

    /// Plans what has to be written, and judges by that.
    fn judge(
        &self,
        mut report: RepairReport,
        evidence: Evidence,
        barrier: Version,
    ) -> Result<Examined, OwnersError> {
        let operator = &self.first.operator;
        if let Ok(merged) = Merged::of(&operator.keyring, &evidence, Version::NONE) {
            report.damage = Damage::of(&evidence, &merged);
            if merged.set.version() >= barrier {
                let why = format!("{barrier} is its newest sequence, and a copy is newer");
                return Err(OwnersError::HistoryWentBack(why));
            }
        }

        let plan = match Plan::of(&self.writer(&evidence), &evidence, barrier) {
            Ok(plan) => plan,
            Err(PlanError::NoRepair(why)) => {
                report.verdict = without_repair(why, &report);
                return Ok(Examined { report, work: None });
            }
            Err(error) => return Err(error.into()),
        };
        let is_sound = plan.writes.is_empty() && !plan.losses.are_possible();
        report.verdict = if is_sound {
            Verdict::Sound
        } else if evidence.copies.is_empty() && plan.losses.are_possible() {
            Verdict::NoCopy(Some(plan.work()))
        } else {
            Verdict::Repairable(plan.work())
        };

        let work = (!is_sound).then_some((evidence, plan));
        Ok(Examined { report, work })
    }

    fn writer<'w>(&'w self, evidence: &'w Evidence) -> Writer<'w> {
        Writer {
            keyring: &self.first.operator.keyring,
            owner: evidence.owner,
            keys: &evidence.keys,
            shard: &self.first.name,
            format: self.first.operator.bucket.format(),
        }
    }

    /// Reads the shards' copies. Returns what to report of each, and the complete ones.
    async fn read_copies(
        &self,
        owner: &OwnerKey,
    ) -> Result<(Vec<CopyReport>, Vec<OwnerSet>), OwnersError> {
        let mut reports = Vec::new();
        let mut sets = Vec::new();
        for shard in self.shards() {
            let rows = shard.operator.store.find_rows(owner).await?;
            let version = rows.as_ref().map(|rows| rows.version);
            let records = rows.as_ref().and_then(|rows| rows.records());
            let count = records.as_ref().map_or(0, Vec::len);

            let keyring = &shard.operator.keyring;
            let set = records
                .and_then(|records| Snapshot::of_records(keyring, *owner, records, None).ok())
                .filter(|copy| Some(copy.version().get()) == version && copy.items().is_ok())
                .map(|copy| copy.set().clone());
            reports.push(CopyReport {
                shard: shard.name.clone(),
                version,
                records: count,
                complete: set.is_some(),
                ahead: 0,
            });
            sets.extend(set);
        }

        Ok((reports, sets))
    }

    /// Writes what the plan says. Each write expects the version that the one before it made.
    async fn write(&self, evidence: &Evidence, plan: &Plan) -> Result<Written, OwnersError> {
        let bucket = &self.first.operator.bucket;
        let writer = self.writer(evidence);
        let mut set = plan.set.clone();
        let mut expected = evidence.bucket_version;

        for pieces in &plan.writes {
            let records = writer.seal(&set, pieces)?;
            let deadline = Instant::now() + WRITE_TIMEOUT;
            let appended = bucket
                .append(&evidence.owner, expected, &records, deadline)
                .await;
            expected = match appended {
                Ok(version) => version,
                Err(AppendError::Conflict | AppendError::InDoubt | AppendError::Busy) => {
                    return Ok(Written::Again);
                }
                Err(AppendError::Full) => return Err(TruthError::Full.into()),
                Err(AppendError::NotWritten(error)) => return Err(error.into()),
            };
            for record in stored(&records, expected)? {
                set = set.with(writer.keyring, record);
            }
        }

        Ok(Written::All(expected))
    }

    /// Brings the shards' copies to what the bucket has now, without waiting for their workers.
    /// Returns the shards where that failed.
    async fn renew_copies(&self, owner: &OwnerKey) -> Vec<String> {
        let mut behind = Vec::new();
        for shard in self.shards() {
            match renew_copy(shard, owner).await {
                Ok(true) => {}
                Ok(false) => behind.push(shard.name.clone()),
                Err(error) => {
                    warn!(%owner, %error, shard = shard.name, "cannot renew the shard's copy");
                    behind.push(shard.name.clone());
                }
            }
        }
        behind
    }
}

/// Renews the copy of one shard, if it has one. Returns whether it equals the bucket.
async fn renew_copy(shard: &RepairShard, owner: &OwnerKey) -> Result<bool, OwnersError> {
    let operator = &shard.operator;
    if operator.store.find_rows(owner).await?.is_none() {
        return Ok(true);
    }

    operator.owners.rebuild(owner, Loss::Refuse).await?;
    let compared = Verifier::new(operator.clone()).compare(owner).await?;
    Ok(matches!(
        compared,
        Comparison::Equal | Comparison::NotHosted | Comparison::Busy
    ))
}

fn count_names(messages: &[StoredMessage]) -> usize {
    let names: BTreeSet<_> = messages.iter().map(|message| message.name).collect();
    names.len()
}

/// Counts the records of the complete copies that the bucket lacks.
fn count_ahead(reports: &mut [CopyReport], evidence: &Evidence) {
    let complete = reports.iter_mut().filter(|report| report.complete);
    for (report, copy) in std::iter::zip(complete, &evidence.copies) {
        let lacks = |record: &&crate::seal::Record| {
            let stored = evidence.stored.get(&record.name);
            let there = stored.and_then(|stored| stored.genuine.as_ref());
            there.is_none_or(|there| there.version < record.version)
        };
        report.ahead = copy.records().filter(lacks).count();
    }
}

/// The verdict if nothing can be put together. Without any complete copy, that is the reason.
fn without_repair(why: NoRepair, report: &RepairReport) -> Verdict {
    if report.copies.iter().any(|copy| copy.complete) {
        Verdict::Impossible(why)
    } else {
        Verdict::NoCopy(None)
    }
}
