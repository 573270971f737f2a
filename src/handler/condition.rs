//! The preconditions of a write, checked on a snapshot of the owner.

use crate::domain::Version;
use crate::owners::{OpenedItem, Snapshot};
use crate::wire::{Code, Fields, ItemView, Refusal};
use serde_json::Value;

/// The versions that a caller expects: the write is done only if they are the current ones.
pub(super) struct Conditions {
    if_version: Option<Version>,
    if_owner_version: Option<Version>,
}

impl Conditions {
    /// Takes `if_version` and `if_owner_version`.
    pub fn take(fields: &mut Fields) -> Result<Self, Refusal> {
        Ok(Self {
            if_version: fields.version("if_version")?,
            if_owner_version: fields.version("if_owner_version")?,
        })
    }

    /// Takes `if_version` alone.
    pub fn item_only(fields: &mut Fields) -> Result<Self, Refusal> {
        Ok(Self {
            if_version: fields.version("if_version")?,
            if_owner_version: None,
        })
    }

    /// Takes `if_owner_version` alone.
    pub fn owner_only(fields: &mut Fields) -> Result<Self, Refusal> {
        Ok(Self {
            if_version: None,
            if_owner_version: fields.version("if_owner_version")?,
        })
    }

    /// Checks both conditions. `current` is the item, if it is there and not deleted.
    ///
    /// # Errors
    /// `version_conflict` if a condition is false.
    pub fn check(&self, snapshot: &Snapshot, current: Option<&OpenedItem>) -> Result<(), Refusal> {
        let version = current.map(|item| item.version).unwrap_or_default();
        if let Some(expected) = self.if_version.filter(|expected| *expected != version) {
            let found = match current {
                Some(item) => format!("the item is at version {}", item.version),
                None => "there is no such item".to_owned(),
            };
            return Err(conflict(
                snapshot,
                current,
                &format!("{found}, and if_version is {expected}"),
            ));
        }

        if let Some(expected) = self
            .if_owner_version
            .filter(|expected| *expected != snapshot.version())
        {
            let found = format!(
                "the owner is at version {}, and if_owner_version is {expected}",
                snapshot.version()
            );
            return Err(conflict(snapshot, current, &found));
        }

        Ok(())
    }
}

fn conflict(snapshot: &Snapshot, current: Option<&OpenedItem>, found: &str) -> Refusal {
    let item = current
        .and_then(|opened| Some(ItemView::living(opened.living()?, opened.version).to_value()))
        .unwrap_or(Value::Null);

    Refusal::new(
        Code::VersionConflict,
        format!("{found}: look at the current one and decide again"),
    )
    .with("item", item)
    .with("owner_version", snapshot.version().get())
}

/// The refusal of an item that is missing or deleted.
pub(super) fn not_found(snapshot: &Snapshot) -> Refusal {
    Refusal::not_found(snapshot.version())
}
