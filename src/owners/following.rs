//! How far this worker has followed the bucket, and who was written to since. So a read that knows how far
//! the bucket has come need not ask what is newer of its owner (the read index of Raft, section 6.4 of
//! Ongaro's dissertation).

use super::Snapshot;
use super::known::{Asked, Known};
use crate::seal::OwnerKey;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// So many of the newest records are remembered, in at most 5 MiB. A set that nobody read while so many
/// others were written is asked for again.
const REMEMBERED_RECORDS: usize = 1 << 16;

/// How long a read waits until this worker has followed the bucket far enough. After that it asks the
/// bucket, which takes about as long.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// For so long after a wait in vain, reads ask the bucket at once.
const PAUSE: Duration = Duration::from_millis(100);

/// For so long after the bucket was asked for an owner, following answers for that owner. So a record that
/// was removed by hand, which no follower notices, is missed within that time.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(60);

/// What a worker knows from following the bucket.
#[derive(Default)]
pub(super) struct Following {
    noted: Mutex<Noted>,
    /// The stream sequence up to which everything was noted.
    position: watch::Sender<u64>,
}

#[derive(Default)]
struct Noted {
    /// How often this worker has begun to follow the bucket, or has given it up for another one.
    generation: u64,
    /// Whether anybody follows.
    is_active: bool,
    /// The bucket as it was last seen, by the time of its creation in the server's words.
    bucket: Option<String>,
    /// Everything after this sequence and up to the position was noted.
    from: u64,
    position: u64,
    /// The newest record of each owner who was written to, by its sequence.
    newest: HashMap<OwnerKey, u64>,
    /// The noted records in their order.
    order: VecDeque<(u64, OwnerKey)>,
    /// When the bucket was last asked how far it has come, and that was no further than the position.
    confirmed_at: Option<Instant>,
    /// Until when reads do not wait for the position.
    paused_until: Option<Instant>,
}

/// How a set compares with what was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
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
    gap: Gap,
}

/// Whether messages were removed before they came. Each was replaced by a newer one of its owner, or of its
/// barrier, which may be still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    None,
    Open,
    /// All that replaced them is in the bucket before this sequence.
    Until(u64),
}

/// How far this worker has come since it last began to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    generation: u64,
    pub(super) position: u64,
}

impl Following {
    /// Begins to follow the bucket after the sequence `start`. What was known before counts no longer, and
    /// neither does what another task follows.
    pub(super) fn begin(&self, start: u64) -> Follow<'_> {
        Follow {
            following: self,
            generation: self.begin_anew(start),
            last: start,
            gap: Gap::None,
        }
    }

    fn begin_anew(&self, start: u64) -> u64 {
        let mut noted = self.noted();
        *noted = Noted {
            generation: noted.generation + 1,
            is_active: true,
            bucket: noted.bucket.take(),
            from: start,
            position: start,
            ..Noted::default()
        };
        self.position.send_replace(start);

        noted.generation
    }

    /// Records when the bucket was created, in the server's words. If that is another bucket than before,
    /// what was known counts no longer.
    pub(super) fn note_bucket(&self, created: &str) {
        let mut noted = self.noted();
        if noted.bucket.as_deref() == Some(created) {
            return;
        }
        if noted.bucket.replace(created.to_owned()).is_some() {
            noted.generation += 1;
            noted.is_active = false;
        }
    }

    /// Returns the moment of a question that is sent after this call.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            at: Instant::now(),
            generation: self.noted().generation,
        }
    }

    /// Returns how far this worker has come; `None` while it does not follow the bucket, or not fast
    /// enough.
    pub(super) fn place(&self) -> Option<Place> {
        let noted = self.noted();
        let is_paused = noted
            .paused_until
            .is_some_and(|until| Instant::now() < until);

        (noted.is_active && !is_paused).then_some(Place {
            generation: noted.generation,
            position: noted.position,
        })
    }

    /// Waits until everything up to `sequence` was noted. Returns false if that takes too long.
    pub(super) async fn reach(&self, sequence: u64) -> bool {
        if *self.position.borrow() >= sequence {
            return true;
        }

        let mut position = self.position.subscribe();
        let reached = position.wait_for(|position| *position >= sequence);
        let reached = matches!(timeout(WAIT_MAX, reached).await, Ok(Ok(_)));
        if !reached {
            self.noted().paused_until = Some(Instant::now() + PAUSE);
        }
        reached
    }

    /// Records that the bucket was asked at that moment how far it has come, and that everything up to
    /// there was noted since this worker was at `place`. Returns false if it has begun to follow again since.
    pub(super) fn confirm(&self, asked_at: Instant, place: Place) -> bool {
        let mut noted = self.noted();
        let is_same = noted.is_active && noted.generation == place.generation;
        if is_same {
            noted.confirmed_at = noted.confirmed_at.max(Some(asked_at));
        }
        is_same
    }

    /// Returns whether nothing newer of the set's owner is in the bucket up to the position. That counts only
    /// if the bucket was asked for the owner lately.
    pub(super) fn is_current(&self, set: &Snapshot) -> bool {
        self.noted().is_current(set)
    }

    /// Returns whether the set is current as of a moment at most `max_age` ago.
    pub(super) fn was_current_within(&self, set: &Snapshot, max_age: Duration) -> bool {
        let noted = self.noted();
        let is_fresh = noted.confirmed_at.is_some_and(|at| at.elapsed() <= max_age);

        is_fresh && noted.is_current(set)
    }

    /// Returns whether this worker follows the bucket, and yet has to ask it for the set's owner: because it
    /// does not know up to where the set is current, or has not asked for long.
    pub(super) fn needs_answer(&self, set: &Snapshot) -> bool {
        let noted = self.noted();
        noted.is_active
            && (!noted.was_asked_lately(set) || noted.standing(set) == Standing::Unknown)
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
        let Some(known) = self.known(set).filter(|known| known.to >= self.from) else {
            return Standing::Unknown;
        };

        set.note_known(known.asked, self.position);
        Standing::Current
    }

    /// What is known of the set, if anybody has followed since.
    fn known(&self, set: &Snapshot) -> Option<Known> {
        let known = set.known();
        known.filter(|known| self.is_active && known.asked.generation == self.generation)
    }

    fn was_asked_lately(&self, set: &Snapshot) -> bool {
        let is_new = |known: Known| known.asked.at.elapsed() <= ANSWER_AGE_MAX;
        self.known(set).is_some_and(is_new)
    }

    fn is_current(&self, set: &Snapshot) -> bool {
        self.was_asked_lately(set) && self.standing(set) == Standing::Current
    }

    fn note(&mut self, owner: OwnerKey, sequence: u64) {
        if self.order.len() >= REMEMBERED_RECORDS
            && let Some((sequence, owner)) = self.order.pop_front()
        {
            self.from = self.from.max(sequence);
            if self.newest.get(&owner) == Some(&sequence) {
                self.newest.remove(&owner);
            }
        }

        let newest = self.newest.entry(owner).or_default();
        *newest = sequence.max(*newest);
        self.order.push_back((sequence, owner));
    }
}

