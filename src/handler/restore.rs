//! `restore`: stores an item again as it was at a version that is still kept.

use super::condition::{Conditions, not_found};
use super::failure::deadline_exceeded;
use super::put::NewItem;
use super::quota::Quota;
use super::request::Call;
use super::{Failure, Limits, Service, write};
use crate::domain::{ItemId, Kind, Version};
use crate::owners::{Intent, OpenedItem, Snapshot};
use crate::seal::Content;
use crate::wire::{Code, Fields, Refusal};
use serde_json::Value;
use tokio::time::timeout_at;

/// `{kind, id, version, if_version?}`
struct Restore {
    kind: Kind,
    id: ItemId,
    version: Version,
    conditions: Conditions,
}

impl Restore {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let kind = Kind::parse(&fields.require_text("kind")?)?;
        let id = fields.require_text("id")?;
        let version = fields.version("version")?;
        let version = fields.require("version", version)?;
        let conditions = Conditions::item_only(&mut fields)?;
        fields.finish()?;

        Ok(Self {
            kind,
            id: ItemId::parse(kind, &id, &limits.item)?,
            version,
            conditions,
        })
    }

    /// Decides on the owner's state: the item as it was in `earlier`, like a `put` of it, or a
    /// refusal.
    fn decide(
        &self,
        earlier: Option<&OpenedItem>,
        snapshot: &Snapshot,
        limits: &Limits,
    ) -> Result<Content, Failure> {
        let current = snapshot.item(self.kind, &self.id)?;
        let living = current.as_ref().filter(|item| item.living().is_some());
        self.conditions.check(snapshot, living)?;

        // An item without a current record is forgotten. It is not restored, even if this shard
        // still has old versions.
        let earlier = earlier
            .filter(|_| current.is_some())
            .ok_or_else(|| not_kept(snapshot, living.is_some()))?;
        let earlier = earlier.living().ok_or_else(|| {
            let message =
                "version: the item was deleted then; restore an earlier one, or delete the item";
            Refusal::new(Code::InvalidItem, message).field("version")
        })?;

        let new = NewItem {
            id: self.id.clone(),
            data: earlier.data.clone(),
            meta: earlier.meta.clone(),
            tags: earlier.tags.clone(),
        };
        new.replace(current.as_ref(), &mut Quota::of(snapshot), limits)
    }
}

/// The refusal if there is nothing to restore.
fn not_kept(snapshot: &Snapshot, is_living: bool) -> Refusal {
    if !is_living {
        return not_found(snapshot);
    }

    let message =
        "the item has no such version, or it is no longer kept: history shows those that are";
    Refusal::new(Code::NotFound, message).with("owner_version", snapshot.version().get())
}

/// Answers `{item, owner_version}`.
pub(super) async fn restore(service: &Service, call: Call) -> Result<Value, Failure> {
    let restore = Restore::parse(call.fields, &service.limits.current())?;

    let found = service
        .owners
        .item_at(&call.owner, restore.kind, &restore.id, restore.version);
    let earlier = match timeout_at(call.deadline, found).await {
        Err(_) => return Err(deadline_exceeded().into()),
        Ok(earlier) => earlier?,
    };

    let intent = Intent {
        items: vec![(restore.kind, Some(restore.id.clone()))],
        request: call.request,
    };
    let decide = |snapshot: &Snapshot| {
        write::decision(restore.decide(earlier.as_ref(), snapshot, &service.limits.current()))
    };
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    write::reply(outcome)
}
