//! An owner's quotas of items, keys and bytes.

use super::write::WriteState;
use super::{Failure, Limits};
use crate::owners::Snapshot;
use crate::seal::NewContent;
use crate::wire::{Code, Refusal};

/// When a caller may retry. Keys become free when `maintain` purges old deletions, which it does
/// once an hour by default.
const QUOTA_RETRY_MS: u64 = 3_600_000;

/// The items and keys that an owner has, and the bytes of their records. In a batch it includes the
/// operations before the current one.
#[derive(Clone, Copy)]
pub(super) struct Quota {
    items: usize,
    keys: usize,
    /// With what batches keep in records, although that does not count: to know it, all records have
    /// to be opened.
    bytes: usize,
    /// The bytes before the write; in a batch, before its first operation.
    bytes_before: usize,
}

impl Quota {
    /// The counts of the owner's snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let (items, keys) = snapshot.counts();
        let bytes = snapshot.item_bytes();
        Self {
            items,
            keys,
            bytes,
            bytes_before: bytes,
        }
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
        if is_new && self.items >= limits.items {
            let (used, limit) = (self.items, limits.items);
            let message = format!("{used} of {limit} items are used: delete some");
            return Err(self.refusal(message, used, limit, limits));
        }
        if is_new_key && self.keys >= limits.keys {
            let (used, limit) = (self.keys, limits.keys);
            let message =
                format!("{used} of {limit} keys are used, including those of kept deletions");
            return Err(self.refusal(message, used, limit, limits));
        }

        Ok(Self {
            items: self.items + usize::from(is_new),
            keys: self.keys + usize::from(is_new_key),
            ..*self
        })
    }

    /// Returns the counts after a write of these items, with their bytes.
    ///
    /// # Errors
    /// `quota_exceeded` if the owner would have more bytes than permitted. A write that leaves the
    /// owner no larger than before passes, so that an owner above the limit can tidy up.
    pub fn resize(&self, state: &WriteState<'_>, contents: &[NewContent]) -> Result<Self, Failure> {
        let (next, growth) = self.resize_freely(state, contents)?;
        let limit = state.limits.owner_bytes;
        if growth == 0 || next.bytes <= limit.max(self.bytes_before) {
            return Ok(next);
        }

        let bytes = next.bytes.saturating_sub(state.snapshot.batch_bytes()?);
        if bytes <= limit {
            return Ok(next);
        }
        let used = bytes.saturating_sub(growth);
        let message = format!(
            "{used} of {limit} bytes are used, and this needs {growth} more: make items smaller, or \
             delete some"
        );
        let counts = Self {
            bytes: used,
            ..*self
        };
        Err(counts.refusal(message, used, limit, state.limits).into())
    }

    /// Checks that there is room for so many bytes of refusals, which a batch keeps.
    ///
    /// # Errors
    /// `quota_exceeded` if the owner would have more than the permitted bytes and the refusals of
    /// one batch.
    pub fn keep(&self, bytes: usize, limits: &Limits) -> Result<(), Refusal> {
        let limit = limits.owner_bytes.saturating_add(limits.refused_bytes());
        let (used, needed) = (self.bytes, self.bytes.saturating_add(bytes));
        if bytes == 0 || needed <= limit {
            return Ok(());
        }

        let message = format!(
            "{used} of {limit} bytes are used, with the refusals that batches keep, and those of \
             this one need {bytes} more: repeat it without the operations that are refused"
        );
        Err(self.refusal(message, used, limit, limits))
    }

    /// Returns the counts after a write of these items, whatever it is, and by how many bytes it
    /// makes the owner larger.
    pub fn resize_freely(
        &self,
        state: &WriteState<'_>,
        contents: &[NewContent],
    ) -> Result<(Self, usize), Failure> {
        let (mut current, mut next) = (0, 0);
        for content in contents {
            let bytes = state.owners.record_bytes(state.snapshot, content)?;
            current += bytes.current;
            next += bytes.next;
        }

        let bytes = (self.bytes + next).saturating_sub(current);
        Ok((Self { bytes, ..*self }, next.saturating_sub(current)))
    }

    /// A refusal with all counts.
    fn refusal(&self, message: String, used: usize, limit: usize, limits: &Limits) -> Refusal {
        Refusal::new(Code::QuotaExceeded, message)
            .with("used", used)
            .with("limit", limit)
            .with("items", self.items)
            .with("items_limit", limits.items)
            .with("keys", self.keys)
            .with("keys_limit", limits.keys)
            .with("bytes", self.bytes)
            .with("bytes_limit", limits.owner_bytes)
            .with("retry_after_ms", QUOTA_RETRY_MS)
    }
}
