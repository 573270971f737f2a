//! `tags`: the owner's tags, with how many items have each.

use super::body::Body;
use super::freshness::Freshness;
use super::item_name::ItemName;
use super::request::Call;
use super::{Failure, Service};
use crate::owners::Snapshot;
use crate::wire::{Code, Fields, Refusal};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `{kind?, id?, min_version?, consistency?}`
struct TagList {
    /// An item: each entry shows whether it has the tag.
    item: Option<ItemName>,
    freshness: Freshness,
}

impl TagList {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let names_item = fields.has("kind") || fields.has("id");
        let item = if names_item {
            Some(ItemName::take(&mut fields, &service.limits.current())?)
        } else {
            None
        };
        let freshness = Freshness::take(&mut fields, &service.owners)?;
        fields.finish()?;

        Ok(Self { item, freshness })
    }
}

/// Answers `{tags: [{tag, items, contains?}], owner_version}`.
pub(super) async fn tags(service: &Service, call: Call) -> Result<Body, Failure> {
    let request = TagList::parse(call.fields, service)?;

    let reading = request
        .freshness
        .read_all(&service.owners, &call.owner, call.deadline)
        .await?;
    let snapshot = &reading.snapshot;
    let chosen = match &request.item {
        Some(name) => Some(name.require_by(&reading)?),
        None => None,
    };

    let chosen = chosen.as_ref().and_then(|item| item.living());
    let tags: Vec<Value> = counts(snapshot)?
        .into_iter()
        .map(|(tag, items)| {
            let mut entry = json!({"tag": tag, "items": items});
            if let Some(item) = chosen {
                entry["contains"] = item.tags.contains(tag).into();
            }
            entry
        })
        .collect();

    let reply = json!({"tags": tags, "owner_version": snapshot.version().get()});
    let used = reply.to_string().len();
    let limit = service.limits.current().reply_bytes;
    if used > limit {
        let message = format!("the tags would take {used} bytes, and {limit} fit");
        let refusal = Refusal::new(Code::TooLarge, message);
        return Err(refusal.with("used", used).with("limit", limit).into());
    }
    Ok(Body::from(reply).mark_stale(&reading))
}

/// The tags in the order of their bytes, each with how many living items have it.
fn counts(snapshot: &Snapshot) -> Result<BTreeMap<&str, usize>, Failure> {
    let mut counts = BTreeMap::new();
    for item in snapshot.items()?.filter_map(|item| item.living()) {
        for tag in item.tags.iter() {
            *counts.entry(tag).or_default() += 1;
        }
    }

    Ok(counts)
}
