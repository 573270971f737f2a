//! `move`: puts an item to another place in the owner's list.

use super::body::Body;
use super::condition::Conditions;
use super::item_name::ItemName;
use super::list::{Listed, items_in_order};
use super::put::format_refusal;
use super::quota::Quota;
use super::request::Call;
use super::write::{self, WriteState};
use super::{Failure, Limits, Service};
use crate::domain::{Item, Place, Timestamp};
use crate::owners::{Draft, Snapshot};
use crate::seal::{Content, Format, NewContent, NewHidden};
use crate::wire::{Code, Fields, Refusal};
use std::collections::BTreeMap;

/// `{kind, id, after?: {kind, id}, if_version?}`
struct Move {
    item: ItemName,
    /// The item that it comes right after; `None` puts it first.
    after: Option<ItemName>,
    conditions: Conditions,
}

impl Move {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let item = ItemName::take(&mut fields, limits)?;
        let after = match fields.map("after")? {
            None => None,
            Some(mut after) => {
                let name = ItemName::take(&mut after, limits).map_err(below_after)?;
                after.finish()?;
                Some(name)
            }
        };
        let conditions = Conditions::item_only(&mut fields)?;
        fields.finish()?;

        if after.as_ref() == Some(&item) {
            let message = "after: an item does not come after itself";
            return Err(Refusal::new(Code::InvalidItem, message)
                .field("after")
                .into());
        }
        Ok(Self {
            item,
            after,
            conditions,
        })
    }

    /// Decides on the owner's state: the item at its new place, and nearly always nothing else.
    fn decide(&self, state: &WriteState<'_>) -> Result<Draft, Failure> {
        let snapshot = state.snapshot;
        let item = self.item.require(snapshot)?;
        self.conditions.check(snapshot, Some(&item))?;
        if state.format == Format::One {
            return Err(format_refusal("kind").into());
        }

        let mut others = items_in_order(snapshot)?;
        others.retain(|(other, _)| other.key != item.key);
        let position = match &self.after {
            None => 0,
            Some(after) => {
                let after_item = after.require(snapshot).map_err(below_after)?;
                let found = others
                    .iter()
                    .position(|(other, _)| other.key == after_item.key);
                found.ok_or_else(|| after.not_found(snapshot))? + 1
            }
        };

        let (own, changed) = places(&others, position, snapshot)
            .ok_or_else(|| Failure::internal("no room for an item between two others"))?;
        let moved = item.living().map(|item| at_place(item, own));
        let changed = changed
            .into_iter()
            .map(|(item, place)| at_place(item, place));
        let contents: Vec<_> = moved.into_iter().chain(changed).collect();
        Quota::of(snapshot).resize(state, &contents)?;
        Ok(Draft {
            contents,
            refused: BTreeMap::new(),
        })
    }
}

/// Names the field of a refusal of `after`.
fn below_after(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(refusal) if refusal.code() == Code::NotFound => {
            refusal.field("after").into()
        }
        Failure::Refused(refusal) => refusal.below("after").into(),
        failure => failure,
    }
}

/// The item at another place, otherwise unchanged.
fn at_place(item: &Item, place: Place) -> NewContent {
    NewContent {
        content: Content::Living(Item {
            place,
            updated_at: Timestamp::now(),
            ..item.clone()
        }),
        hidden: NewHidden::Kept,
    }
}

/// Returns a place before the item at `position`, and new places of those around it if there was no
/// room.
///
/// The places of items that are created later come after all of these.
fn places<'s>(
    items: &[Listed<'s>],
    position: usize,
    snapshot: &Snapshot,
) -> Option<(Place, Vec<(&'s Item, Place)>)> {
    let end = Place::of_creation(snapshot.version().get(), 0);
    let place = |at: usize| items.get(at).map(|(_, item)| &item.place);

    // More and more items around the place get new ones, until they are short.
    let mut around = 0;
    loop {
        let from = position.saturating_sub(around);
        let to = items.len().min(position + around);
        let lower = from.checked_sub(1).and_then(place);
        let upper = place(to).or(Some(&end));
        let count = to - from + 1;

        let spread = Place::spread(count, lower, upper).filter(|places| {
            let fits = |place: &Place| place.as_str().len() <= Place::BYTES_MAX / 2;
            around == 0 || places.iter().all(fits)
        });
        if let Some(mut places) = spread {
            let own = places.remove(position - from);
            let changed = items[from..to].iter().map(|(_, item)| *item).zip(places);
            return Some((own, changed.collect()));
        }
        if from == 0 && to == items.len() {
            return None;
        }
        around = (around * 2).max(4);
    }
}

/// Answers `{item, owner_version}`.
pub(super) async fn move_item(service: &Service, call: Call) -> Result<Body, Failure> {
    let request = Move::parse(call.fields, &service.limits.current())?;

    let intent = request.item.intent(call.request);
    let decide =
        |snapshot: &Snapshot| write::decide(service, snapshot, |state| request.decide(state));
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    write::reply(outcome)
}
