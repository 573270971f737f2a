//! Hosting: bringing an owner to this shard's Postgres, while they are answered from the truth.
//!
//! An owner may be heavy, and the machine slow: so nobody waits for it for long, it is tried by one request at a time, and
//! not again soon where it failed.

use super::cell::Cell;
use super::{Owners, OwnersFault, Snapshot};
use crate::domain::Version;
use crate::seal::OwnerKey;
use crate::shard::{Completed, Hosting, ShardFault, Whole};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::timeout;
use tracing::{debug, warn};

/// How often hosting goes on with what came between its two steps.
const TRIES: usize = 10;
/// Who weighs more, in bytes, is brought while others of the kind wait for their turn, and no request waits for it.
const HEAVY: u64 = 4 << 20;
/// How many of them a worker brings at a time.
const AT_A_TIME: usize = 1;
/// How many others it brings at a time: what is under way outlives its request, and each holds an owner's set.
const LIGHT_AT_A_TIME: usize = 64;
/// How long hosting is not tried again after it failed, at first and at most: twice as long each time.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An owner's whole set, as the truth has it.
pub(super) struct Fetched {
    /// The set.
    pub(super) snapshot: Arc<Snapshot>,
    /// The stream sequence up to which it is complete.
    pub(super) up_to: Version,
}

/// What is to be done to have an owner here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bring {
    /// They are not hosted yet.
    Hosting,
    /// The copy that is here is not to be believed.
    Anew,
}

/// The turn to bring an owner here: one at a time, and after a failure not soon again.
#[derive(Default)]
pub(super) struct Turn {
    failures: u32,
    not_before: Option<Instant>,
}

impl Turn {
    fn failed(&mut self) {
        let pause = PAUSE
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_PAUSE);
        self.failures += 1;
        self.not_before = Some(Instant::now() + pause);
    }
}

/// The turns of heavy owners, and those of all others.
pub(super) fn turns() -> [Arc<Semaphore>; 2] {
    [AT_A_TIME, LIGHT_AT_A_TIME].map(|count| Arc::new(Semaphore::new(count)))
}

impl Owners {
    /// Hosts an owner who is not known to be hosted, while requests go on.
    pub(super) fn host_if_not(&self, owner: &OwnerKey, cell: &Arc<Cell>, held: &Snapshot) {
        let able =
            self.0.store.is_up() && !self.0.bucket.writing().is_open() && !self.0.history.is_lost();
        if !able || cell.hosted.load(Ordering::Acquire) {
            return;
        }
        // What a heavy owner costs is not spent before it is their turn.
        if held.weight() > HEAVY && self.0.heavy.available_permits() == 0 {
            return;
        }
        let Some(turn) = turn_of(cell) else { return };
        let (this, owner, cell) = (self.clone(), *owner, cell.clone());
        tokio::spawn(async move {
            if cell.damaged.load(Ordering::Acquire) {
                return drop(this.bring_in_turn(&owner, &cell, Bring::Anew, turn).await);
            }
            let asked = this.noticed();
            match this.0.store.hosts(&owner).await {
                Ok(true) => this.believe_hosted(&cell, asked),
                Ok(false) => drop(
                    this.bring_in_turn(&owner, &cell, Bring::Hosting, turn)
                        .await,
                ),
                Err(fault) => warn!(%fault, "Postgres cannot tell whether it hosts the owner"),
            }
        });
    }

    /// The owner from the truth, who is brought here; where Postgres is away, only the first. Says whether the shard hosts
    /// the owner by now.
    pub(super) async fn host(
        &self,
        owner: &OwnerKey,
    ) -> Result<(Arc<Snapshot>, bool), OwnersFault> {
        self.bring(owner, &self.cell(owner), Bring::Hosting).await
    }

    /// As [`host`](Self::host), or of a copy that is not to be believed.
    pub(super) async fn bring(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        what: Bring,
    ) -> Result<(Arc<Snapshot>, bool), OwnersFault> {
        if what == Bring::Anew {
            cell.damaged.store(true, Ordering::Release);
        }
        match turn_of(cell) {
            Some(turn) => self.bring_in_turn(owner, cell, what, turn).await,
            None => Ok((self.fetch_whole(owner).await?.snapshot, false)),
        }
    }

