//! The kind and id by which a request names an item.

use super::condition::not_found;
use super::{Failure, Limits};
use crate::domain::{ItemId, Kind, KindName};
use crate::owners::{Intent, OpenedItem, Reading, Snapshot};
use crate::seal::SealError;
use crate::wire::{Fields, Refusal};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The kind and id of an item.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct ItemName {
    pub kind: KindName,
    pub id: ItemId,
}

impl ItemName {
    /// Takes `kind` and `id`. The kind may be one that this version does not know.
    pub fn take(fields: &mut Fields, limits: &Limits) -> Result<Self, Failure> {
        let kind = KindName::parse(&fields.require_text("kind")?)?;
        let id = fields.require_text("id")?;

        Ok(Self {
            id: ItemId::parse_any(&kind, &id, &limits.item)?,
            kind,
        })
    }

    /// Takes `id`, of an item of that kind.
    pub fn take_id(kind: Kind, fields: &mut Fields, limits: &Limits) -> Result<Self, Failure> {
        let id = fields.require_text("id")?;

        Ok(Self {
            id: ItemId::parse(kind, &id, &limits.item)?,
            kind: kind.into(),
        })
    }

    /// Returns the item, if it is there and not deleted.
    pub fn living(&self, snapshot: &Snapshot) -> Result<Option<Arc<OpenedItem>>, SealError> {
        let item = snapshot.item(&self.kind, &self.id)?;
        Ok(item.filter(|item| item.living().is_some()))
    }

    /// Returns the item, if it is there and not deleted.
    ///
    /// # Errors
    /// Otherwise [`not_found`](Self::not_found).
    pub fn require(&self, snapshot: &Snapshot) -> Result<Arc<OpenedItem>, Failure> {
        self.living(snapshot)?
            .ok_or_else(|| self.not_found(snapshot).into())
    }

    /// Does the same as [`require`](Self::require) for a read.
    ///
    /// # Errors
    /// [`not_found_by`](Self::not_found_by) if the item is not there.
    pub fn require_by(&self, reading: &Reading) -> Result<Arc<OpenedItem>, Failure> {
        self.living(&reading.snapshot)?
            .ok_or_else(|| self.not_found_by(reading).into())
    }

    /// Returns the refusal of a read that does not find the item. It shows whether the read is
    /// stale.
    pub fn not_found_by(&self, reading: &Reading) -> Refusal {
        let refusal = self.not_found(&reading.snapshot);

        if reading.stale {
            refusal.with("stale", true)
        } else {
            refusal
        }
    }

    /// Returns the refusal if the item is not there. A kind that this version does not know is
    /// probably a mistake then.
    pub fn not_found(&self, snapshot: &Snapshot) -> Refusal {
        match self.kind {
            KindName::Known(_) => not_found(snapshot),
            KindName::Unknown(_) => KindName::unknown().into(),
        }
    }

    /// Returns the kind and id, as an [`Intent`] names an item.
    pub fn named(&self) -> (KindName, Option<ItemId>) {
        (self.kind.clone(), Some(self.id.clone()))
    }

    /// Returns the intent to write this item alone.
    pub fn intent(&self, request: Option<(String, Zeroizing<Vec<u8>>)>) -> Intent {
        Intent::about(vec![self.named()], request)
    }
}

/// Takes `kind`, which must be one that this version knows.
///
/// # Errors
/// `bad_request` for a kind that it does not know: a newer worker may know it.
pub(super) fn take_known_kind(fields: &mut Fields) -> Result<Kind, Refusal> {
    let kind = fields.require_text("kind")?;
    Kind::parse(&kind).ok_or_else(|| Refusal::bad_field("kind", KindName::unknown().reason))
}