impl Follow<'_> {
    /// Notes the next messages, by their sequences and the owners of those that are records.
    pub(super) fn note(&mut self, messages: impl IntoIterator<Item = (u64, Option<OwnerKey>)>) {
        let mut noted = self.following.noted();
        let is_current = noted.generation == self.generation;

        for (sequence, owner) in messages {
            if sequence > self.last + 1 {
                self.gap = Gap::Open;
            }
            self.last = self.last.max(sequence);
            if let Some(owner) = owner.filter(|_| is_current) {
                noted.note(owner, sequence);
            }
        }
        drop(noted);
        self.advance();
    }

    /// Whether messages were removed before they came, and nothing shows when all that replaced them has
    /// come.
    pub(super) fn has_open_gap(&self) -> bool {
        self.gap == Gap::Open
    }

    /// Records that `sequence` was acknowledged after the last messages came: so all that replaced what is
    /// missing was in the bucket before.
    pub(super) fn close_gap_at(&mut self, sequence: u64) {
        self.gap = Gap::Until(sequence);
        self.advance();
    }

    /// Begins to follow again after the last message, because the next one may not continue it. Does nothing
    /// while another task follows.
    pub(super) fn begin_anew(&mut self) {
        let is_anothers = {
            let noted = self.following.noted();
            noted.is_active && noted.generation != self.generation
        };
        if is_anothers {
            return;
        }

        self.generation = self.following.begin_anew(self.last);
        self.gap = Gap::None;
    }

    /// Whether this task is no longer the one that follows, and no other task is.
    pub(super) fn is_given_up(&self) -> bool {
        let noted = self.following.noted();
        noted.generation != self.generation && !noted.is_active
    }

    /// Which beginning this is, for what is known of sets.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Raises the position to the last message, unless something before it may be missing.
    fn advance(&mut self) {
        if matches!(self.gap, Gap::Until(sequence) if self.last >= sequence) {
            self.gap = Gap::None;
        }

        let mut noted = self.following.noted();
        let is_current = noted.generation == self.generation;
        if self.gap == Gap::None && is_current && self.last > noted.position {
            noted.position = self.last;
            self.following.position.send_replace(self.last);
        }
    }
}

impl Drop for Follow<'_> {
    fn drop(&mut self) {
        let mut noted = self.following.noted();
        if noted.generation == self.generation {
            noted.is_active = false;
        }
    }
}

#[cfg(test)]
#[path = "following_tests.rs"]
mod tests;
