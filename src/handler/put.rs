//! `put`: stores an item, new or in place of the present one.

use super::body::Body;
use super::condition::Conditions;
use super::failure::within;
use super::item_name::take_known_kind;
use super::quota::Quota;
use super::request::Call;
use super::secret_data::{Parts, codes_parts, otp_parts};
use super::write::WriteState;
use super::{Failure, Limits, Service, reference, write};
use crate::domain::{Data, Item, ItemId, Kind, KindName, Meta, Place, Tags, Timestamp};
use crate::owners::{Draft, Intent, OpenedItem, Snapshot};
use crate::seal::{Content, Format, NewContent, NewHidden};
use crate::wire::{Code, Fields, NewData, Refusal, TraceContext, data_from};
use uuid::Uuid;

/// `{kind, id?, data?, meta?, tags?, if_version?, if_owner_version?}`
pub(super) struct Put {
    kind: Kind,
    id: Option<ItemId>,
    /// `None` keeps the data of the present item.
    data: Option<NewData>,
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
        let kind = take_known_kind(&mut fields)?;
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
            let message = "data: an instrument without an id needs its data, which hold its isin, \
                           or mic and ticker";
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
        if let Some(NewData::Shown(Data::Instrument(instrument))) = &mut self.data {
            self.unconfirmed = reference::confirm(service, instrument, trace).await.err();
        }
    }

    /// The kind and id of the item. Without an id the service chooses one.
    pub fn item(&self) -> (KindName, Option<ItemId>) {
        (self.kind.into(), self.id.clone())
    }

    /// Decides on the owner's state: the item as it will be, or a refusal.
    pub fn decide(&self, state: &WriteState<'_>, quota: &mut Quota) -> Result<NewContent, Failure> {
        if let Some(refusal) = &self.unconfirmed {
            return Err(refusal.clone().into());
        }

        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                let id = Uuid::now_v7().to_string();
                ItemId::parse(self.kind, &id, &state.limits.item)?
            }
        };

        let current = state.snapshot.item(&self.kind.into(), &id)?;
        let living = current.as_deref().filter(|item| item.living().is_some());
        self.conditions.check(state.snapshot, living)?;

        let kept = living.and_then(|item| item.living());
        let (data, hidden) = match (&self.data, kept) {
            (Some(new), _) => {
                let (data, hidden) = self.new_data(new, state, living)?;
                (Some(data), hidden)
            }
            (None, Some(kept)) => (kept.data.clone(), NewHidden::Kept),
            (None, None) => {
                let message = "data: there is no such item yet, so its data is needed";
                return Err(Refusal::new(Code::InvalidItem, message)
                    .field("data")
                    .into());
            }
        };

        let new = NewItem {
            kind: self.kind.into(),
            id,
            data,
            hidden,
            meta: self.meta.clone(),
            tags: self.tags.clone(),
        };
        new.replace(current.as_deref(), state, quota)
    }

    /// Returns the item's new data: the part that replies show, and the part that they hide. A used
    /// code of a living item stays used.
    fn new_data(
        &self,
        new: &NewData,
        state: &WriteState<'_>,
        living: Option<&OpenedItem>,
    ) -> Result<Parts, Failure> {
        if state.format == Format::One && needs_format_two(new) {
            let field = if self.kind.has_secrets() {
                "kind"
            } else {
                "data"
            };
            return Err(format_refusal(field).into());
        }

        Ok(match new {
            NewData::Shown(data) => (data.clone(), NewHidden::None),
            NewData::Otp(new) => {
                let old = match living {
                    Some(item) => state.snapshot.otp(item)?,
                    None => None,
                };
                let otp = old.map_or(new.clone(), |old| old.replaced_by(new.clone()));
                otp_parts(&otp)
            }
            NewData::Codes(new) => {
                let old = match living {
                    Some(item) => state.snapshot.codes(item)?,
                    None => None,
                };
                let codes = match old {
                    Some(old) => old
                        .replaced_by(new, &state.limits.item, state.secret_hash())
                        .map_err(|invalid| invalid.under("data"))?,
                    None => new.clone(),
                };
                codes_parts(codes)
            }
        })
    }
}

