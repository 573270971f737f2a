//! An owner's quotas of items and keys.

use super::Limits;
use crate::owners::Snapshot;
use crate::wire::{Code, Refusal};

/// A quota frees up when deletions are forgotten, which `maintain` does once an hour by default.
const QUOTA_RETRY_MS: u64 = 3_600_000;

/// What an owner has used of their quotas; in a batch, with what its earlier operations take and leave.
#[derive(Clone, Copy)]
pub(super) struct Quota {
    items: usize,
    keys: usize,
}

impl Quota {
    /// As the owner is.
    pub fn of(snapshot: &Snapshot) -> Self {
        let (items, keys) = snapshot.counts();
        Self { items, keys }
    }

    /// One living item less; its key stays.
    pub fn leave(&mut self) {
        self.items = self.items.saturating_sub(1);
    }

    /// With one item more, which may be new and may have a new key; refuses what would be one too many.
    pub fn enter(&self, is_new: bool, is_new_key: bool, limits: &Limits) -> Result<Self, Refusal> {
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
                "keys are used, kept deletions among them",
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
