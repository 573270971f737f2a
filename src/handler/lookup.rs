//! `lookup`: which of several items there are.

use super::body::{Body, view};
use super::freshness::Freshness;
use super::item_name::ItemName;
use super::request::Call;
use super::write::FRAME_BYTES;
use super::{Failure, Limits, Service};
use crate::wire::{Fields, Refusal, json_bytes};
use serde_json::{Value, json};

/// `{items: [{kind, id}, …], min_version?, consistency?}`
struct Lookup {
    names: Vec<ItemName>,
    freshness: Freshness,
}

impl Lookup {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let limits = &service.limits.current();
        let items = fields.map_list("items")?;
        let items = fields.require("items", items)?;
        let freshness = Freshness::take(&mut fields, &service.owners)?;
        fields.finish()?;

        if !(1..=limits.batch).contains(&items.len()) {
            let message = format!("must be 1 to {} items, is {}", limits.batch, items.len());
            let refusal = Refusal::bad_field("items", &message).with("limit", limits.batch);
            return Err(refusal.into());
        }
        let names = items
            .into_iter()
            .enumerate()
            .map(|(at, fields)| name(at, fields, limits));
        Ok(Self {
            names: names.collect::<Result<_, _>>()?,
            freshness,
        })
    }
}

/// The item that the entry at that position names.
fn name(at: usize, mut fields: Fields, limits: &Limits) -> Result<ItemName, Failure> {
    match ItemName::take(&mut fields, limits) {
        Ok(name) => {
            fields.finish()?;
            Ok(name)
        }
        Err(Failure::Refused(refusal)) => Err(refusal.below(&format!("items[{at}]")).into()),
        Err(failure) => Err(failure),
    }
}

/// Answers `{items, owner_version}`: each item, or null, in the order of the request.
pub(super) async fn lookup(service: &Service, call: Call) -> Result<Body, Failure> {
    let lookup = Lookup::parse(call.fields, service)?;

    let reading = lookup
        .freshness
        .read(&service.owners, &call.owner, call.deadline)
        .await?;
    let snapshot = &reading.snapshot;
    let limit = service.limits.current().reply_bytes;

    let mut items = Vec::with_capacity(lookup.names.len());
    let mut used = FRAME_BYTES;
    for name in &lookup.names {
        let item = name
            .living(snapshot)?
            .map_or(Value::Null, |item| view(&item).to_value());
        used += json_bytes(&item) + 1;
        if used > limit {
            return Err(Refusal::too_large("items", used, limit).into());
        }
        items.push(item);
    }

    let reply = json!({"items": items, "owner_version": snapshot.version().get()});
    Ok(Body::from(reply).mark_stale(&reading))
}
