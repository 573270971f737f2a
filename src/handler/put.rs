//! `put`: stores an item, new or in place of the present one.

use super::condition::Conditions;
use super::quota::Quota;
use super::request::Call;
use super::{Failure, Limits, Service, reference, write};
use crate::domain::{Data, Item, ItemId, Kind, Meta, Tags, Timestamp};
use crate::owners::{Intent, OpenedItem, Snapshot};
use crate::seal::Content;
use crate::wire::{Code, Fields, Refusal, TraceContext, data_from};
use serde_json::Value;
use uuid::Uuid;

/// `{kind, id?, data?, meta?, tags?, if_version?, if_owner_version?}`
pub(super) struct Put {
    kind: Kind,
    id: Option<ItemId>,
    /// `None` keeps the data of the present item.
    data: Option<Data>,
    meta: Meta,
    tags: Tags,
    conditions: Conditions,
    /// Why the reference service does not confirm the instrument.
    unconfirmed: Option<Refusal>,
}

impl Put {
    /// Parses the rest of the fields, after the conditions were taken from them.
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
        let id = checked_id(id, data.as_ref())?;

        let meta = Meta::parse(meta, &limits.item)?;
        let tags = Tags::parse(tags, &limits.item)?;
        Ok(Self {
            kind,
            id,
            data,
            meta,
            tags,
            conditions,
            unconfirmed: None,
        })
    }

    /// Asks the reference service about an instrument that is put with its data. A refusal counts
    /// when the write is decided and not before: a repeated write is answered as the first time.
    pub async fn confirm(&mut self, service: &Service, trace: Option<&TraceContext>) {
        if let Some(Data::Instrument(instrument)) = &mut self.data {
            self.unconfirmed = reference::confirm(service, instrument, trace).await.err();
        }
    }

    /// The kind and id of the item. Without an id the service chooses one.
    pub fn item(&self) -> (Kind, Option<ItemId>) {
        (self.kind, self.id.clone())
    }

    /// Decides on the owner's state: the item as it will be, or a refusal.
    pub fn decide(
        &self,
        snapshot: &Snapshot,
        quota: &mut Quota,
        limits: &Limits,
    ) -> Result<Content, Failure> {
        if let Some(refusal) = &self.unconfirmed {
            return Err(refusal.clone().into());
        }

        let id = match &self.id {
            Some(id) => id.clone(),
            None => ItemId::parse(self.kind, &Uuid::now_v7().to_string(), &limits.item)?,
        };

        let current = snapshot.item(self.kind, &id)?;
        let living = current.as_ref().filter(|item| item.living().is_some());
        self.conditions.check(snapshot, living)?;

        let kept_data = living.and_then(|item| item.living()).map(|item| &item.data);
        let data = self.data.as_ref().or(kept_data).ok_or_else(|| {
            Refusal::new(
                Code::InvalidItem,
                "data: there is no such item yet, so its data is needed",
            )
            .field("data")
        })?;

        let new = NewItem {
            id,
            data: data.clone(),
            meta: self.meta.clone(),
            tags: self.tags.clone(),
        };
        new.replace(current.as_ref(), quota, limits)
    }
}

/// An item as a write will leave it.
pub(super) struct NewItem {
    pub id: ItemId,
    pub data: Data,
    pub meta: Meta,
    pub tags: Tags,
}

impl NewItem {
    /// Returns the item in the place of `current`, and counts it in `quota`.
    ///
    /// # Errors
    /// A refusal if the owner's quota or the size of a reply does not allow the item.
    pub fn replace(
        self,
        current: Option<&OpenedItem>,
        quota: &mut Quota,
        limits: &Limits,
    ) -> Result<Content, Failure> {
        let life = current.and_then(|item| item.living());
        let increased = quota.add(life.is_none(), current.is_none(), limits)?;

        let now = Timestamp::now();
        let content = Content::Living(Item {
            kind: self.data.kind(),
            id: self.id,
            data: self.data,
            meta: self.meta,
            tags: self.tags,
            created_at: life.map_or(now, |item| item.created_at),
            updated_at: now,
        });
        write::must_fit(&content, limits)?;

        *quota = increased;
        Ok(content)
    }
}

/// Returns the item's id. An instrument's id is its ISIN, and may be left out.
///
/// # Errors
/// `invalid_item` if an instrument has another id.
fn checked_id(id: Option<ItemId>, data: Option<&Data>) -> Result<Option<ItemId>, Refusal> {
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

/// Answers `{item, owner_version}`.
pub(super) async fn put(service: &Service, mut call: Call) -> Result<Value, Failure> {
    let conditions = Conditions::take(&mut call.fields)?;
    let mut put = Put::parse(conditions, call.fields, &service.limits.current())?;
    let confirmed = put.confirm(service, call.trace.as_ref());
    reference::within(call.deadline, confirmed).await?;

    let intent = Intent {
        items: vec![put.item()],
        request: call.request,
    };
    let decide = |snapshot: &Snapshot| {
        write::decision(put.decide(
            snapshot,
            &mut Quota::of(snapshot),
            &service.limits.current(),
        ))
    };
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    write::reply(outcome)
}