    /// Waits no longer than for any call to Postgres; what takes longer goes on, and keeps the turn.
    async fn bring_in_turn(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        what: Bring,
        mut turn: OwnedMutexGuard<Turn>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersFault> {
        let asked = self.noticed();
        let begun = match what {
            Bring::Hosting => Some(self.0.store.begin_hosting(owner, self.bucket_name()).await),
            Bring::Anew => None,
        };
        let fetched = self.fetch_whole(owner).await?;
        let snapshot = fetched.snapshot.clone();
        let is_heavy = snapshot.weight() > HEAVY;
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
        let (this, owner, cell) = (self.clone(), *owner, cell.clone());
        let bringing = tokio::spawn(async move {
            let _permit = permit;
            let hosted = match begun {
                Some(begun) => this.complete_hosting(&owner, begun, fetched).await,
                None => this.bring_anew(&owner, fetched).await,
            };
            match hosted {
                Ok(true) => {
                    *turn = Turn::default();
                    cell.damaged.store(false, Ordering::Release);
                    this.believe_hosted(&cell, asked);
                    return true;
                }
                Ok(false) => warn!(%owner, "not hosted yet: answered from the truth"),
                Err(fault) => warn!(%owner, %fault, "not hosted yet: answered from the truth"),
            }
            // When Postgres is back, nobody is to wait for it.
            if this.0.store.is_up() {
                turn.failed();
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
    pub(super) async fn host_in_full(&self, owner: &OwnerKey) -> Result<bool, OwnersFault> {
        let begun = self.0.store.begin_hosting(owner, self.bucket_name()).await;
        let fetched = self.fetch_whole(owner).await?;
        self.complete_hosting(owner, begun, fetched).await
    }

    /// The second step of hosting, with what came between the two.
    async fn complete_hosting(
        &self,
        owner: &OwnerKey,
        begun: Result<Hosting, ShardFault>,
        mut fetched: Fetched,
    ) -> Result<bool, OwnersFault> {
        let mut begun_at = begun?.begun_at;
        for _ in 0..TRIES {
            // A set that does not reach the row's beginning could lack what the projection had passed before. A barrier is
            // always beyond it, unless the bucket went back.
            if fetched.up_to.get() < begun_at {
                return Err(ShardFault::Unfit(
                    "the truth is behind this shard's projection".into(),
                )
                .into());
            }
            match self.0.store.complete_hosting(&self.whole(&fetched)).await? {
                Completed::Now => {
                    self.backfill_soon(owner);
                    return Ok(true);
                }
                Completed::Already => return Ok(true),
                Completed::Overtaken => {}
                Completed::NotWhole => {
                    drop(self.0.store.reset_owner(owner, self.bucket_name()).await?)
                }
                Completed::NotBegun => {
                    begun_at = self
                        .0
                        .store
                        .begin_hosting(owner, self.bucket_name())
                        .await?
                        .begun_at
                }
            }
            fetched = self.fetch_newer(&fetched.snapshot).await?;
        }
        Ok(false)
    }

    /// What was fetched, as it is stored.
    pub(super) fn whole(&self, fetched: &Fetched) -> Whole<'_> {
        let set = fetched.snapshot.set();
        let (records, up_to) = (set.records().cloned().collect(), fetched.up_to.get());
        Whole {
            owner: *set.owner(),
            bucket: self.bucket_name(),
            records,
            up_to,
        }
    }
}

/// The turn to bring the owner here; none while somebody has it, and for a while after it failed.
fn turn_of(cell: &Cell) -> Option<OwnedMutexGuard<Turn>> {
    let turn = cell.hosting.clone().try_lock_owned().ok()?;
    turn.not_before
        .is_none_or(|moment| Instant::now() >= moment)
        .then_some(turn)
}