/// Returns whether only format 2 can hold these data.
fn needs_format_two(data: &NewData) -> bool {
    match data {
        NewData::Shown(Data::Instrument(instrument)) => instrument.isin().is_none(),
        #[cfg(feature = "next")]
        NewData::Shown(Data::Basket(_)) => true,
        NewData::Shown(_) => false,
        NewData::Otp(_) | NewData::Codes(_) => true,
    }
}

/// The refusal of what only format 2 can hold, while the bucket permits format 1.
pub(super) fn format_refusal(field: &str) -> Refusal {
    let message = "the bucket still has the first format of records, for older workers: an \
                   operator has to permit the second one (gofavorites init --formats 2)";
    Refusal::bad_field(field, message)
}

/// An item as a write will leave it.
pub(super) struct NewItem {
    pub kind: KindName,
    pub id: ItemId,
    pub data: Option<Data>,
    pub hidden: NewHidden,
    pub meta: Meta,
    pub tags: Tags,
}

impl NewItem {
    /// Returns the item in the place of `current`, and counts it in `quota`. A living item keeps its
    /// place in the list.
    ///
    /// # Errors
    /// A refusal if the owner's quota or the size of a reply does not allow the item.
    pub fn replace(
        self,
        current: Option<&OpenedItem>,
        state: &WriteState<'_>,
        quota: &mut Quota,
    ) -> Result<NewContent, Failure> {
        let life = current.and_then(|item| item.living());
        let increase = |quota: &Quota| quota.add(life.is_none(), current.is_none(), state.limits);
        increase(quota)?;

        let now = Timestamp::now();
        let place = life
            .map(|item| item.place.clone())
            .unwrap_or_else(|| Place::of_creation(state.snapshot.version().get(), state.position));
        let content = Content::Living(Item {
            kind: self.kind,
            id: self.id,
            data: self.data,
            meta: self.meta,
            tags: self.tags,
            place,
            created_at: life.map_or(now, |item| item.created_at),
            updated_at: now,
        });
        write::must_fit(&content, state.limits)?;
        let new = NewContent {
            content,
            hidden: self.hidden,
        };
        let resized = quota.resize(state, std::slice::from_ref(&new))?;

        *quota = increase(&resized)?;
        Ok(new)
    }
}

/// Returns the item's id. The data of an instrument name its id, which may be left out.
///
/// # Errors
/// `invalid_item` if an instrument has another id.
fn checked_id(id: Option<ItemId>, data: Option<&NewData>) -> Result<Option<ItemId>, Refusal> {
    let Some(instrument) = data.and_then(NewData::instrument) else {
        return Ok(id);
    };

    let own_id = instrument.id();
    if id.is_none() || id == own_id {
        return Ok(own_id);
    }

    let message = match instrument.isin() {
        Some(_) => "id: an instrument's id is its ISIN; leave it out",
        None => "id: the id of an instrument without an isin is MIC:TICKER; leave it out",
    };
    Err(Refusal::new(Code::InvalidItem, message).field("id"))
}

/// Answers `{item, owner_version}`.
pub(super) async fn put(service: &Service, mut call: Call) -> Result<Body, Failure> {
    let conditions = Conditions::take(&mut call.fields)?;
    let mut put = Put::parse(conditions, call.fields, &service.limits.current())?;
    let confirmed = put.confirm(service, call.trace.as_ref());
    within(call.deadline, confirmed).await?;

    let intent = Intent::about(vec![put.item()], call.request);
    let decide = |snapshot: &Snapshot| {
        write::decide(service, snapshot, |state| {
            put.decide(state, &mut Quota::of(snapshot)).map(Draft::one)
        })
    };
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    write::reply(outcome)
}
