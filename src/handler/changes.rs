//! `changes`: the items that changed since a version, each one once, deletions included.

use super::body::{Body, ItemsBody, ShownItem};
use super::epoch::resync;
use super::failure::within;
use super::freshness::Freshness;
use super::page::{must_afford, page, page_limit};
use super::request::Call;
use super::{Failure, Service};
use crate::domain::Version;
use crate::owners::{OpenedItem, Reading};
use crate::seal::OwnerKey;
use crate::wire::{Code, Fields, Refusal};
use serde_json::Value;
use std::sync::Arc;
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
        let reading = match freshness.read(&service.owners, owner, deadline).await {
            Err(Failure::Refused(refusal)) if service.owners.has_lost_history() => {
                return Err(self
                    .since_of_lost_history(service, owner, deadline, refusal)
                    .await?);
            }
            reading => reading?,
        };
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

    /// Returns the refusal of a `since` that the owner never had. In a bucket that has lost history,
    /// the owner may have had it before.
    async fn since_of_lost_history(
        &self,
        service: &Service,
        owner: &OwnerKey,
        deadline: Instant,
        refusal: Refusal,
    ) -> Result<Failure, Failure> {
        let is_of_since = refusal.code() == Code::BadRequest
            && refusal.details().get("field") == Some(&Value::from("since"));
        if !is_of_since {
            return Ok(refusal.into());
        }

        let reading = Freshness::default_of(&service.owners)
            .read(&service.owners, owner, deadline)
            .await?;
        let message = "the bucket has lost history since: start with since 0, and drop what is not \
                       returned";
        Ok(resync(message, service.owners.epoch(), &reading.snapshot).into())
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

/// Answers `{items, owner_version, floor, more, notify, epoch}`.
pub(super) async fn changes(service: &Service, call: Call) -> Result<Body, Failure> {
    let request = Changes::parse(call.fields, service)?;

    let reading = request.read(service, &call.owner, call.deadline).await?;
    let snapshot = &reading.snapshot;
    let epoch = service.owners.epoch_of(reading.stale);
    if request.is_too_old(snapshot.floor()) {
        let message =
            "deletions since then are forgotten: start with since 0, and drop what is not returned";
        return Err(resync(message, epoch, snapshot).into());
    }

    let Changes { since, limit, .. } = request;
    within(call.deadline, service.owners.open(snapshot)).await?;
    must_afford(&call.account, snapshot, service)?;
    let mut items: Vec<&Arc<OpenedItem>> = snapshot
        .items()?
        .filter(|item| item.version > since)
        .collect();
    items.sort_by_key(|item| item.version);
    let show = |item: &&Arc<OpenedItem>| ShownItem::Whole(Arc::clone(item));
    let changed = page(&items, limit, &service.limits.current(), show);
    let more = changed.len() < items.len();

    let reply = ItemsBody {
        items: Some(changed),
        owner_version: snapshot.version().get(),
        floor: Some(snapshot.floor().get()),
        epoch,
        more: Some(more),
        notify: Some(service.owners.truth().notify_subject(&call.owner)),
        ..ItemsBody::default()
    };
    Ok(Body::from(reply).mark_stale(&reading))
}
