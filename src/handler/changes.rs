//! `changes`: the items that changed since a version, each one once, deletions included.

use super::freshness::{Freshness, mark_stale};
use super::page::{page, page_limit};
use super::request::Call;
use super::write::view;
use super::{Failure, Service};
use crate::domain::Version;
use crate::owners::{OpenedItem, Reading};
use crate::seal::OwnerKey;
use crate::wire::{Code, Fields, Refusal};
use serde_json::{Value, json};
use tokio::time::Instant;

/// `{since, floor?, limit?}`
struct Changes {
    since: Version,
    /// The owner's floor when the caller's walk began; [`Version::NONE`] if the caller names none.
    floor: Version,
    limit: usize,
}

impl Changes {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let since = fields.version("since")?;
        let since = fields.require("since", since)?;
        let floor = fields.version("floor")?.unwrap_or_default();
        let limit = page_limit(&mut fields, &service.limits.current())?;
        fields.finish()?;

        Ok(Self {
            since,
            floor,
            limit,
        })
    }

    /// Reads the owner at version `since` or later, from a copy that is not older than `floor`.
    ///
    /// An older copy may hold items whose deletion is forgotten. A caller who gets one in the
    /// middle of a walk would keep it for ever.
    async fn read(
        &self,
        service: &Service,
        owner: &OwnerKey,
        deadline: Instant,
    ) -> Result<Reading, Failure> {
        let freshness = Freshness::at_least(self.since, "since", &service.owners);
        let reading = freshness.read(&service.owners, owner, deadline).await?;
        if self.floor <= reading.snapshot.floor() {
            return Ok(reading);
        }

        // Only a confirmed read can tell whether the owner ever had that floor.
        let reading = freshness
            .confirmed()
            .read(&service.owners, owner, deadline)
            .await?;
        let found = reading.snapshot.floor();
        if self.floor <= found {
            return Ok(reading);
        }

        let refusal = Refusal::bad_field(
            "floor",
            format!("the owner's floor is {found}, which is lower"),
        );
        Err(refusal
            .with("owner_version", reading.snapshot.version().get())
            .into())
    }

    /// Returns whether the caller may hold deleted items that this reply cannot report, because
    /// deletions up to the floor are forgotten.
    ///
    /// A caller whose walk began with `since: 0` under the current floor never held any of them. A
    /// floor never goes down, so this stays true, whatever floor the bucket has by now.
    fn is_too_old(&self, floor: Version) -> bool {
        !self.since.is_none() && self.since < floor && self.floor != floor
    }
}

/// Answers `{items, owner_version, floor, more, notify}`.
pub(super) async fn changes(service: &Service, call: Call) -> Result<Value, Failure> {
    let request = Changes::parse(call.fields, service)?;

    let reading = request.read(service, &call.owner, call.deadline).await?;
    let snapshot = &reading.snapshot;
    if request.is_too_old(snapshot.floor()) {
        return Err(resync(snapshot.floor(), snapshot.version()).into());
    }

    let Changes { since, limit, .. } = request;
    let mut items: Vec<&OpenedItem> = snapshot
        .items()?
        .iter()
        .filter(|item| item.version > since)
        .collect();
    items.sort_by_key(|item| item.version);
    let changed = page(&items, limit, &service.limits.current(), |item| view(item));
    let more = changed.len() < items.len();

    let reply = json!({
        "items": changed,
        "owner_version": snapshot.version().get(),
        "floor": snapshot.floor().get(),
        "more": more,
        "notify": service.owners.truth().notify_subject(&call.owner),
    });
    Ok(mark_stale(reply, &reading))
}

fn resync(floor: Version, owner_version: Version) -> Refusal {
    let message =
        "deletions since then are forgotten: start with since 0, and drop what is not returned";

    Refusal::new(Code::ResyncRequired, message)
        .with("floor", floor.get())
        .with("owner_version", owner_version.get())
}
