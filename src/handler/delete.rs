//! `delete`: says that an item is gone; the record of it stays, so that versions go on.

use super::condition::{Conditions, not_found};
use super::put::Room;
use super::request::Call;
use super::{Failure, Limits, Service, write};
use crate::domain::{ItemId, Kind, Timestamp};
use crate::owners::{Change, Draft, Intent, Snapshot};
use crate::seal::Content;
use crate::wire::{Fields, Refusal};
use serde_json::Value;

/// `{kind, id, if_version?, if_owner_version?}`
pub(super) struct Delete {
    kind: Kind,
    id: ItemId,
    conditions: Conditions,
}

impl Delete {
    /// With the conditions that were taken from the fields before.
    pub fn parse(
        conditions: Conditions,
        mut fields: Fields,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let kind = Kind::parse(&fields.require_text("kind")?)?;
        let id = fields.require_text("id")?;
        fields.finish()?;
        Ok(Self {
            kind,
            id: ItemId::parse(kind, &id, &limits.item)?,
            conditions,
        })
    }

    /// Its item.
    pub fn item(&self) -> (Kind, Option<ItemId>) {
        (self.kind, Some(self.id.clone()))
    }

    /// That the item is gone, on the owner's state. What is absent is not found, whatever the conditions say.
    pub fn decide(
        &self,
        snapshot: &Snapshot,
        room: &mut Room,
    ) -> Result<Result<Content, Refusal>, Failure> {
        let Some(living) = snapshot
            .item(self.kind, &self.id)?
            .filter(|item| item.living().is_some())
        else {
            return Ok(Err(not_found(snapshot)));
        };
        if let Err(conflict) = self.conditions.check(snapshot, Some(&living)) {
            return Ok(Err(conflict));
        }
        room.leave();
        Ok(Ok(Content::Deleted {
            kind: self.kind,
            id: self.id.clone(),
            updated_at: Timestamp::now(),
        }))
    }
}

/// Answers `{item, owner_version}`, the item being `{kind, id, version, deleted: true, updated_at}`.
pub(super) async fn delete(service: &Service, mut call: Call) -> Result<Value, Failure> {
    let conditions = Conditions::take(&mut call.fields)?;
    let delete = Delete::parse(conditions, call.fields, &service.limits)?;
    let intent = Intent {
        items: vec![delete.item()],
        request: call.request,
    };
    let decide = |snapshot: &Snapshot| {
        Ok::<Change<Refusal>, Failure>(
            delete
                .decide(snapshot, &mut Room::of(snapshot))?
                .map(Draft::one),
        )
    };
    write::reply(
        service
            .owners
            .write(call.caller.user(), &intent, call.deadline, decide)
            .await?,
    )
}
