//! Hosting: bringing an owner to this shard's Postgres, while they are answered from the truth.
//!
//! An owner may be heavy, and the machine slow: so nobody waits for it for long, it is tried by one request at a time, and
//! not again soon where it failed.

use crate::owners::cache::{HostingBackoff, OwnerEntry};
use crate::owners::fetch::FetchedOwner;
use crate::owners::{Owners, OwnersError, Snapshot};
use crate::seal::OwnerKey;
use crate::shard::{Hosting, HostingOutcome, ShardError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::timeout;
use tracing::{debug, warn};

/// How often hosting goes on with what was written between its two steps.
const HOST_TRIES_MAX: usize = 10;
/// An owner who weighs more, in bytes, is heavy: one is hosted at a time, and no request waits for it.
const HEAVY_OWNER_BYTES: u64 = 4 << 20;
/// How many heavy owners a worker hosts at a time.
const HEAVY_PERMITS: usize = 1;
/// How many other owners a worker hosts at a time: hosting outlives its request, and each holds an owner's set.
const LIGHT_PERMITS: usize = 64;

/// Why an owner is to be hosted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::owners) enum HostingReason {
    /// The shard does not host the owner yet.
    NotHosted,
    /// The copy that is here cannot be trusted.
    Damaged,
}

/// The turns of heavy owners, and those of all others.
pub(in crate::owners) fn hosting_permits() -> [Arc<Semaphore>; 2] {
    [HEAVY_PERMITS, LIGHT_PERMITS].map(|count| Arc::new(Semaphore::new(count)))
}

impl Owners {
    /// Hosts an owner who is not known to be hosted, while requests go on.
    pub(in crate::owners) fn host_in_background(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: &Snapshot,
    ) {
        let able = self.0.store.is_up()
            && !self.0.bucket.writing().is_open()
            && !self.0.continuity.is_lost();
        if !able || entry.hosted.load(Ordering::Acquire) {
            return;
        }
        // What a heavy owner costs is not spent before it is their turn.
        if held.weight() > HEAVY_OWNER_BYTES && self.0.heavy.available_permits() == 0 {
            return;
        }
        let Some(backoff) = backoff_of(entry) else {
            return;
        };
        let (this, owner, entry) = (self.clone(), *owner, entry.clone());
        tokio::spawn(async move {
            if entry.damaged.load(Ordering::Acquire) {
                return drop(
                    this.host_with_backoff(&owner, &entry, HostingReason::Damaged, backoff)
                        .await,
                );
            }
            let asked = this.unhost_epoch();
            match this.0.store.hosts(&owner).await {
                Ok(true) => this.mark_hosted(&entry, asked),
                Ok(false) => drop(
                    this.host_with_backoff(&owner, &entry, HostingReason::NotHosted, backoff)
                        .await,
                ),
                Err(error) => warn!(%error, "Postgres cannot tell whether it hosts the owner"),
            }
        });
    }

    /// The owner from the truth, who is brought here; where Postgres is away, only the first. Says whether the shard hosts
    /// the owner by now.
    pub(in crate::owners) async fn host(
        &self,
        owner: &OwnerKey,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        self.host_because(owner, &self.entry(owner), HostingReason::NotHosted)
            .await
    }

    /// As [`host`](Self::host), or of a copy that is not to be believed.
    pub(in crate::owners) async fn host_because(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        what: HostingReason,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        if what == HostingReason::Damaged {
            entry.damaged.store(true, Ordering::Release);
        }
        match backoff_of(entry) {
            Some(backoff) => self.host_with_backoff(owner, entry, what, backoff).await,
            None => Ok((self.fetch_complete(owner).await?.snapshot, false)),
        }
    }

    /// Waits no longer than for any call to Postgres; what takes longer goes on, and keeps the turn.
    async fn host_with_backoff(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        what: HostingReason,
        mut backoff: OwnedMutexGuard<HostingBackoff>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        let asked = self.unhost_epoch();
        let begun = match what {
            HostingReason::NotHosted => {
                Some(self.0.store.begin_hosting(owner, self.bucket_name()).await)
            }
            HostingReason::Damaged => None,
        };
        let fetched = self.fetch_complete(owner).await?;
        let snapshot = fetched.snapshot.clone();
        let is_heavy = snapshot.weight() > HEAVY_OWNER_BYTES;
        let permit = if is_heavy {
            &self.0.heavy
        } else {
            &self.0.light
        }
        .clone()
        .try_acquire_owned();
        let Ok(permit) = permit else {
            return Ok((snapshot, false));
        };
        let (this, owner, entry) = (self.clone(), *owner, entry.clone());
        let bringing = tokio::spawn(async move {
            let _permit = permit;
            let hosted = match begun {
                Some(begun) => this.complete_hosting(&owner, begun, fetched).await,
                None => this.replace_damaged(&owner, fetched).await,
            };
            match hosted {
                Ok(true) => {
                    *backoff = HostingBackoff::default();
                    entry.damaged.store(false, Ordering::Release);
                    this.mark_hosted(&entry, asked);
                    return true;
                }
                Ok(false) => warn!(%owner, "not hosted yet: answered from the truth"),
                Err(error) => warn!(%owner, %error, "not hosted yet: answered from the truth"),
            }
            // When Postgres is back, nobody is to wait for it.
            if this.0.store.is_up() {
                backoff.failed();
            }
            false
        });
        let limit = if is_heavy {
            Duration::ZERO
        } else {
            self.0.store.call_limit()
        };
        let hosted = matches!(timeout(limit, bringing).await, Ok(Ok(true)));
        debug!(
            records = snapshot.set().records().count(),
            hosted, "brought here"
        );
        Ok((snapshot, hosted))
    }

    /// Hosts the owner, however long it takes. Says whether the shard hosts them now.
    pub(in crate::owners) async fn host_in_full(
        &self,
        owner: &OwnerKey,
    ) -> Result<bool, OwnersError> {
        let begun = self.0.store.begin_hosting(owner, self.bucket_name()).await;
        let fetched = self.fetch_complete(owner).await?;
        self.complete_hosting(owner, begun, fetched).await
    }

    /// The second step of hosting, with what came between the two.
    async fn complete_hosting(
        &self,
        owner: &OwnerKey,
        begun: Result<Hosting, ShardError>,
        mut fetched: FetchedOwner,
    ) -> Result<bool, OwnersError> {
        let mut begun_at = begun?.begun_at;
        for _ in 0..HOST_TRIES_MAX {
            // A set that does not reach the row's beginning could lack what the projection had passed before. A barrier is
            // always beyond it, unless the bucket went back.
            if fetched.up_to.get() < begun_at {
                return Err(ShardError::Unfit(
                    "the truth is behind this shard's projection".into(),
                )
                .into());
            }
            match self
                .0
                .store
                .complete_hosting(&self.owner_copy(&fetched))
                .await?
            {
                HostingOutcome::Now => {
                    self.backfill_soon(owner);
                    return Ok(true);
                }
                HostingOutcome::Already => return Ok(true),
                HostingOutcome::Overtaken => {}
                HostingOutcome::NotWhole => {
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
}

/// The right to host the owner; `None` while another request hosts them, and for a while after hosting failed.
fn backoff_of(entry: &OwnerEntry) -> Option<OwnedMutexGuard<HostingBackoff>> {
    let backoff = entry.hosting.clone().try_lock_owned().ok()?;
    backoff.is_over().then_some(backoff)
}
