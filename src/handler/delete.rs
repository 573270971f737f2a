//! `delete`: replaces an item by a tombstone, so that versions continue from there.

use super::condition::{Conditions, not_found};
use super::quota::Quota;
use super::request::Call;
use super::{Failure, Limits, Service, write};
use crate::domain::{ItemId, Kind, Timestamp};
use crate::owners::{Intent, Snapshot};
use crate::seal::Content;
use crate::wire::Fields;
use serde_json::Value;

/// `{kind, id, if_version?, if_owner_version?}`
pub(super) struct Delete {
    kind: Kind,
    id: ItemId,
    conditions: Conditions,
}

impl Delete {
    /// Parses the rest of the fields, after the conditions were taken from them.
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

    /// The kind and id of the item.
    pub fn item(&self) -> (Kind, Option<ItemId>) {
        (self.kind, Some(self.id.clone()))
    }

    /// Decides on the owner's state: the item's tombstone, or a refusal. An absent item is
    /// `not_found`, whatever the conditions are.
    pub fn decide(&self, snapshot: &Snapshot, quota: &mut Quota) -> Result<Content, Failure> {
        let current = snapshot.item(self.kind, &self.id)?;
        let living = current
            .filter(|item| item.living().is_some())
            .ok_or_else(|| not_found(snapshot))?;
        self.conditions.check(snapshot, Some(&living))?;

        quota.remove();
        Ok(Content::Deleted {
            kind: self.kind,
            id: self.id.clone(),
            updated_at: Timestamp::now(),
        })
    }
}

/// Answers `{item, owner_version}`. The item is `{kind, id, version, deleted: true, updated_at}`.
pub(super) async fn delete(service: &Service, mut call: Call) -> Result<Value, Failure> {
    let conditions = Conditions::take(&mut call.fields)?;
    let delete = Delete::parse(conditions, call.fields, &service.limits.current())?;

    let intent = Intent {
        items: vec![delete.item()],
        request: call.request,
    };
    let decide =
        |snapshot: &Snapshot| write::decision(delete.decide(snapshot, &mut Quota::of(snapshot)));
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    write::reply(outcome)
}
