//! Rebuilding a shard's Postgres from the truth, while the shard serves.
//!
//! Two passes: owners are brought anew, one by one, each as a request would bring them; then the bucket's kept records
//! are followed into the versions that passed by. Both may be broken off and begun again anywhere.

use super::Operator;
use super::retry::retry_while_unavailable;
use super::verify::{Comparison, Verifier};
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

/// Owners looked up in one go.
const PAGE: usize = 200;
/// Owners brought side by side: more would press those who are served.
const SIDE_BY_SIDE: usize = 4;
/// Records followed in one go.
const BATCH: usize = 1_000;
/// Owners remembered as looked at, at most.
const REMEMBERED: usize = 200_000;
/// How long the bucket may send nothing while more is to come: as long as outages are waited for otherwise.
const SILENT: Duration = Duration::from_secs(30);
/// How often a server that is unavailable is asked again.
const RETRIES_MAX: usize = 60;

/// From where records are followed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    /// From that stream sequence on.
    Sequence(u64),
    /// From that moment on, as the bucket tells it.
    Moment(Timestamp),
}

/// What came of bringing owners anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuildSummary {
    /// Owners who are hosted now.
    pub owners: u64,
    /// Owners who could not be brought; the log says why.
    pub failed: u64,
}

impl Operator {
    /// Brings each owner anew whom this shard knows. `step` hears how many are done, and of how many.
    pub async fn rebuild_known(
        &self,
        loss: Loss,
        mut step: impl FnMut(u64, u64),
    ) -> Result<RebuildSummary, OwnersError> {
        let total = self.store.known_count().await?;
        let (mut rebuilt, mut after) = (RebuildSummary::default(), None);
        loop {
            let page = retry_while_unavailable(RETRIES_MAX, || {
                self.store.known_owners(after.as_ref(), PAGE as i64)
            })
            .await?;
            let Some(last) = page.last() else {
                return Ok(rebuilt);
            };
            after = Some(*last);
            self.rebuild_some(&page, loss, &mut rebuilt).await;
            step(rebuilt.owners + rebuilt.failed, total);
        }
    }

