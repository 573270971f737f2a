//! An owner's quotas of items and keys.

use super::Limits;
use crate::owners::Snapshot;
use crate::wire::{Code, Refusal};

/// When a caller may retry. Keys become free when `maintain` purges old deletions, which it does
/// once an hour by default.
const QUOTA_RETRY_MS: u64 = 3_600_000;

/// The items and keys that an owner has. In a batch it includes the operations before the current
/// one.
#[derive(Clone, Copy)]
pub(super) struct Quota {
    items: usize,
    keys: usize,
}

impl Quota {
    /// The counts of the owner's snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let (items, keys) = snapshot.counts();
        Self { items, keys }
    }

    /// Counts one living item less. Its key stays, with the tombstone.
    pub fn remove(&mut self) {
        self.items = self.items.saturating_sub(1);
    }

    /// Returns the counts after a write of one item, which may be new and may need a new key.
    ///
    /// # Errors
    /// `quota_exceeded` if that is one item or one key too many.
    pub fn add(&self, is_new: bool, is_new_key: bool, limits: &Limits) -> Result<Self, Refusal> {
        let refuse = |what: &str, used: usize, limit: usize| {
            Refusal::new(Code::QuotaExceeded, format!("{used} of {limit} {what}"))
                .with("used", used)
                .with("limit", limit)
                .with("items", self.items)
                .with("items_limit", limits.items)
                .with("keys", self.keys)
                .with("keys_limit", limits.keys)
                .with("retry_after_ms", QUOTA_RETRY_MS)
        };

        if is_new && self.items >= limits.items {
            return Err(refuse(
                "items are used: delete some",
                self.items,
                limits.items,
            ));
        }
        if is_new_key && self.keys >= limits.keys {
            return Err(refuse(
                "keys are used, including those of kept deletions",
                self.keys,
                limits.keys,
            ));
        }

        Ok(Self {
            items: self.items + usize::from(is_new),
            keys: self.keys + usize::from(is_new_key),
        })
    }
}
