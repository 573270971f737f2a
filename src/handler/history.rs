//! `history`: the earlier versions of an item, as far back as they are kept.

use super::body::{Body, view};
use super::failure::within;
use super::freshness::Freshness;
use super::item_name::ItemName;
use super::page::{page, page_limit};
use super::request::Call;
use super::{Failure, Limits, Service};
use crate::domain::Version;
use crate::wire::Fields;
use serde_json::json;

/// `{kind, id, before?, limit?}`
struct History {
    item: ItemName,
    /// Only versions below this one.
    before: Version,
    limit: usize,
}

impl History {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let item = ItemName::take(&mut fields, limits)?;
        let before = fields.version("before")?.unwrap_or(Version::MAX);
        let limit = page_limit(&mut fields, limits)?;
        fields.finish()?;

        Ok(Self {
            item,
            before,
            limit,
        })
    }
}

/// Answers `{versions, owner_version, more, complete}`.
pub(super) async fn history(service: &Service, call: Call) -> Result<Body, Failure> {
    let History {
        item,
        before,
        limit,
    } = History::parse(call.fields, &service.limits.current())?;

    let freshness = Freshness::default_of(&service.owners);
    let reading = freshness
        .read(&service.owners, &call.owner, call.deadline)
        .await?;
    let snapshot = &reading.snapshot;

    let kept = service
        .owners
        .kept_versions(snapshot, &item.kind, &item.id, before, limit);
    let Some(kept) = within(call.deadline, kept).await?? else {
        return Err(item.not_found_by(&reading).into());
    };

    let versions = page(&kept.versions, limit, &service.limits.current(), view);
    let reply = json!({
        "more": kept.more || versions.len() < kept.versions.len(),
        "versions": versions,
        "owner_version": snapshot.version().get(),
        "complete": kept.complete,
    });
    Ok(Body::from(reply).mark_stale(&reading))
}
