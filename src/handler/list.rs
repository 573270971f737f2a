//! `list`: the owner's items in the order of their places, a page at a time.

use super::body::{Body, ItemsBody, ShownItem};
use super::cursor::{cursor_after, start_after};
use super::freshness::Freshness;
use super::page::{must_afford, page, page_limit};
use super::request::Call;
use super::{Failure, Service};
use crate::domain::{Item, KindName};
use crate::owners::{OpenedItem, Snapshot};
use crate::wire::{Fields, Refusal};
use std::sync::Arc;

/// `{kind?, tag?, untagged?, only?, limit?, cursor?, min_version?, consistency?}`
struct List {
    kind: Option<KindName>,
    labels: LabelFilter,
    /// Whether only the ids are wanted.
    only_ids: bool,
    limit: usize,
    cursor: Option<String>,
    freshness: Freshness,
}

/// Which items of a list are wanted, by their tags.
enum LabelFilter {
    Any,
    Tagged(String),
    Untagged,
}

impl LabelFilter {
    fn take(fields: &mut Fields) -> Result<Self, Refusal> {
        let tag = fields.text("tag")?;
        let untagged = fields.flag("untagged")?.unwrap_or_default();

        match (tag, untagged) {
            (None, false) => Ok(Self::Any),
            (Some(tag), false) => Ok(Self::Tagged(tag)),
            (None, true) => Ok(Self::Untagged),
            (Some(_), true) => Err(Refusal::bad_field("untagged", "leave it out, or tag")),
        }
    }

    fn matches(&self, item: &Item) -> bool {
        match self {
            Self::Any => true,
            Self::Tagged(tag) => item.tags.contains(tag),
            Self::Untagged => item.tags.is_empty(),
        }
    }

    /// The filter as a byte string.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Any => vec![0],
            Self::Tagged(tag) => [&[1], tag.as_bytes()].concat(),
            Self::Untagged => vec![2],
        }
    }
}

impl List {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let limits = &service.limits.current();
        let kind = fields
            .text("kind")?
            .map(|kind| KindName::parse(&kind))
            .transpose()?;
        let labels = LabelFilter::take(&mut fields)?;
        let only_ids = match fields.text("only")?.as_deref() {
            None => false,
            Some("ids") => true,
            Some(_) => return Err(Refusal::bad_field("only", "must be ids").into()),
        };
        let limit = page_limit(&mut fields, limits)?;
        let cursor = fields.text("cursor")?;
        let freshness = Freshness::take(&mut fields, &service.owners)?;
        fields.finish()?;

        Ok(Self {
            kind,
            labels,
            only_ids,
            limit,
            cursor,
            freshness,
        })
    }

    /// The filter as one byte string. A cursor is valid for one filter only.
    fn filter(&self) -> Vec<u8> {
        let kind = self.kind.as_ref().map(KindName::as_str);

        [
            kind.unwrap_or_default().as_bytes(),
            &[0],
            &self.labels.bytes(),
        ]
        .concat()
    }

    /// The items that match, in the order of their places.
    ///
    /// # Errors
    /// `invalid_item` for a kind that this version does not know and that the owner has no item of.
    fn matching_items<'s>(&self, snapshot: &'s Snapshot) -> Result<Vec<Listed<'s>>, Failure> {
        let mut items = items_in_order(snapshot)?;

        if let Some(kind) = &self.kind {
            items.retain(|(_, item)| item.kind == *kind);
            if items.is_empty() && kind.known().is_none() {
                return Err(KindName::unknown().into());
            }
        }
        items.retain(|(_, item)| self.labels.matches(item));
        Ok(items)
    }

    fn show(&self, (opened, _): &Listed<'_>) -> ShownItem {
        let opened = Arc::clone(opened);
        if self.only_ids {
            ShownItem::Ids(opened)
        } else {
            ShownItem::Whole(opened)
        }
    }
}

/// A living item of a snapshot, with its record.
pub(super) type Listed<'s> = (&'s Arc<OpenedItem>, &'s Item);

/// The living items in the order of their places.
pub(super) fn items_in_order(snapshot: &Snapshot) -> Result<Vec<Listed<'_>>, Failure> {
    let mut items: Vec<_> = snapshot
        .items()?
        .filter_map(|opened| Some((opened, opened.living()?)))
        .collect();
    items.sort_by(|(_, one), (_, other)| one.place.cmp(&other.place));

    Ok(items)
}

/// Answers `{items, owner_version, next_cursor?}`.
pub(super) async fn list(service: &Service, call: Call) -> Result<Body, Failure> {
    let list = List::parse(call.fields, service)?;
    let keyring = service.owners.keyring();
    let filter = list.filter();
    let after = list
        .cursor
        .as_ref()
        .map(|cursor| start_after(keyring, &call.owner, &filter, cursor))
        .transpose()?;

    let reading = list
        .freshness
        .read_all(&service.owners, &call.owner, call.deadline)
        .await?;
    must_afford(&call.account, &reading.snapshot, service)?;
    let mut items = list.matching_items(&reading.snapshot)?;
    items.retain(|(_, item)| after.as_ref().is_none_or(|after| item.place > *after));
    let listed = page(&items, list.limit, &service.limits.current(), |item| {
        list.show(item)
    });

    let more = listed.len() < items.len();
    let last = listed.len().checked_sub(1).map(|at| &items[at].1.place);
    let next_cursor = last
        .filter(|_| more)
        .map(|last| cursor_after(keyring, &call.owner, &filter, last));
    let reply = ItemsBody {
        items: Some(listed),
        owner_version: reading.snapshot.version().get(),
        next_cursor,
        ..ItemsBody::default()
    };
    Ok(Body::from(reply).mark_stale(&reading))
}
