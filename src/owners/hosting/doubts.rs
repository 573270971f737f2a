//! Settling doubts: comparing with the truth the copies that do not fit it, while the projection goes
//! on. And copies with lost history that Postgres could not mark when a request found it out.

use super::host::HostingReason;
use crate::owners::{Owners, OwnersError};
use crate::seal::OwnerKey;
use crate::shard::ShardError;
use std::collections::HashSet;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::{error, info, warn};

/// The pause before the copies that are still in doubt are compared again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// The same pause, in multiples of the time that the last comparison took.
const REST_FACTOR: u32 = 5;
/// How many copies in doubt are read from Postgres at once.
const PAGE: i64 = 64;
/// The most owners that are remembered to be compared. One beyond that is compared when its copy is
/// loaded again.
const REMEMBERED_OWNERS_MAX: usize = 50_000;

/// The owners whose lost history could not be marked in Postgres.
#[derive(Default)]
pub(in crate::owners) struct UnmarkedLosses(Mutex<HashSet<OwnerKey>>);

impl UnmarkedLosses {
    fn owners(&self) -> MutexGuard<'_, HashSet<OwnerKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owners {
    /// Compares the copies in doubt with the truth, while this worker projects: at once after a step
    /// of the projection found some, and again later. Also compares the copies whose lost history
    /// this worker could not mark. Never returns.
    pub async fn settle_doubts(&self) {
        let mut pause = RETRY_PAUSE;
        loop {
            let _ = timeout(pause, self.0.doubts.notified()).await;
            let begun = Instant::now();

            if !self.0.store.stores_rows() || self.0.bucket.reading().is_open() {
                continue;
            }
            self.mark_missed_losses().await;
            if self.projects()
                && let Err(error) = self.settle_all_doubts().await
            {
                warn!(%error, "cannot find out which copies are in doubt");
            }
            pause = RETRY_PAUSE.max(begun.elapsed() * REST_FACTOR);
        }
    }

    /// Remembers to compare the owner's copy with the truth.
    pub(super) fn compare_later(&self, owner: &OwnerKey) {
        let mut owners = self.0.unmarked_losses.owners();
        if owners.len() < REMEMBERED_OWNERS_MAX {
            owners.insert(*owner);
        }
    }

    /// Compares the remembered copies. What fails is remembered again.
    async fn mark_missed_losses(&self) {
        let owners = mem::take(&mut *self.0.unmarked_losses.owners());
        for owner in &owners {
            if let Err(error) = self.mark_if_lost(owner).await {
                warn!(%owner, %error, "cannot compare this owner's copy with the bucket yet");
                self.compare_later(owner);
            }
        }
    }

    /// Marks the copy that is here as lost history, if the truth lacks something of it.
    async fn mark_if_lost(&self, owner: &OwnerKey) -> Result<(), OwnersError> {
        let Some(rows) = self.0.store.find_rows(owner).await? else {
            return Ok(());
        };
        let compared = match self.fetch_complete(owner).await {
            Ok(fetched) => self.refuse_loss(owner, &rows, fetched).await.map(drop),
            Err(error) => Err(error),
        };

        match compared {
            Err(OwnersError::HistoryLost { .. }) => Ok(()),
            Err(OwnersError::Broken { .. }) => {
                self.keep_as_lost(owner).await;
                Ok(())
            }
            compared => compared,
        }
    }

    async fn settle_all_doubts(&self) -> Result<(), ShardError> {
        let mut after = None;
        loop {
            let owners = self.0.store.doubted_owners(after, PAGE).await?;
            for owner in &owners {
                self.settle_doubt(owner).await;
            }

            after = owners.last().copied();
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Compares a copy in doubt with the truth: a projected record is based on a version that never
    /// came here, or is older than the copy.
    ///
    /// A copy that only missed something is replaced: one of the missing versions may have been a
    /// deletion that is no longer kept. A copy that has what the truth lacks stays as it is, and so
    /// does every copy if the truth is not complete: it may be the last one.
    async fn settle_doubt(&self, owner: &OwnerKey) {
        let entry = self.entry(owner);
        entry.damaged.store(true, Ordering::Release);
        let Some(backoff) = self.backoff_of(&entry) else {
            return;
        };
        let hosted = self
            .host_with_backoff(owner, &entry, HostingReason::Damaged, backoff, None)
            .await;

        match hosted {
            Ok((_, hosted)) => {
                info!(%owner, hosted, "this owner's copy does not fit the bucket: compared the two")
            }
            Err(OwnersError::Broken { broken, .. }) => {
                error!(
                    %owner, error = %broken,
                    "the truth lacks records of this owner: this shard's copy is kept"
                );
                self.keep_as_lost(owner).await;
            }
            // The owner's next request, or the next round, tries again.
            Err(error) => {
                warn!(%owner, %error, "cannot compare this owner's copy with the bucket yet")
            }
        }
    }
}
