//! What a worker learns from the bucket's new records as they pass by. The worker that projects stores
//! them, and the other workers read them for this alone. So a worker knows which of the sets in its memory
//! are current up to where it has come ([`Following`](crate::owners::following::Following)), and its writes
//! seldom lose their first race to another worker's.

use crate::owners::following::Follow;
use crate::owners::{Owners, OwnersError, Snapshot};
use crate::seal::{OwnerKey, Record};
use crate::truth::{Entry, Follower};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// The most records read at once.
const BATCH_RECORDS_MAX: usize = 500;
/// How often a worker checks whether it has to follow the bucket, and how long it waits after that failed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// After sets of so many records together were copied, other tasks get their turn.
const COPIED_RECORDS_MAX: usize = 200;

/// The passing of the bucket's messages, in one follower.
pub(super) struct Passing<'o> {
    follow: Follow<'o>,
    /// How often the follower had restarted when it was last looked at.
    restarts: u64,
}

impl Owners {
    /// Follows the bucket's new records while this worker does not project, if the settings say so. Never
    /// returns. `reconnects` counts the connections made to NATS.
    pub async fn follow_newest(&self, mut reconnects: watch::Receiver<u64>) {
        if !self.0.settings.read.follow {
            return std::future::pending().await;
        }

        loop {
            if self.has_to_follow() {
                reconnects.mark_unchanged();
                tokio::select! {
                    followed = self.learn_newest() => if let Err(error) = followed {
                        debug!(%error, "cannot follow the bucket, will retry");
                    },
                    // The bucket may be another one.
                    _ = reconnects.changed() => {}
                }
            }
            sleep(CHECK_INTERVAL).await;
        }
    }

    fn has_to_follow(&self) -> bool {
        !self.projects() && !self.0.continuity.is_lost()
    }

    /// Learns the records that come from now on, until this worker projects.
    async fn learn_newest(&self) -> Result<(), OwnersError> {
        let now = self.check_continuity(None).await?;
        let mut follower = self.0.bucket.follow(now.sequence).await?;
        if !self.has_to_follow() {
            return Ok(());
        }
        let mut passing = self.begin_passing(now.sequence);

        while self.has_to_follow() {
            let next = follower.next_batch(BATCH_RECORDS_MAX);
            let Ok(batch) = timeout(CHECK_INTERVAL, next).await else {
                continue;
            };
            self.pass(&mut passing, &mut follower, &batch?).await;
        }
        Ok(())
    }

    /// Begins to learn the messages after `start`.
    pub(super) fn begin_passing(&self, start: u64) -> Passing<'_> {
        Passing {
            follow: self.0.following.begin(start),
            restarts: 0,
        }
    }

    /// Adds the follower's next messages to the sets in memory that they follow, and notes whose they are.
    pub(super) async fn pass(
        &self,
        passing: &mut Passing<'_>,
        follower: &mut Follower,
        batch: &[Entry],
    ) {
        let follow = &mut passing.follow;
        // Another consumer may be one of another bucket, or of one that has lost its newest records.
        if follower.restarts() != passing.restarts || follow.is_given_up() {
            passing.restarts = follower.restarts();
            follow.begin_anew();
        }

        self.learn(batch, follow.generation()).await;

        follow.note(batch.iter().map(|entry| {
            let owner = entry.record.as_ref().map(|(owner, _)| *owner);
            (entry.sequence, owner.or(entry.unreadable))
        }));
        // There may be many gaps on the way, so one barrier at its end serves them all.
        if follow.has_open_gap()
            && follower.is_at_end()
            && let Ok(sequence) = self.0.bucket.publish_barrier().await
        {
            follow.close_gap_at(sequence);
        }
    }

    /// Adds new records of the bucket to the sets in memory that they follow. The order of the records is
    /// that of their versions.
    async fn learn(&self, batch: &[Entry], generation: u64) {
        let mut by_owner: HashMap<&OwnerKey, Vec<&Record>> = HashMap::new();
        for (owner, record) in batch.iter().filter_map(|entry| entry.record.as_ref()) {
            by_owner.entry(owner).or_default().push(record);
        }
        let mut copied = 0;
        for (owner, records) in by_owner {
            copied += self.learn_of(owner, &records, generation);
            if copied > COPIED_RECORDS_MAX {
                copied = 0;
                yield_now().await;
            }
        }
    }

    /// Returns how many records the set has that was copied; 0 for none.
    fn learn_of(&self, owner: &OwnerKey, records: &[&Record], generation: u64) -> usize {
        let Some(entry) = self.0.cache.peek(owner).map(|weighed| weighed.entry) else {
            return 0;
        };
        // A write that is under way knows what it has written.
        let Ok(_write_lock) = entry.writing.try_lock() else {
            return 0;
        };
        let accepted = self.0.continuity.accepted();
        if self.0.continuity.is_lost() {
            return 0;
        }

        let followed = entry.held();
        let followed = followed.and_then(|held| self.following(&held, records, generation));
        followed.map_or(0, |newer| {
            self.keep_learned(owner, &entry, newer, accepted)
                .set()
                .records()
                .count()
        })
    }

    /// Returns the copy with the newest of the records, if they follow it without a gap. It was checked
    /// when the copy was.
    fn following(&self, held: &Snapshot, records: &[&Record], generation: u64) -> Option<Snapshot> {
        let newer = records
            .iter()
            .filter(|record| record.version > held.version());
        let newer: Vec<Record> = newer.map(|record| (*record).clone()).collect();
        if newer.first()?.envelope.prev != held.version() {
            return None;
        }

        let keyring = &self.0.keyring;
        let set = held.set().apply(keyring, newer).ok()?;
        let newer = held.next(keyring, set, held.checked_at()).ok()?;
        if let Some(known) = held.known().filter(|it| it.asked.generation == generation) {
            newer.note_known(known.asked, newer.version().get());
        }
        Some(newer)
    }
}
