//! `changes`: what is new since a version, each item once, deletions included.

use super::get::{Freshness, mark_stale};
use super::page::{page, page_limit};
use super::request::Call;
use super::write::view;
use super::{Failure, Service};
use crate::domain::Version;
use crate::owners::Opened;
use crate::wire::{Code, Fields, Refusal};
use serde_json::{Value, json};

/// `{since, limit?}`
struct Changes {
    since: Version,
    limit: usize,
}

impl Changes {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let since = fields.version("since")?;
        let since = fields.require("since", since)?;
        let limit = page_limit(&mut fields, &service.limits)?;
        fields.finish()?;
        Ok(Self { since, limit })
    }
}

/// Answers `{items, owner_version, more, notify}`.
pub(super) async fn changes(service: &Service, call: Call) -> Result<Value, Failure> {
    let Changes { since, limit } = Changes::parse(call.fields, service)?;
    let freshness = Freshness::at_least(since, "since", &service.owners);
    let reading = freshness.read(&service.owners, &call.owner, call.deadline).await?;
    let snapshot = &reading.snapshot;
    // A floor never goes down, so this holds on whatever the truth has by now.
    if !since.is_none() && since < snapshot.floor() {
        return Err(resync(snapshot.floor(), snapshot.version()).into());
    }
    let mut items: Vec<&Opened> = snapshot.items()?.iter().filter(|item| item.version > since).collect();
    items.sort_by_key(|item| item.version);
    let changed = page(&items, limit, &service.limits, |item| view(item));
    let more = changed.len() < items.len();
    let reply = json!({
        "items": changed,
        "owner_version": snapshot.version().get(),
        "more": more,
        "notify": service.owners.truth().notify_subject(&call.owner),
    });
    Ok(mark_stale(reply, &reading))
}

fn resync(floor: Version, owner_version: Version) -> Refusal {
    let message = "deletions since then are no longer known: begin again with since 0, and drop what is not there";
    Refusal::new(Code::ResyncRequired, message).with("floor", floor.get()).with("owner_version", owner_version.get())
}
