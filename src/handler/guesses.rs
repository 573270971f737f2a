//! Wrong one-time passwords: after a few of them an item takes no code for a while, so that nobody
//! finds one by trying.
//!
//! The counts are this worker's own, and are not written anywhere.

use crate::domain::ItemId;
use crate::seal::OwnerKey;
use crate::wire::{Code, Refusal};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many wrong codes an item takes within [`WINDOW`].
const WRONG_CODES_MAX: usize = 10;
/// How long wrong codes count.
const WINDOW: Duration = Duration::from_secs(60);
/// How long to wait for the codes that are being checked.
const UNDER_WAY_PAUSE: Duration = Duration::from_millis(100);
/// With this many items, the worker drops those whose wrong codes no longer count.
const ITEMS_MAX: usize = 10_000;

type Counts = HashMap<(OwnerKey, ItemId), Count>;

/// The wrong codes of each item.
#[derive(Clone, Default)]
pub struct Guesses(Arc<Mutex<Counts>>);

/// The wrong codes of one item.
#[derive(Default)]
struct Count {
    /// When the wrong codes came that still count, in order.
    wrong: VecDeque<Instant>,
    /// Codes that are being checked.
    under_way: usize,
}

/// A code that is being checked.
pub(super) struct Guess {
    counts: Arc<Mutex<Counts>>,
    item: (OwnerKey, ItemId),
    /// Whether the code was found to be wrong.
    pub is_wrong: AtomicBool,
}

impl Guesses {
    /// Begins to check a code of that item.
    ///
    /// # Errors
    /// `rate_limited` after too many wrong codes. Codes that are being checked count as wrong.
    pub(super) fn begin(&self, owner: &OwnerKey, id: &ItemId) -> Result<Guess, Refusal> {
        let now = Instant::now();
        let mut counts = lock(&self.0);
        if counts.len() >= ITEMS_MAX {
            counts.retain(|_, count| {
                count.forget_before(now);
                !count.is_empty()
            });
        }

        let item = (*owner, id.clone());
        let count = counts.entry(item.clone()).or_default();
        count.forget_before(now);
        if count.wrong.len() + count.under_way >= WRONG_CODES_MAX {
            let oldest = count.wrong.front().copied();
            return Err(limited(oldest.map_or(UNDER_WAY_PAUSE, |oldest| {
                WINDOW.saturating_sub(now.duration_since(oldest))
            })));
        }

        count.under_way += 1;
        Ok(Guess {
            counts: self.0.clone(),
            item,
            is_wrong: AtomicBool::new(false),
        })
    }
}

impl Count {
    /// Forgets the wrong codes that no longer count.
    fn forget_before(&mut self, now: Instant) {
        let counts = |at: &Instant| now.duration_since(*at) < WINDOW;
        while self.wrong.front().is_some_and(|at| !counts(at)) {
            self.wrong.pop_front();
        }
    }

    fn is_empty(&self) -> bool {
        self.wrong.is_empty() && self.under_way == 0
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        let Some(count) = counts.get_mut(&self.item) else {
            return;
        };

        count.under_way = count.under_way.saturating_sub(1);
        if *self.is_wrong.get_mut() {
            count.wrong.push_back(Instant::now());
        }
        if count.is_empty() {
            counts.remove(&self.item);
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn limited(wait: Duration) -> Refusal {
    let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    let message = "too many wrong codes of this item: wait before the next";
    Refusal::retry_later(Code::RateLimited, message, retry_after_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemLimits, Kind};
    use std::sync::atomic::Ordering;

    const OWNER: OwnerKey = OwnerKey::from_bytes([7; 16]);

    fn id(text: &str) -> ItemId {
        ItemId::parse(Kind::Otp, text, &ItemLimits::default()).expect("valid")
    }

    #[test]
    fn an_item_takes_only_so_many_wrong_codes() {
        let guesses = Guesses::default();

        for _ in 0..WRONG_CODES_MAX {
            let guess = guesses.begin(&OWNER, &id("a")).expect("not yet");
            guess.is_wrong.store(true, Ordering::Relaxed);
        }

        let refusal = guesses.begin(&OWNER, &id("a")).err().expect("too many");
        assert_eq!(refusal.code(), Code::RateLimited);
        assert!(guesses.begin(&OWNER, &id("b")).is_ok(), "another item");
    }

    #[test]
    fn right_codes_do_not_count() {
        let guesses = Guesses::default();

        for _ in 0..2 * WRONG_CODES_MAX {
            drop(guesses.begin(&OWNER, &id("a")).expect("never too many"));
        }

        assert!(lock(&guesses.0).is_empty());
    }

    #[test]
    fn codes_under_way_count_as_wrong() {
        let guesses = Guesses::default();

        let under_way: Vec<_> = (0..WRONG_CODES_MAX)
            .map(|_| guesses.begin(&OWNER, &id("a")).expect("not yet"))
            .collect();

        assert!(guesses.begin(&OWNER, &id("a")).is_err());
        drop(under_way);
        assert!(guesses.begin(&OWNER, &id("a")).is_ok());
    }
}
