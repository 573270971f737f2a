//! `put`: keeps an item, new or in place of the one that is there.

use super::condition::Conditions;
use super::request::Call;
use super::{Failure, Limits, Service, write};
use crate::domain::{Data, Item, ItemId, Kind, Meta, Tags, Timestamp};
use crate::owners::{Change, Draft, Intent, Opened, Snapshot};
use crate::seal::Content;
use crate::wire::{Code, Fields, Refusal, data_from};
use serde_json::Value;
use uuid::Uuid;

/// `{kind, id?, data?, meta?, tags?, if_version?, if_owner_version?}`
pub(super) struct Put {
    kind: Kind,
    id: Option<ItemId>,
    /// Left out: the data of the living item stays.
    data: Option<Data>,
    meta: Meta,
    tags: Tags,
    conditions: Conditions,
}

impl Put {
    /// With the conditions that were taken from the fields before.
    pub fn parse(
        conditions: Conditions,
        mut fields: Fields,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let kind = Kind::parse(&fields.require_text("kind")?)?;
        let id = fields.text("id")?;
        let data = fields.map("data")?;
        let meta = fields.text_map("meta")?.unwrap_or_default();
        let tags = fields.text_list("tags")?.unwrap_or_default();
        fields.finish()?;
        let id = id
            .map(|id| ItemId::parse(kind, &id, &limits.item))
            .transpose()?;
        let data = data
            .map(|data| data_from(kind, data, &limits.item))
            .transpose()?;
        if kind == Kind::Instrument && id.is_none() && data.is_none() {
            let message = "data: an instrument without an id needs its data, which hold the ISIN";
            return Err(Refusal::new(Code::InvalidItem, message)
                .field("data")
                .into());
        }
        let id = fitting_id(id, data.as_ref())?;
        let (meta, tags) = (
            Meta::parse(meta, &limits.item)?,
            Tags::parse(tags, &limits.item)?,
        );
        Ok(Self {
            kind,
            id,
            data,
            meta,
            tags,
            conditions,
        })
    }

    /// Its item; no id lets the service choose one.
    pub fn item(&self) -> (Kind, Option<ItemId>) {
        (self.kind, self.id.clone())
    }

    /// The item as it would be, on the owner's state.
    pub fn decide(
        &self,
        snapshot: &Snapshot,
        room: &mut Room,
        limits: &Limits,
    ) -> Result<Result<Content, Refusal>, Failure> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => ItemId::parse(self.kind, &Uuid::now_v7().to_string(), &limits.item)?,
        };
        let current = snapshot.item(self.kind, &id)?;
        let living = current.as_ref().filter(|item| item.living().is_some());
        if let Err(conflict) = self.conditions.check(snapshot, living) {
            return Ok(Err(conflict));
        }
        let data = self
            .data
            .as_ref()
            .or(living.and_then(|item| item.living()).map(|item| &item.data));
        let Some(data) = data else {
            let refusal = Refusal::new(
                Code::InvalidItem,
                "data: there is no such item yet, so its data is needed",
            );
            return Ok(Err(refusal.field("data")));
        };
        let what = (data.clone(), self.meta.clone(), self.tags.clone());
        Ok(keep(room, current.as_ref(), &id, what, limits))
    }
}

/// An item with that data, metadata and tags, in the place of `current`, if there is room for it.
pub(super) fn keep(
    room: &mut Room,
    current: Option<&Opened>,
    id: &ItemId,
    (data, meta, tags): (Data, Meta, Tags),
    limits: &Limits,
) -> Result<Content, Refusal> {
    let life = current.and_then(|item| item.living());
    let entered = room.enter(life.is_none(), current.is_none(), limits)?;
    let now = Timestamp::now();
    let created_at = life.map_or(now, |item| item.created_at);
    let kind = data.kind();
    let item = Item {
        kind,
        id: id.clone(),
        data,
        meta,
        tags,
        created_at,
        updated_at: now,
    };
    let content = Content::Living(item);
    write::must_fit(&content, limits)?;
    *room = entered;
    Ok(content)
}

/// The id of an instrument is its ISIN, and may be left out; another one is refused.
fn fitting_id(id: Option<ItemId>, data: Option<&Data>) -> Result<Option<ItemId>, Refusal> {
    let Some(Data::Instrument(instrument)) = data else {
        return Ok(id);
    };
    let isin = ItemId::of_isin(instrument.isin());
    match id {
        Some(id) if id.as_str() != isin.as_str() => Err(Refusal::new(
            Code::InvalidItem,
            "id: an instrument's id is its ISIN; leave it out",
        )
        .field("id")),
        _ => Ok(Some(isin)),
    }
}

/// What an owner has used of their quotas; in a batch, with what its earlier operations take and leave.
#[derive(Clone, Copy)]
pub(super) struct Room {
    items: usize,
    keys: usize,
}

impl Room {
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
    fn enter(&self, is_new: bool, is_new_key: bool, limits: &Limits) -> Result<Self, Refusal> {
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

/// A quota does not lift by waiting a moment.
const QUOTA_RETRY_MS: u64 = 3_600_000;

/// Answers `{item, owner_version}`.
pub(super) async fn put(service: &Service, mut call: Call) -> Result<Value, Failure> {
    let conditions = Conditions::take(&mut call.fields)?;
    let put = Put::parse(conditions, call.fields, &service.limits)?;
    let intent = Intent {
        items: vec![put.item()],
        request: call.request,
    };
    let decide = |snapshot: &Snapshot| {
        let content = put.decide(snapshot, &mut Room::of(snapshot), &service.limits)?;
        Ok::<Change<Refusal>, Failure>(content.map(Draft::one))
    };
    write::reply(
        service
            .owners
            .write(call.caller.user(), &intent, call.deadline, decide)
            .await?,
    )
}
