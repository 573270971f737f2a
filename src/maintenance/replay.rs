//! Replay: rebuilding a shard's Postgres from the truth, while the shard serves.
//!
//! There are two passes. The first passes over the copies that equal the truth, and rebuilds each
//! other one as a request that finds a bad copy does. The second follows the bucket's kept records and stores them among the superseded
//! versions (`item_version`). An operator may interrupt both at any point and run them again.

use super::Operator;
use super::retry::retry_while_unavailable;
use super::verify::{Comparison, NEIGHBOURS_MAX, Verifier};
use crate::domain::Timestamp;
use crate::owners::{Loss, OwnersError};
use crate::requester::CallError;
use crate::seal::{OwnerKey, Record};
use crate::truth::{Entry, Follower, SetupError, TruthError};
use futures::StreamExt as _;
use futures::stream;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{error, warn};

/// The most owners looked up at once. They are several rounds of groups: the last groups of a page leave
/// a core idle.
const PAGE_OWNERS_MAX: usize = 3_200;
/// The most owners whose copies are removed in one transaction.
const EMPTIED_OWNERS_MAX: i64 = 800;
/// The most owners, or groups, rebuilt at the same time. More would slow down requests.
const CONCURRENT_OWNERS_MAX: usize = 4;
/// The most records followed at once.
const BATCH_RECORDS_MAX: usize = 1_000;
/// The most owners remembered as compared.
const COMPARED_OWNERS_MAX: usize = 200_000;
/// How long the bucket may send nothing while more is to come: as long as the retries of other
/// calls take.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often the list of the bucket's owners is begun again. The server may need a minute for it.
const LIST_RETRIES_MAX: usize = 5;
/// How often a server that is unavailable is asked again.
const RETRIES_MAX: usize = 60;

/// Where a replay of records begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    /// At that stream sequence.
    Sequence(u64),
    /// At that moment, by the clock of the bucket's server.
    Moment(Timestamp),
}

/// The counts of a rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuildSummary {
    /// The owners that are hosted now.
    pub owners: u64,
    /// The owners that could not be rebuilt. The log has the reasons.
    pub failed: u64,
}

impl Operator {
    /// Rebuilds each owner that this shard knows and whose copy does not equal the truth, so that an
    /// interrupted rebuild goes on where it was. Calls `on_progress` with the number of owners
    /// done, and of all. If lost history is accepted, the shard's workers learn it afterwards.
    pub async fn rebuild_known(
        &self,
        loss: Loss,
        on_progress: impl FnMut(u64, u64),
    ) -> Result<RebuildSummary, OwnersError> {
        let rebuilt = self.rebuild_pages(loss, on_progress).await;
        if loss == Loss::Accept {
            retry_while_unavailable(RETRIES_MAX, || {
                self.store.count_acceptance(self.bucket.name())
            })
            .await?;
        }

        rebuilt
    }

