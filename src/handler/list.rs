//! `list`: the owner's items from the oldest to the newest, a page at a time.

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
        let limits = &service.limits.current();
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

    /// Returns whether the item passes the filter.
    fn matches(&self, opened: &OpenedItem) -> bool {
        let Some(item) = opened.living() else {
            return false;
        };

        self.kind.is_none_or(|kind| kind == item.kind)
            && self.tag.as_ref().is_none_or(|tag| item.tags.contains(tag))
    }

    /// The filter as one byte string. A cursor is valid for one filter only.
    fn filter(&self) -> Vec<u8> {
        let kind = self.kind.map(Kind::as_str).unwrap_or_default();
        let tag = self.tag.as_deref();

        [
            kind.as_bytes(),
            &[0, u8::from(tag.is_some())],
            tag.unwrap_or_default().as_bytes(),
        ]
        .concat()
    }

    /// The place after which this page begins; 0 without a cursor.
    ///
    /// # Errors
    /// `bad_request` if the cursor was not made for this owner and filter.
    fn start_after(&self, keyring: &Keyring, owner: &OwnerKey) -> Result<u64, Refusal> {
        let Some(text) = &self.cursor else {
            return Ok(0);
        };

        let bad_cursor = || {
            Refusal::bad_field(
                "cursor",
                "not a cursor of this list: begin again without one",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad_cursor())?;
        let (place, mac) = bytes.split_first_chunk().ok_or_else(bad_cursor)?;
        let place = u64::from_be_bytes(*place);

        if mac == keyring.cursor_mac(owner, &self.filter(), place) {
            Ok(place)
        } else {
            Err(bad_cursor())
        }
    }

    fn cursor_after(&self, keyring: &Keyring, owner: &OwnerKey, place: u64) -> String {
        let mac = keyring.cursor_mac(owner, &self.filter(), place);
        URL_SAFE_NO_PAD.encode([&place.to_be_bytes()[..], &mac].concat())
    }
}

/// An item's place in the list: the first version of its present life, so the oldest comes first.
fn place(opened: &OpenedItem) -> u64 {
    opened.body.born.get()
}

/// The items that match the list and come after the place `after`, in the order of their places.
fn matching_items<'s>(
    list: &List,
    snapshot: &'s Snapshot,
    after: u64,
) -> Result<Vec<&'s OpenedItem>, Failure> {
    let mut items: Vec<_> = snapshot
        .items()?
        .iter()
        .filter(|opened| place(opened) > after && list.matches(opened))
        .collect();
    items.sort_by_key(|opened| place(opened));

    Ok(items)
}

/// Answers `{items, owner_version, next_cursor?}`.
pub(super) async fn list(service: &Service, call: Call) -> Result<Value, Failure> {
    let list = List::parse(call.fields, service)?;
    let keyring = service.owners.keyring();
    let after = list.start_after(keyring, &call.owner)?;

    let reading = list
        .freshness
        .read(&service.owners, &call.owner, call.deadline)
        .await?;
    let items = matching_items(&list, &reading.snapshot, after)?;
    let listed = page(&items, list.limit, &service.limits.current(), |opened| {
        view(opened)
    });

    let more = listed.len() < items.len();
    let last = listed
        .len()
        .checked_sub(1)
        .map_or(after, |at| place(items[at]));
    let mut reply = json!({"items": listed, "owner_version": reading.snapshot.version().get()});
    if more {
        reply["next_cursor"] = Value::from(list.cursor_after(keyring, &call.owner, last));
    }
    Ok(mark_stale(reply, &reading))
}
