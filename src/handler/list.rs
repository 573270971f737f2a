//! `list`: the owner's items by place, a page at a time.

use super::freshness::{Freshness, mark_stale};
use super::page::{page, page_limit};
use super::request::Call;
use super::write::view;
use super::{Failure, Service};
use crate::domain::Kind;
use crate::owners::{OpenedItem, Snapshot};
use crate::seal::{Keyring, OwnerKey};
use crate::wire::{Fields, Refusal};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// `{kind?, tag?, limit?, cursor?, min_version?, consistency?}`
struct List {
    kind: Option<Kind>,
    tag: Option<String>,
    limit: usize,
    cursor: Option<String>,
    freshness: Freshness,
}

impl List {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let limits = &service.limits;
        let kind = fields
            .text("kind")?
            .map(|kind| Kind::parse(&kind))
            .transpose()?;
        let tag = fields.text("tag")?;
        let limit = page_limit(&mut fields, limits)?;
        let cursor = fields.text("cursor")?;
        let freshness = Freshness::take(&mut fields, &service.owners)?;
        fields.finish()?;
        Ok(Self {
            kind,
            tag,
            limit,
            cursor,
            freshness,
        })
    }

    fn takes(&self, opened: &OpenedItem) -> bool {
        let Some(item) = opened.living() else {
            return false;
        };
        self.kind.is_none_or(|kind| kind == item.kind)
            && self.tag.as_ref().is_none_or(|tag| item.tags.contains(tag))
    }

    /// The filter as one byte string: a cursor belongs to it.
    fn filter(&self) -> Vec<u8> {
        let (kind, tag) = (
            self.kind.map(Kind::as_str).unwrap_or_default(),
            self.tag.as_deref(),
        );
        [
            kind.as_bytes(),
            &[0, u8::from(tag.is_some())],
            tag.unwrap_or_default().as_bytes(),
        ]
        .concat()
    }

    /// The place after which this page begins.
    fn begins_after(&self, keyring: &Keyring, owner: &OwnerKey) -> Result<u64, Refusal> {
        let Some(text) = &self.cursor else {
            return Ok(0);
        };
        let made_up = || {
            Refusal::bad_field(
                "cursor",
                "not a cursor of this list: begin again without one",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| made_up())?;
        let (place, mark) = bytes.split_first_chunk().ok_or_else(made_up)?;
        let place = u64::from_be_bytes(*place);
        if mark == keyring.cursor_mac(owner, &self.filter(), place) {
            Ok(place)
        } else {
            Err(made_up())
        }
    }

    fn cursor_after(&self, keyring: &Keyring, owner: &OwnerKey, place: u64) -> String {
        let mark = keyring.cursor_mac(owner, &self.filter(), place);
        URL_SAFE_NO_PAD.encode([&place.to_be_bytes()[..], &mark].concat())
    }
}

/// An item's place: the first version of its present life, so that the oldest comes first.
fn place(opened: &OpenedItem) -> u64 {
    opened.body.born.get()
}

/// Items in the order of their places, of those after `after` that the list takes.
fn in_order<'s>(
    list: &List,
    snapshot: &'s Snapshot,
    after: u64,
) -> Result<Vec<&'s OpenedItem>, Failure> {
    let mut items: Vec<_> = snapshot
        .items()?
        .iter()
        .filter(|o| place(o) > after && list.takes(o))
        .collect();
    items.sort_by_key(|opened| place(opened));
    Ok(items)
}

/// Answers `{items, owner_version, next_cursor?}`.
pub(super) async fn list(service: &Service, call: Call) -> Result<Value, Failure> {
    let list = List::parse(call.fields, service)?;
    let keyring = service.owners.keyring();
    let after = list.begins_after(keyring, &call.owner)?;
    let reading = list
        .freshness
        .read(&service.owners, &call.owner, call.deadline)
        .await?;
    let items = in_order(&list, &reading.snapshot, after)?;
    let listed = page(&items, list.limit, &service.limits, |opened| view(opened));
    let (more, last) = (
        listed.len() < items.len(),
        listed
            .len()
            .checked_sub(1)
            .map_or(after, |at| place(items[at])),
    );
    let mut reply = json!({"items": listed, "owner_version": reading.snapshot.version().get()});
    if more {
        reply["next_cursor"] = Value::from(list.cursor_after(keyring, &call.owner, last));
    }
    Ok(mark_stale(reply, &reading))
}