    /// Hosts each owner of the bucket whom this shard does not know.
    pub async fn host_everyone(
        &self,
        mut step: impl FnMut(u64, u64),
    ) -> Result<RebuildSummary, OwnersError> {
        let mut list = self.bucket.list_owners().await?;
        let total = list.left();
        let mut rebuilt = RebuildSummary::default();
        loop {
            let page = list.next_page(PAGE).await?;
            if page.is_empty() {
                return Ok(rebuilt);
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
            self.rebuild_some(&unknown, Loss::Refuse, &mut rebuilt)
                .await;
            step(total.saturating_sub(list.left()), total);
        }
    }

    async fn rebuild_some(&self, owners: &[OwnerKey], loss: Loss, rebuilt: &mut RebuildSummary) {
        let brought = owners
            .iter()
            .copied()
            .map(|owner| self.clone().bring_one(owner, loss))
            .collect::<Vec<_>>();
        let mut brought = stream::iter(brought).buffer_unordered(SIDE_BY_SIDE);
        while let Some(hosted) = brought.next().await {
            *(if hosted {
                &mut rebuilt.owners
            } else {
                &mut rebuilt.failed
            }) += 1;
        }
    }

    async fn bring_one(self, owner: OwnerKey, loss: Loss) -> bool {
        match retry_while_unavailable(RETRIES_MAX, || self.owners.rebuild(&owner, loss)).await {
            Ok(true) => true,
            Ok(false) => {
                error!(%owner, "not brought: see before");
                false
            }
            Err(error) => {
                error!(%owner, %error, "not brought");
                false
            }
        }
    }

    /// Follows all kept records into the versions that passed by, and says of the owners who were known when it began
    /// that their history is complete. Gives of how many.
    pub async fn refill_versions(
        &self,
        mut step: impl FnMut(u64, u64),
    ) -> Result<u64, OwnersError> {
        let known_since = self.store.clock().await?;
        let end = self.bucket.publish_barrier().await?;
        let mut follower = self.bucket.follow(0).await?;
        let mut at = 0;
        while at < end {
            at = self.follow_some(&mut follower).await?.0;
            step(at.min(end), end);
        }
        Ok(self.store.complete_histories(known_since, end).await?)
    }

    /// Follows the records since then once more: into the versions that passed by, and where an owner's rows differ from
    /// the truth, the owner is brought anew. Gives how many were.
    pub async fn follow_again(
        &self,
        since: ReplayFrom,
        mut step: impl FnMut(u64, u64),
    ) -> Result<RebuildSummary, OwnersError> {
        let end = self.bucket.publish_barrier().await?;
        let mut follower = match since {
            ReplayFrom::Sequence(sequence) => {
                self.bucket.follow(sequence.saturating_sub(1)).await?
            }
            ReplayFrom::Moment(moment) => self.bucket.follow_since(moment).await?,
        };
        let verifier = Verifier::new(self.clone());
        let (mut looked_at, mut rebuilt, mut at) = (HashSet::new(), RebuildSummary::default(), 0);
        while at < end {
            let records;
            (at, records) = self.follow_some(&mut follower).await?;
            if looked_at.len() > REMEMBERED {
                looked_at.clear();
            }
            let owners = records.iter().map(|(owner, _)| *owner);
            let fresh: Vec<OwnerKey> = owners.filter(|owner| looked_at.insert(*owner)).collect();
            for owner in
                retry_while_unavailable(RETRIES_MAX, || self.store.known_among(&fresh)).await?
            {
                if let Comparison::Differ(how) =
                    retry_while_unavailable(RETRIES_MAX, || verifier.compare(&owner)).await?
                {
                    warn!(%owner, ?how, "differs");
                    self.rebuild_some(&[owner], Loss::Refuse, &mut rebuilt)
                        .await;
                }
            }
            step(at.min(end), end);
        }
        Ok(rebuilt)
    }

    /// Stores the next records among the versions that passed by. Gives how far it has come, and the records.
    async fn follow_some(
        &self,
        follower: &mut Follower,
    ) -> Result<(u64, Vec<(OwnerKey, Record)>), OwnersError> {
        let batch = timeout(SILENT, follower.next_batch(BATCH)).await;
        let batch = batch.map_err(|_| TruthError::from(CallError::TimedOut))??;
        let at = batch.last().map(|entry| entry.sequence).unwrap_or_default();
        let records: Vec<_> = batch
            .into_iter()
            .filter_map(|Entry { record, .. }| record)
            .collect();
        retry_while_unavailable(RETRIES_MAX, || self.store.add_versions(&records)).await?;
        Ok((at, records))
    }

    /// Accepts that the bucket lost what it acknowledged: takes away all that stood upon it, and lets the projection go
    /// on from now. Every owner has to be brought anew, and the workers to be started again.
    pub async fn accept_lost_history(
        &self,
        mut step: impl FnMut(u64, u64),
    ) -> Result<(), OwnersError> {
        let created = match self.bucket.position().await {
            Ok(position) => position.created,
            Err(SetupError::Truth(error)) => return Err(error.into()),
            Err(other) => return Err(TruthError::Refused(other.to_string()).into()),
        };
        // Before anything is taken away: whatever is hosted from now on reaches beyond it.
        let newest = self.bucket.publish_barrier().await?;
        let (total, mut done, mut after) = (self.store.known_count().await?, 0, None);
        loop {
            let page = self.store.known_owners(after.as_ref(), PAGE as i64).await?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            self.store.empty_owners(&page, newest).await?;
            done += page.len() as u64;
            step(done, total);
        }
        self.store
            .accept_history(self.bucket.name(), &created, newest)
            .await?;
        self.owners.continuity().reset();
        Ok(())
    }
}
