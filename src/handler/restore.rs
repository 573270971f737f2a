//! `restore`: puts an item back as it was at a version that is still kept.

use super::condition::{Conditions, not_found};
use super::put::{Room, keep};
use super::request::{Call, out_of_time};
use super::{Failure, Limits, Service, write};
use crate::domain::{Item, ItemId, Kind, Version};
use crate::owners::{Change, Draft, Intent, Opened, Snapshot};
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

    /// The item as it would be: as a `put` of what it was.
    fn decide(
        &self,
        was: Option<&Opened>,
        snapshot: &Snapshot,
        limits: &Limits,
    ) -> Result<Change<Refusal>, Failure> {
        let current = snapshot.item(self.kind, &self.id)?;
        let living = current.as_ref().filter(|item| item.living().is_some());
        if let Err(conflict) = self.conditions.check(snapshot, living) {
            return Ok(Err(conflict));
        }
        // What was once and has no record now is forgotten: nobody goes back to it, whatever this shard still has.
        let Some(was) = was.filter(|_| current.is_some()) else {
            return Ok(Err(not_kept(snapshot, living.is_some())));
        };
        let Some(Item {
            data, meta, tags, ..
        }) = was.living()
        else {
            let message =
                "version: the item was deleted then; restore an earlier one, or delete it";
            return Ok(Err(
                Refusal::new(Code::InvalidItem, message).field("version")
            ));
        };
        let mut room = Room::of(snapshot);
        let kept = keep(
            &mut room,
            current.as_ref(),
            &self.id,
            (data.clone(), meta.clone(), tags.clone()),
            limits,
        );
        Ok(kept.map(Draft::one))
    }
}

/// That there is nothing to put back.
fn not_kept(snapshot: &Snapshot, lives: bool) -> Refusal {
    if !lives {
        return not_found(snapshot);
    }
    let message =
        "the item has no such version, or it is kept no more: history shows those that are";
    Refusal::new(Code::NotFound, message).with("owner_version", snapshot.version().get())
}

/// Answers `{item, owner_version}`.
pub(super) async fn restore(service: &Service, call: Call) -> Result<Value, Failure> {
    let restore = Restore::parse(call.fields, &service.limits)?;
    let found = service
        .owners
        .item_at(&call.owner, restore.kind, &restore.id, restore.version);
    let was = match timeout_at(call.deadline, found).await {
        Err(_) => return Err(out_of_time().into()),
        Ok(was) => was?,
    };
    let intent = Intent {
        items: vec![(restore.kind, Some(restore.id.clone()))],
        request: call.request,
    };
    let decide = |snapshot: &Snapshot| restore.decide(was.as_ref(), snapshot, &service.limits);
    write::reply(
        service
            .owners
            .write(call.caller.user(), &intent, call.deadline, decide)
            .await?,
    )
}
