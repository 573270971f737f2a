//! Hosting an owner: storing the owner's records in this shard's Postgres, while requests are
//! answered from the truth.
//!
//! Hosting may take long, for a heavy owner or on a slow machine. So a write waits for it only briefly,
//! and a read not at all; one request at a time hosts an owner, and a pause follows a failure.

use super::presence::UnhostEpoch;
use crate::breaker::Breaker;
use crate::owners::cache::{HostingBackoff, OwnerEntry};
use crate::owners::fetch::FetchedOwner;
use crate::owners::{Owners, OwnersError, Snapshot};
use crate::seal::OwnerKey;
use crate::shard::{CopyState, Hosting, HostingOutcome, ShardError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, error, warn};

/// How often the second step of hosting is tried, each time with what was written in the meantime.
const HOST_TRIES_MAX: usize = 10;
/// An owner whose snapshot takes more memory is heavy: one is hosted at a time, and no request
/// waits for it.
const HEAVY_OWNER_BYTES: u64 = 4 << 20;
/// The most heavy owners that a worker hosts at the same time.
const HEAVY_PERMITS: usize = 1;
/// The most other owners that a worker hosts at the same time, apart from those below. Hosting outlives
/// its request, and holds an owner's set.
const LIGHT_PERMITS: usize = 64;
/// The most other owners that a worker hosts at the same time because they were read. Many owners may
/// move to the shard at once, and their reads do not need the rows.
const READ_PERMITS: usize = 16;

/// Why an owner has to be hosted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::owners) enum HostingReason {
    /// The shard does not host the owner yet.
    NotHosted,
    /// The copy that is here cannot be trusted, or is in doubt. One that has what the bucket lacks
    /// stays nevertheless.
    Damaged,
}

/// An owner who was fetched, and whose hosting goes on by itself.
struct Started {
    snapshot: Arc<Snapshot>,
    /// `None` if the owner is not hosted now.
    hosting: Option<JoinHandle<bool>>,
}

/// Creates the permits to host heavy owners, those to host all others, and those to host others who were
/// read.
pub(in crate::owners) fn hosting_permits() -> [Arc<Semaphore>; 3] {
    [HEAVY_PERMITS, LIGHT_PERMITS, READ_PERMITS].map(|count| Arc::new(Semaphore::new(count)))
}

impl Owners {
    /// Starts to host the owner in the background, unless the shard is known to host the owner.
    pub(in crate::owners) fn host_in_background(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: &Snapshot,
        for_write: bool,
    ) {
        let able = self.0.store.stores_rows()
            && !self.0.bucket.writing().is_open()
            && !self.0.continuity.is_lost();
        if !able || entry.hosted.load(Ordering::Acquire) {
            return;
        }
        let Some(backoff) = self.backoff_of(entry) else {
            return;
        };
        // Without a permit, what is fetched would be in vain.
        let permit = if held.weight() > HEAVY_OWNER_BYTES {
            if self.0.heavy.available_permits() == 0 {
                return;
            }
            None
        } else {
            let permits = if for_write {
                &self.0.light
            } else {
                &self.0.after_reads
            };
            match permits.clone().try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => return,
            }
        };

        // The owner is fetched once more.
        let Some(share) = self.0.memory.try_take(held.weight()) else {
            return;
        };

