//! `put`: keeps an item, new or in place of the one that is there.

use super::condition::Conditions;
use super::request::Call;
use super::{Failure, Limits, Service, write};
use crate::domain::{Data, Item, ItemId, Kind, Meta, Tags, Timestamp};
use crate::owners::{Change, Draft, Intent, Snapshot};
use crate::seal::Content;
use crate::wire::{Code, Fields, Refusal, data_from};
use serde_json::Value;
use uuid::Uuid;

/// `{kind, id?, data?, meta?, tags?, if_version?, if_owner_version?}`
struct Put {
    kind: Kind,
    id: Option<ItemId>,
    /// Left out: the data of the living item stays.
    data: Option<Data>,
    meta: Meta,
    tags: Tags,
    conditions: Conditions,
}

impl Put {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let kind = Kind::parse(&fields.require_text("kind")?)?;
        let id = fields.text("id")?;
        let data = fields.map("data")?;
        let meta = fields.text_map("meta")?.unwrap_or_default();
        let tags = fields.text_list("tags")?.unwrap_or_default();
        let conditions = Conditions::take(&mut fields)?;
        fields.finish()?;
        let id = id.map(|id| ItemId::parse(kind, &id, &limits.item)).transpose()?;
        let data = data.map(|data| data_from(kind, data, &limits.item)).transpose()?;
        let id = fitting_id(id, data.as_ref())?;
        let (meta, tags) = (Meta::parse(meta, &limits.item)?, Tags::parse(tags, &limits.item)?);
        Ok(Self { kind, id, data, meta, tags, conditions })
    }

    /// The item as it would be, on the owner's state.
    fn decide(&self, snapshot: &Snapshot, limits: &Limits) -> Result<Change<Refusal>, Failure> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => ItemId::parse(self.kind, &Uuid::now_v7().to_string(), &limits.item)?,
        };
        let current = snapshot.item(self.kind, &id)?;
        let is_new_key = current.is_none();
        let living = current.filter(|item| item.living().is_some());
        if let Err(conflict) = self.conditions.check(snapshot, living.as_ref()) {
            return Ok(Err(conflict));
        }
        let before = living.as_ref().and_then(|item| item.living());
        let Some(data) = self.data.as_ref().or(before.map(|item| &item.data)) else {
            let refusal = Refusal::new(Code::InvalidItem, "data: there is no such item yet, so its data is needed");
            return Ok(Err(refusal.field("data")));
        };
        if let Err(full) = check_quota(snapshot, before.is_none(), is_new_key, limits) {
            return Ok(Err(full));
        }
        let now = Timestamp::now();
        let content = Content::Living(Item {
            kind: self.kind,
            id,
            data: data.clone(),
            meta: self.meta.clone(),
            tags: self.tags.clone(),
            created_at: before.map_or(now, |item| item.created_at),
            updated_at: now,
        });
        Ok(write::must_fit(&content, limits).map(|()| Draft { content }))
    }
}

/// The id of an instrument is its ISIN, and may be left out; another one is refused.
fn fitting_id(id: Option<ItemId>, data: Option<&Data>) -> Result<Option<ItemId>, Refusal> {
    let Some(Data::Instrument(instrument)) = data else { return Ok(id) };
    let isin = ItemId::of_isin(instrument.isin());
    match id {
        Some(id) if id.as_str() != isin.as_str() => {
            Err(Refusal::new(Code::InvalidItem, "id: an instrument's id is its ISIN; leave it out").field("id"))
        }
        _ => Ok(Some(isin)),
    }
}

/// Refuses what would be one item too many.
fn check_quota(snapshot: &Snapshot, is_new: bool, is_new_key: bool, limits: &Limits) -> Result<(), Refusal> {
    let (live, keys) = snapshot.counts();
    let refuse = |what: &str, used: usize, limit: usize| {
        Refusal::new(Code::QuotaExceeded, format!("{used} of {limit} {what}"))
            .with("used", used)
            .with("limit", limit)
            .with("items", live)
            .with("items_limit", limits.items)
            .with("keys", keys)
            .with("keys_limit", limits.keys)
            .with("retry_after_ms", QUOTA_RETRY_MS)
    };
    if is_new && live >= limits.items {
        return Err(refuse("items are used: delete some", live, limits.items));
    }
    if is_new_key && keys >= limits.keys {
        return Err(refuse("keys are used, kept deletions among them", keys, limits.keys));
    }
    Ok(())
}

/// A quota does not lift by waiting a moment.
const QUOTA_RETRY_MS: u64 = 3_600_000;

/// Answers `{item, owner_version}`.
pub(super) async fn put(service: &Service, call: Call) -> Result<Value, Failure> {
    let put = Put::parse(call.fields, &service.limits)?;
    let intent = Intent { kind: put.kind, id: put.id.clone(), request: call.request };
    let decide = |snapshot: &Snapshot| put.decide(snapshot, &service.limits);
    write::reply(service.owners.write(call.caller.user(), &intent, call.deadline, decide).await?)
}
