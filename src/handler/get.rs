//! `get`: one item.

use super::body::{Body, ItemsBody, ShownItem, view};
use super::freshness::Freshness;
use super::item_name::ItemName;
use super::request::{Call, require};
use super::{Failure, Service};
use crate::owners::{OpenedItem, Snapshot};
use crate::wire::{Fields, Scope};
use serde_json::{Value, json};

/// `{kind, id, reveal?, min_version?, consistency?}`
struct Get {
    item: ItemName,
    /// Whether to show what other replies hide.
    reveal: bool,
    freshness: Freshness,
}

impl Get {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let item = ItemName::take(&mut fields, &service.limits.current())?;
        let reveal = fields.flag("reveal")?.unwrap_or_default();
        let freshness = Freshness::take(&mut fields, &service.owners)?;
        fields.finish()?;

        Ok(Self {
            item,
            reveal,
            freshness,
        })
    }
}

/// Answers `{item, owner_version}`.
pub(super) async fn get(service: &Service, call: Call) -> Result<Body, Failure> {
    let get = Get::parse(call.fields, service)?;
    if get.reveal {
        require(&call.caller, Scope::Secrets)?;
    }

    let reading = get
        .freshness
        .read(&service.owners, &call.owner, call.deadline)
        .await?;

    let snapshot = &reading.snapshot;
    let item = get.item.require_by(&reading)?;
    let owner_version = snapshot.version().get();
    if get.reveal {
        let mut shown = view(&item).to_value();
        reveal(&mut shown, snapshot, &item)?;
        let reply = json!({"item": shown, "owner_version": owner_version});
        return Ok(Body::from(reply).mark_stale(&reading));
    }

    let reply = ItemsBody {
        item: Some(ShownItem::Whole(item)),
        owner_version,
        ..ItemsBody::default()
    };
    Ok(Body::from(reply).mark_stale(&reading))
}

/// Adds what other replies hide to the item's data.
fn reveal(shown: &mut Value, snapshot: &Snapshot, item: &OpenedItem) -> Result<(), Failure> {
    if let Some(otp) = snapshot.otp(item)? {
        shown["data"]["uri"] = otp.uri().as_str().into();
        shown["data"]["secret"] = otp.secret().as_str().into();
    }
    if let Some(codes) = snapshot.codes(item)? {
        shown["data"]["codes"] = codes.left().collect();
        shown["data"]["taken"] = codes.taken().collect();
    }

    Ok(())
}