        let this = self.clone();
        let owner = *owner;
        let entry = entry.clone();
        tokio::spawn(async move {
            let _share = share;
            if entry.damaged.load(Ordering::Acquire) {
                return drop(
                    this.host_with_backoff(&owner, &entry, HostingReason::Damaged, backoff, permit)
                        .await,
                );
            }
            let epoch = this.unhost_epoch();
            let reason = match this.0.store.copy_state(&owner).await {
                Ok(CopyState::Hosted) => return this.mark_hosted(&entry, epoch),
                Ok(CopyState::Absent) => HostingReason::NotHosted,
                Ok(CopyState::InDoubt) => HostingReason::Damaged,
                Err(error) => {
                    return warn!(%error, "cannot check in Postgres whether the owner is hosted");
                }
            };
            drop(
                this.host_with_backoff(&owner, &entry, reason, backoff, permit)
                    .await,
            );
        });
    }

    /// Fetches the owner from the truth, and hosts the owner if Postgres is available. A damaged copy
    /// is replaced. Returns the snapshot, and whether the shard hosts the owner now.
    ///
    /// A write waits for that, because its row is stored only then. A read does not.
    pub(in crate::owners) async fn host_because(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        reason: HostingReason,
        for_write: bool,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        if reason == HostingReason::Damaged {
            entry.damaged.store(true, Ordering::Release);
        }

        let Some(backoff) = self.backoff_of(entry) else {
            return Ok((self.fetch_complete(owner).await?.snapshot, false));
        };
        if for_write {
            return self
                .host_with_backoff(owner, entry, reason, backoff, None)
                .await;
        }

        // Without a permit, a later request of the owner begins.
        let Ok(permit) = self.0.after_reads.clone().try_acquire_owned() else {
            return Ok((self.fetch_complete(owner).await?.snapshot, false));
        };
        let started = self.start_hosting(owner, entry, reason, backoff, Some(permit));
        Ok((started.await?.snapshot, false))
    }

    /// Waits while the owner is being hosted, no longer than for one call to Postgres. A write does so,
    /// because its row is stored only if the owner is hosted.
    pub(in crate::owners) async fn wait_for_hosting(
        &self,
        entry: &OwnerEntry,
        snapshot: &Snapshot,
        deadline: Instant,
    ) {
        let is_hosted = entry.hosted.load(Ordering::Acquire);
        if is_hosted || snapshot.weight() > HEAVY_OWNER_BYTES {
            return;
        }

        let limit = deadline.min(Instant::now() + self.0.store.call_limit());
        drop(timeout_at(limit, entry.hosting.lock()).await);
    }

    /// Hosts the owner, with that `permit` or with one of those for all, and waits for it no longer than
    /// for one call to Postgres.
    pub(super) async fn host_with_backoff(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        reason: HostingReason,
        backoff: OwnedMutexGuard<HostingBackoff>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        let started = self
            .start_hosting(owner, entry, reason, backoff, permit)
            .await?;
        let snapshot = started.snapshot;
        let Some(hosting) = started.hosting else {
            return Ok((snapshot, false));
        };

        let limit = if snapshot.weight() > HEAVY_OWNER_BYTES {
            Duration::ZERO
        } else {
            self.0.store.call_limit()
        };
        let hosted = matches!(timeout(limit, hosting).await, Ok(Ok(true)));
        Ok((snapshot, hosted))
    }

    /// Fetches the owner, and hosts the owner in a task of its own, which keeps the `backoff` locked. An
    /// owner who is not heavy needs the `permit`, or one of those for all.
    async fn start_hosting(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        reason: HostingReason,
        mut backoff: OwnedMutexGuard<HostingBackoff>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Started, OwnersError> {
        let epoch = self.unhost_epoch();
        let begun = match reason {
            HostingReason::NotHosted => {
                Some(self.0.store.begin_hosting(owner, self.bucket_name()).await)
            }
            HostingReason::Damaged => None,
        };
        let fetched = self.fetch_complete(owner).await.inspect_err(|error| {
            // That lasts, and the next request would only find out again.
            if matches!(error, OwnersError::Broken { .. }) {
                backoff.failed(self.ended_outages());
            }
        })?;
        let snapshot = fetched.snapshot.clone();

        let permit = match permit {
            _ if snapshot.weight() > HEAVY_OWNER_BYTES => {
                self.0.heavy.clone().try_acquire_owned().ok()
            }
            None => self.0.light.clone().try_acquire_owned().ok(),
            permit => permit,
        };
        let Some(permit) = permit else {
            return Ok(Started {
                snapshot,
                hosting: None,
            });
        };

        let this = self.clone();
        let owner = *owner;
        let entry = entry.clone();
        let hosting = tokio::spawn(async move {
            let _permit = permit;
            this.finish_hosting(&owner, &entry, epoch, begun, fetched, &mut backoff)
                .await
        });

        debug!(
            records = snapshot.set().records().count(),
            "fetched an owner to host"
        );
        Ok(Started {
            snapshot,
            hosting: Some(hosting),
        })
    }

    /// Stores the fetched set: completes hosting that was `begun`, or replaces a damaged copy.
    /// Returns whether the shard hosts the owner now.
    async fn finish_hosting(
        &self,
        owner: &OwnerKey,
        entry: &OwnerEntry,
        epoch: UnhostEpoch,
        begun: Option<Result<Hosting, ShardError>>,
        fetched: FetchedOwner,
        backoff: &mut HostingBackoff,
    ) -> bool {
        let hosted = match begun {
            Some(begun) => self.complete_hosting(owner, begun, fetched).await,
            None => self.replace_damaged(owner, fetched).await,
        };

        match hosted {
            Ok(true) => {
                *backoff = HostingBackoff::default();
                entry.damaged.store(false, Ordering::Release);
                self.mark_hosted(entry, epoch);
                return true;
            }
            Ok(false) => warn!(%owner, "cannot host the owner yet: served from the truth"),
            Err(error @ OwnersError::HistoryLost { .. }) => {
                error!(%owner, %error, "this shard's copy is kept: it has what the bucket lacks");
                entry.damaged.store(false, Ordering::Release);
            }
            Err(error) => warn!(%owner, %error, "cannot host the owner yet: served from the truth"),
        }

        // An outage of Postgres starts no pause, so that owners are hosted as soon as Postgres is
        // back.
        if self.0.store.stores_rows() {
            backoff.failed(self.ended_outages());
        }
        false
    }

    /// Hosts the owner, and waits for it however long it takes. Returns whether the shard hosts the
    /// owner now.
    pub(in crate::owners) async fn host_in_full(
        &self,
        owner: &OwnerKey,
    ) -> Result<bool, OwnersError> {
        let begun = self.0.store.begin_hosting(owner, self.bucket_name()).await;
        let fetched = self.fetch_complete(owner).await?;
        self.complete_hosting(owner, begun, fetched).await
    }

    /// Does the second step of hosting, again with what is newer if the projection has stored that
    /// in the meantime. Returns whether the shard hosts the owner now.
    async fn complete_hosting(
        &self,
        owner: &OwnerKey,
        begun: Result<Hosting, ShardError>,
        mut fetched: FetchedOwner,
    ) -> Result<bool, OwnersError> {
        let mut begun_at = begun?.begun_at;
        let copy = self.owner_copy(&fetched);
        let has_all_versions = copy.has_all_versions();
        if self.0.store.complete_hosting_together(copy).await? {
            if !has_all_versions {
                self.backfill_soon(owner);
            }
            return Ok(true);
        }

        for _ in 0..HOST_TRIES_MAX {
            // A set that does not reach the row's beginning could lack what the projection skipped
            // before. The barrier of the fetch is always beyond it, unless the bucket has lost
            // history.
            if fetched.up_to.get() < begun_at {
                return Err(ShardError::Unfit(
                    "the truth is behind this shard's projection".into(),
                )
                .into());
            }

            let outcome = self
                .0
                .store
                .complete_hosting(&self.owner_copy(&fetched))
                .await?;
            match outcome {
                HostingOutcome::Now => {
                    self.backfill_soon(owner);
                    return Ok(true);
                }
                HostingOutcome::Already => return Ok(true),
                HostingOutcome::Overtaken => {}
                HostingOutcome::Incomplete => {
                    self.0.store.reset_owner(owner, self.bucket_name()).await?;
                }
                HostingOutcome::NotBegun => {
                    begun_at = self
                        .0
                        .store
                        .begin_hosting(owner, self.bucket_name())
                        .await?
                        .begun_at
                }
            }
            fetched = self.fetch_since(&fetched.snapshot).await?;
        }

        Ok(false)
    }

    /// Returns the right to host the owner; `None` while another request hosts the owner, and
    /// during the pause after a failure.
    pub(super) fn backoff_of(&self, entry: &OwnerEntry) -> Option<OwnedMutexGuard<HostingBackoff>> {
        let backoff = entry.hosting.clone().try_lock_owned().ok()?;
        backoff.is_over(self.ended_outages()).then_some(backoff)
    }

    /// Returns how many outages have ended of what hosting needs.
    fn ended_outages(&self) -> u64 {
        let (store, bucket) = (&self.0.store, &self.0.bucket);
        let breakers = [
            store.breaker(),
            store.writing(),
            bucket.reading(),
            bucket.writing(),
        ];

        breakers.into_iter().map(Breaker::recovered).sum()
    }
}
