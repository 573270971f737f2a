//! `delete`: says that an item is gone; the record of it stays, so that versions go on.

use super::condition::{Conditions, not_found};
use super::request::Call;
use super::{Failure, Limits, Service, write};
use crate::domain::{ItemId, Kind, Timestamp};
use crate::owners::{Change, Draft, Intent, Snapshot};
use crate::seal::Content;
use crate::wire::{Fields, Refusal};
use serde_json::Value;

/// `{kind, id, if_version?, if_owner_version?}`
struct Delete {
    kind: Kind,
    id: ItemId,
    conditions: Conditions,
}

impl Delete {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let kind = Kind::parse(&fields.require_text("kind")?)?;
        let id = fields.require_text("id")?;
        let conditions = Conditions::take(&mut fields)?;
        fields.finish()?;
        Ok(Self { kind, id: ItemId::parse(kind, &id, &limits.item)?, conditions })
    }

    /// What is absent is not found, whatever the conditions say.
    fn decide(&self, snapshot: &Snapshot) -> Result<Change<Refusal>, Failure> {
        let Some(living) = snapshot.item(self.kind, &self.id)?.filter(|item| item.living().is_some()) else {
            return Ok(Err(not_found(snapshot)));
        };
        let gone = || Content::Deleted { kind: self.kind, id: self.id.clone(), updated_at: Timestamp::now() };
        Ok(self.conditions.check(snapshot, Some(&living)).map(|()| Draft { content: gone() }))
    }
}

/// Answers `{item, owner_version}`, the item being `{kind, id, version, deleted: true, updated_at}`.
pub(super) async fn delete(service: &Service, call: Call) -> Result<Value, Failure> {
    let delete = Delete::parse(call.fields, &service.limits)?;
    let intent = Intent { kind: delete.kind, id: Some(delete.id.clone()), request: call.request };
    let decide = |snapshot: &Snapshot| delete.decide(snapshot);
    write::reply(service.owners.write(call.caller.user(), &intent, call.deadline, decide).await?)
}