    async fn rebuild_pages(
        &self,
        loss: Loss,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<RebuildSummary, OwnersError> {
        let total = self.store.known_count().await?;
        let verifier = Verifier::new(self.clone());
        let mut summary = RebuildSummary::default();
        let (mut from, mut after) = (0, None);
        // A rebuild may move an owner to a later place.
        let mut rebuilt = HashSet::new();
        loop {
            let page = retry_while_unavailable(RETRIES_MAX, || {
                let limit = PAGE_OWNERS_MAX as i64;
                self.store.owners_in_order(from, after.as_ref(), limit)
            })
            .await?;
            let Some(last) = page.last() else {
                return Ok(summary);
            };
            (from, after) = (last.key_version, Some(last.owner));

            let owners = page.iter().map(|place| place.owner);
            let owners: Vec<_> = owners.filter(|owner| !rebuilt.contains(owner)).collect();
            let groups = owners.chunks(NEIGHBOURS_MAX);
            let groups = groups.map(|group| verifier.equal_among(group));
            let left = without_ready(&owners, groups.collect(), &mut summary).await;
            self.rebuild_some(&left, loss, &mut summary).await;
            rebuilt.extend(left);
            on_progress(summary.owners + summary.failed, total);
        }
    }

    /// Hosts each owner of the bucket that this shard does not know. Calls `on_progress` with about how
    /// many records of the bucket it has passed, and how many there are.
    pub async fn host_everyone(
        &self,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<RebuildSummary, OwnersError> {
        let mut list =
            retry_while_unavailable(LIST_RETRIES_MAX, || self.bucket.list_owners()).await?;
        let total = list.left();
        let mut summary = RebuildSummary::default();
        loop {
            let page = list.next_page(PAGE_OWNERS_MAX).await?;
            if page.is_empty() {
                return Ok(summary);
            }

            let known: HashSet<_> =
                retry_while_unavailable(RETRIES_MAX, || self.store.known_among(&page))
                    .await?
                    .into_iter()
                    .collect();
            let unknown: Vec<_> = page
                .into_iter()
                .filter(|owner| !known.contains(owner))
                .collect();

            let groups = unknown.chunks(NEIGHBOURS_MAX);
            let groups = groups.map(|group| self.owners.host_several(group));
            let left = without_ready(&unknown, groups.collect(), &mut summary).await;
            self.rebuild_some(&left, Loss::Refuse, &mut summary).await;
            on_progress(total.saturating_sub(list.left()), total);
        }
    }

    async fn rebuild_some(&self, owners: &[OwnerKey], loss: Loss, summary: &mut RebuildSummary) {
        let rebuilds = owners
            .iter()
            .copied()
            .map(|owner| self.clone().rebuild_one(owner, loss))
            .collect::<Vec<_>>();
        let mut rebuilds = stream::iter(rebuilds).buffer_unordered(CONCURRENT_OWNERS_MAX);

        while let Some(hosted) = rebuilds.next().await {
            if hosted {
                summary.owners += 1;
            } else {
                summary.failed += 1;
            }
        }
    }

    /// Rebuilds the owner. Returns whether the shard hosts the owner now.
    async fn rebuild_one(self, owner: OwnerKey, loss: Loss) -> bool {
        match retry_while_unavailable(RETRIES_MAX, || self.owners.rebuild(&owner, loss)).await {
            Ok(true) => true,
            Ok(false) => {
                error!(%owner, "owner not rebuilt: the rows kept changing");
                false
            }
            Err(error) => {
                error!(%owner, %error, "owner not rebuilt");
                false
            }
        }
    }

    /// Stores all kept records among the superseded versions. Then marks the history as complete
    /// for the owners that were known at the start. Returns how many these are.
    ///
    /// Calls `on_progress` with the stream sequence that it has reached, and with the last one.
    pub async fn refill_versions(
        &self,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<u64, OwnersError> {
        let started_at = self.store.clock().await?;
        let end = self.bucket.publish_barrier().await?;
        let mut follower = self.bucket.follow(0).await?;

        let mut at = 0;
        while at < end {
            at = self.follow_some(&mut follower).await?.0;
            on_progress(at.min(end), end);
        }

        Ok(self.store.complete_histories(started_at, end).await?)
    }

    /// Follows the records since `since` again. Stores them among the superseded versions, and
    /// rebuilds each of their owners whose copy differs from the truth. Returns how many owners it
    /// rebuilt.
    ///
    /// Calls `on_progress` with the stream sequence that it has reached, and with the last one.
    pub async fn follow_again(
        &self,
        since: ReplayFrom,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<RebuildSummary, OwnersError> {
        let end = self.bucket.publish_barrier().await?;
        let mut follower = match since {
            ReplayFrom::Sequence(sequence) => {
                self.bucket.follow(sequence.saturating_sub(1)).await?
            }
            ReplayFrom::Moment(moment) => self.bucket.follow_since(moment).await?,
        };
        let verifier = Verifier::new(self.clone());
        let mut compared = HashSet::new();
        let mut summary = RebuildSummary::default();

        let mut at = 0;
        while at < end {
            let records;
            (at, records) = self.follow_some(&mut follower).await?;
            if compared.len() > COMPARED_OWNERS_MAX {
                compared.clear();
            }
            let owners = records.iter().map(|(owner, _)| *owner);
            let fresh: Vec<OwnerKey> = owners.filter(|owner| compared.insert(*owner)).collect();

            let known =
                retry_while_unavailable(RETRIES_MAX, || self.store.known_among(&fresh)).await?;
            for owner in known {
                if let Comparison::Differ(divergence) =
                    retry_while_unavailable(RETRIES_MAX, || verifier.compare(&owner)).await?
                {
                    warn!(%owner, %divergence, "the owner's copy differs: rebuilding it");
                    self.rebuild_some(&[owner], Loss::Refuse, &mut summary)
                        .await;
                }
            }
            on_progress(at.min(end), end);
        }

        Ok(summary)
    }

    /// Stores the next records among the superseded versions. Returns the stream sequence that it
    /// has reached, and the records.
    async fn follow_some(
        &self,
        follower: &mut Follower,
    ) -> Result<(u64, Vec<(OwnerKey, Record)>), OwnersError> {
        let batch = timeout(SILENCE_MAX, follower.next_batch(BATCH_RECORDS_MAX)).await;
        let batch = batch.map_err(|_| TruthError::from(CallError::TimedOut))??;

        let at = batch.last().map(|entry| entry.sequence).unwrap_or_default();
        let records: Vec<_> = batch
            .into_iter()
            .filter_map(|Entry { record, .. }| record)
            .collect();

        retry_while_unavailable(RETRIES_MAX, || self.store.add_versions(&records)).await?;
        Ok((at, records))
    }

    /// Accepts that the bucket lost what it acknowledged: removes everything that is based on the
    /// lost history, and sets the projection's cursor to the bucket's end.
    ///
    /// After that every owner has to be rebuilt, and the workers have to be restarted. Calls
    /// `on_progress` with the number of owners done, and of all.
    pub async fn accept_lost_history(
        &self,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<(), OwnersError> {
        let created = match self.bucket.position().await {
            Ok(position) => position.created,
            Err(SetupError::Truth(error)) => return Err(error.into()),
            Err(other) => return Err(TruthError::Refused(other.to_string()).into()),
        };
        // The barrier comes before the removal, so that every set that is hosted from now on
        // reaches beyond it.
        let newest = self.bucket.publish_barrier().await?;
        // The first shard that accepts the loss gives the history another name, before any copy of
        // the lost one is removed.
        let known = self.store.epoch(self.bucket.name()).await?;
        let epoch = self.bucket.replace_epoch(known.as_deref()).await?;

        let total = self.store.known_count().await?;
        let mut done = 0;
        let mut after = None;
        loop {
            let page = self
                .store
                .known_owners(after.as_ref(), EMPTIED_OWNERS_MAX)
                .await?;
            let Some(last) = page.last() else { break };
            after = Some(*last);

            self.store.empty_owners(&page, newest).await?;
            done += page.len() as u64;
            on_progress(done, total);
        }

        self.store
            .accept_history(self.bucket.name(), &created, newest, &epoch)
            .await?;
        self.owners.continuity().reset();
        Ok(())
    }
}

/// Waits for the groups of owners that need no rebuild of their own. Counts them, and returns the other
/// owners.
async fn without_ready<F>(
    owners: &[OwnerKey],
    groups: Vec<F>,
    summary: &mut RebuildSummary,
) -> Vec<OwnerKey>
where
    F: Future<Output = Result<HashSet<OwnerKey>, OwnersError>>,
{
    let mut groups = stream::iter(groups).buffer_unordered(CONCURRENT_OWNERS_MAX);
    let mut ready = HashSet::new();
    while let Some(group) = groups.next().await {
        // If that fails, the rebuild of each owner tells why.
        ready.extend(group.unwrap_or_default());
    }

    summary.owners += ready.len() as u64;
    let is_left = |owner: &&OwnerKey| !ready.contains(*owner);
    owners.iter().filter(is_left).copied().collect()
}
