//! How far this worker has followed the bucket, and who was written to since. So a read that knows how far
//! the bucket has come need not ask what is newer of its owner (the read index of Raft, section 6.4 of
//! Ongaro's dissertation).

use super::Snapshot;
use crate::seal::OwnerKey;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// So many of the newest records are remembered, in at most 5 MiB. A set that nobody read while so many
/// others were written is asked for again.
const REMEMBERED_RECORDS: usize = 1 << 16;

/// How long a read waits until this worker has followed the bucket far enough. After that it asks the
/// bucket.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// For so long after the bucket was asked for an owner, following answers for that owner. So a record that
/// was removed by hand, which no follower notices, is missed within that time.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(60);

/// What a worker knows from following the bucket.
pub(super) struct Following {
    noted: Mutex<Noted>,
    /// The stream sequence up to which everything was noted.
    position: watch::Sender<u64>,
    /// The highest sequence for which a read waited in vain.
    missed: AtomicU64,
}

#[derive(Default)]
struct Noted {
    /// The bucket that is followed, by the time of its creation in the server's words.
    bucket: Option<String>,
    /// Counts the beginnings that did not continue what was noted before.
    generation: u64,
    /// How many tasks follow at this time.
    followers: usize,
    /// Everything after this sequence and up to the position was noted.
    from: u64,
    position: u64,
    /// The newest record of each owner who was written to, by its sequence.
    newest: HashMap<OwnerKey, u64>,
    /// The noted records in their order.
    order: VecDeque<(u64, OwnerKey)>,
    /// When the bucket was last asked how far it has come, and that was no further than the position.
    confirmed_at: Option<Instant>,
}

/// How a set compares with what was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing newer of its owner is in the bucket up to the position.
    Current,
    /// Something newer is in the bucket.
    Behind,
    /// That is not known.
    Unknown,
}

/// A task that follows the bucket, from where it began. Ends when this is dropped.
pub(super) struct Follow<'f> {
    following: &'f Following,
    generation: u64,
    /// The sequence of the last message.
    last: u64,
    /// Whether messages were removed before they came, and the newer ones that replaced them may be still
    /// to come.
    has_gap: bool,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            noted: Mutex::default(),
            position: watch::Sender::new(0),
            missed: AtomicU64::new(0),
        }
    }
}

impl Following {
    /// Begins to follow the bucket that was created at that time, after the sequence `start`. What was
    /// noted before stays if the two overlap.
    pub(super) fn begin(&self, bucket: &str, start: u64) -> Follow<'_> {
        let mut noted = self.noted();
        let continues = noted.bucket.as_deref() == Some(bucket) && start <= noted.position;
        if !continues {
            *noted = Noted {
                bucket: Some(bucket.to_owned()),
                generation: noted.generation + 1,
                followers: noted.followers,
                from: start,
                position: start,
                ..Noted::default()
            };
            self.missed.store(0, Ordering::Relaxed);
            self.position.send_replace(start);
        }
        noted.followers += 1;

        Follow {
            following: self,
            generation: noted.generation,
            last: start,
            has_gap: false,
        }
    }

    /// Returns the position, if it is one in the bucket that was created at that time.
    pub(super) fn position_in(&self, bucket: &str) -> Option<u64> {
        let noted = self.noted();
        (noted.bucket.as_deref() == Some(bucket)).then_some(noted.position)
    }

    /// Returns the position; `None` while this worker does not follow the bucket.
    pub(super) fn position(&self) -> Option<u64> {
        let noted = self.noted();
        (noted.followers > 0).then_some(noted.position)
    }

    /// Waits until everything up to `sequence` was noted. Returns false if that takes too long, or is known
    /// to.
    pub(super) async fn reach(&self, sequence: u64) -> bool {
        let position = *self.position.borrow();
        if position >= sequence {
            return true;
        }
        let missed = self.missed.load(Ordering::Relaxed);
        if position < missed && missed < sequence {
            return false;
        }

        let mut position = self.position.subscribe();
        let reached = position.wait_for(|position| *position >= sequence);
        let reached = matches!(timeout(WAIT_MAX, reached).await, Ok(Ok(_)));
        if !reached {
            self.missed.fetch_max(sequence, Ordering::Relaxed);
        }
        reached
    }

    /// Records that the bucket was asked at that moment how far it has come, and that everything up to
    /// there was noted.
    pub(super) fn confirm(&self, asked_at: Instant) {
        let mut noted = self.noted();
        noted.confirmed_at = noted.confirmed_at.max(Some(asked_at));
    }

    /// Returns how the set compares with what was noted.
    pub(super) fn standing(&self, set: &Snapshot) -> Standing {
        let noted = self.noted();
        if noted.followers > 0 {
            noted.standing(set)
        } else {
            Standing::Unknown
        }
    }

    /// Returns whether the set is current as of a moment at most `max_age` ago.
    pub(super) fn was_current_within(&self, set: &Snapshot, max_age: Duration) -> bool {
        let noted = self.noted();
        let is_fresh = noted.confirmed_at.is_some_and(|at| at.elapsed() <= max_age);

        noted.followers > 0 && is_fresh && noted.standing(set) == Standing::Current
    }

    /// Returns whether this worker follows the bucket, and yet has to ask it for the set's owner: because it
    /// does not know up to where the set is current, or has not asked for long.
    pub(super) fn needs_answer(&self, set: &Snapshot) -> bool {
        let is_old = set
            .checked_at()
            .is_none_or(|at| at.elapsed() > ANSWER_AGE_MAX);
        let noted = self.noted();

        noted.followers > 0 && (is_old || noted.standing(set) == Standing::Unknown)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    fn standing(&self, set: &Snapshot) -> Standing {
        let newest = self.newest.get(set.owner());
        if newest.is_some_and(|newest| *newest > set.version().get()) {
            return Standing::Behind;
        }
        if set.current_to().is_none_or(|to| to < self.from) {
            return Standing::Unknown;
        }

        set.note_current_to(self.position);
        Standing::Current
    }

    fn note(&mut self, owner: OwnerKey, sequence: u64) {
        let newest = self.newest.entry(owner).or_default();
        *newest = sequence.max(*newest);
        self.order.push_back((sequence, owner));

        while self.order.len() > REMEMBERED_RECORDS
            && let Some((sequence, owner)) = self.order.pop_front()
        {
            self.from = self.from.max(sequence);
            if self.newest.get(&owner) == Some(&sequence) {
                self.newest.remove(&owner);
            }
        }
    }
}

impl Follow<'_> {
    /// Notes messages, by their sequences and the owners of those that are records. `is_at_end` says
    /// whether the bucket had nothing after the last one when it sent that.
    pub(super) fn note(
        &mut self,
        messages: impl IntoIterator<Item = (u64, Option<OwnerKey>)>,
        is_at_end: bool,
    ) {
        let mut noted = self.following.noted();
        if noted.generation != self.generation {
            return;
        }

        for (sequence, owner) in messages {
            self.has_gap |= sequence > self.last + 1;
            self.last = self.last.max(sequence);
            if let Some(owner) = owner {
                noted.note(owner, sequence);
            }
        }
        // A message is removed for a newer one of the same owner, or barrier, that is in the bucket by then.
        // So all that replaced the missing ones has come with a message after which there was none.
        self.has_gap &= !is_at_end;
        if !self.has_gap && self.last > noted.position {
            noted.position = self.last;
            self.following.position.send_replace(self.last);
        }
    }
}

impl Drop for Follow<'_> {
    fn drop(&mut self) {
        self.following.noted().followers -= 1;
    }
}

#[cfg(test)]
#[path = "following_tests.rs"]
mod tests;
