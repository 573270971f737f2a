//! `get`: one item.

use super::condition::not_found;
use super::freshness::{Freshness, mark_stale};
use super::request::{Call, require};
use super::{Failure, Service};
use crate::domain::{ItemId, Kind};
use crate::wire::{Fields, Scope, item_view};
use serde_json::{Value, json};

/// `{kind, id, reveal?, min_version?, consistency?}`
struct Get {
    kind: Kind,
    id: ItemId,
    /// Whether to show fields that a kind hides. No kind of this version hides any.
    reveal: bool,
    freshness: Freshness,
}

impl Get {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let limits = &service.limits.current();
        let kind = Kind::parse(&fields.require_text("kind")?)?;
        let id = fields.require_text("id")?;
        let reveal = fields.flag("reveal")?.unwrap_or_default();
        let freshness = Freshness::take(&mut fields, &service.owners)?;
        fields.finish()?;

        Ok(Self {
            kind,
            id: ItemId::parse(kind, &id, &limits.item)?,
            reveal,
            freshness,
        })
    }
}

/// Answers `{item, owner_version}`.
pub(super) async fn get(service: &Service, call: Call) -> Result<Value, Failure> {
    let get = Get::parse(call.fields, service)?;
    if get.reveal {
        require(&call.caller, Scope::Secrets)?;
    }

    let reading = get
        .freshness
        .read(&service.owners, &call.owner, call.deadline)
        .await?;

    let opened = reading.snapshot.item(get.kind, &get.id)?;
    let item = opened
        .as_ref()
        .and_then(|opened| Some(item_view(opened.living()?, opened.version)));

    match item {
        Some(item) => Ok(mark_stale(
            json!({"item": item, "owner_version": reading.snapshot.version().get()}),
            &reading,
        )),
        None if reading.stale => Err(not_found(&reading.snapshot).with("stale", true).into()),
        None => Err(not_found(&reading.snapshot).into()),
    }
}
