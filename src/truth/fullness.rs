//! Whether the bucket is full, as the answers to this worker's publishes show, and how near it is to
//! the bound of its stream, and to the limit of its account.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The longest record with which the worker finds out whether there is room again, in bytes.
const PROBE_BYTES_MAX: usize = 64 << 10;
/// From which share of its bytes on a bucket takes only what frees room, or cannot wait, in percent.
const RESERVE_PERCENT: u64 = 95;

/// How much a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketFill {
    /// The number of stored messages: records, their kept earlier versions, and barriers.
    pub records: u64,
    /// The size of the stored messages, in bytes, as the server counts it.
    pub bytes: u64,
    /// The most bytes that the stream may have, if it has a bound of its own.
    pub bytes_max: Option<u64>,
}

impl BucketFill {
    /// How full it is, in percent; `None` if the stream has no bound of its own.
    pub fn percent(self) -> Option<u64> {
        self.bytes.saturating_mul(100).checked_div(self.bytes_max?)
    }

    /// Returns whether it holds so much that the rest is kept for what frees room, or cannot wait.
    pub fn is_in_reserve(self) -> bool {
        self.percent()
            .is_some_and(|percent| percent >= RESERVE_PERCENT)
    }
}

/// How much storage the bucket's account uses, for all of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountFill {
    /// What it uses, in bytes, as the server counts it.
    pub bytes: u64,
    /// What it may use, in bytes, if it has a limit.
    pub bytes_max: Option<u64>,
}

impl AccountFill {
    /// How much of its limit is used, in percent; `None` if it has none.
    pub fn percent(self) -> Option<u64> {
        self.bytes.saturating_mul(100).checked_div(self.bytes_max?)
    }
}

/// Whether the bucket is full, and how much it holds.
#[derive(Default)]
pub(super) struct Fullness(Mutex<Known>);

/// What this worker knows.
#[derive(Default)]
struct Known {
    /// Set while publishes are refused.
    full: Option<Full>,
    /// How much the bucket held when the server was last asked.
    fill: Option<BucketFill>,
    /// What this worker has stored since then, in bytes.
    stored_since: u64,
    /// How much the account used when the server was last asked.
    account: Option<AccountFill>,
}

/// What this worker knows of a full bucket.
#[derive(Clone, Copy)]
struct Full {
    since: Instant,
    /// The size of the smallest record that was refused.
    refused_bytes: usize,
}

impl Fullness {
    /// Records what the bucket answered to a publish of that size. A smaller record than the one that
    /// was refused may find room in a full bucket, and shows nothing.
    pub(super) fn record(&self, bytes: usize, is_full: bool) {
        let full = &mut self.known().full;
        *full = match *full {
            Some(known) if is_full => Some(Full {
                refused_bytes: known.refused_bytes.min(bytes),
                ..known
            }),
            None if is_full => Some(Full {
                since: Instant::now(),
                refused_bytes: bytes,
            }),
            known => known.filter(|known| bytes < known.refused_bytes.min(PROBE_BYTES_MAX)),
        };
    }

    /// Records that this worker has stored so many bytes.
    pub(super) fn note_stored(&self, bytes: usize) {
        let known = &mut *self.known();
        known.stored_since = known.stored_since.saturating_add(bytes as u64);
    }

    /// Records how much the bucket holds, as the server says.
    pub(super) fn note_fill(&self, fill: BucketFill) {
        let known = &mut *self.known();
        known.fill = Some(fill);
        known.stored_since = 0;
    }

    /// How much the bucket holds: what the server said last, and what this worker has stored since.
    pub(super) fn fill(&self) -> Option<BucketFill> {
        let known = self.known();
        let fill = known.fill?;

        Some(BucketFill {
            bytes: fill.bytes.saturating_add(known.stored_since),
            ..fill
        })
    }

    /// Records how much the account uses; `None` if the server does not tell.
    pub(super) fn note_account(&self, fill: Option<AccountFill>) {
        self.known().account = fill;
    }

    /// How much the account used when the server was last asked.
    pub(super) fn account(&self) -> Option<AccountFill> {
        self.known().account
    }

    /// Returns for how long the bucket has been full; `None` if it is not.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.known().full.map(|full| full.since.elapsed())
    }

    /// Returns how long a record has to be to show that there is room again, in bytes; `None` if the
    /// bucket is not full.
    pub(super) fn probe_bytes(&self) -> Option<usize> {
        let full = self.known().full?;
        Some(full.refused_bytes.min(PROBE_BYTES_MAX))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_as_long_as_the_refused_one_shows_room() {
        let fullness = Fullness::default();

        fullness.record(1_000, true);
        fullness.record(2_000, true);
        fullness.record(999, false);
        assert!(fullness.duration().is_some());

        fullness.record(1_000, false);
        assert!(fullness.duration().is_none());
    }

    #[test]
    fn a_probe_shows_room_for_a_record_that_is_longer() {
        let fullness = Fullness::default();

        fullness.record(PROBE_BYTES_MAX * 2, true);
        fullness.record(PROBE_BYTES_MAX, false);

        assert!(fullness.duration().is_none());
    }

    #[test]
    fn what_was_stored_since_counts_until_the_server_says_more() {
        let fullness = Fullness::default();
        let fill = |bytes| BucketFill {
            records: 1,
            bytes,
            bytes_max: Some(1_000),
        };

        fullness.note_stored(1);
        assert_eq!(fullness.fill(), None);

        fullness.note_fill(fill(940));
        fullness.note_stored(9);
        assert!(!fullness.fill().is_some_and(BucketFill::is_in_reserve));
        fullness.note_stored(1);
        assert!(fullness.fill().is_some_and(BucketFill::is_in_reserve));

        fullness.note_fill(fill(949));
        assert_eq!(fullness.fill(), Some(fill(949)));
    }
}
