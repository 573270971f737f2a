//! `usage`: how much of the owner's quotas is used.

use super::body::Body;
use super::freshness::Freshness;
use super::request::Call;
use super::{Failure, Service};
use serde_json::json;

/// Answers `{items: {used, limit}, keys: {used, limit}, bytes: {used, limit}, owner_version}`. The
/// bytes are those of the sealed records of the owner's items, deletions included, without what
/// batches keep in them.
pub(super) async fn usage(service: &Service, mut call: Call) -> Result<Body, Failure> {
    let freshness = Freshness::take(&mut call.fields, &service.owners)?;
    call.fields.finish()?;

    let reading = freshness
        .read_all(&service.owners, &call.owner, call.deadline)
        .await?;
    let snapshot = &reading.snapshot;
    let (items, keys) = snapshot.counts();
    let bytes = snapshot
        .item_bytes()
        .saturating_sub(snapshot.batch_bytes()?);
    let limits = service.limits.current();

    let reply = json!({
        "items": {"used": items, "limit": limits.items},
        "keys": {"used": keys, "limit": limits.keys},
        "bytes": {"used": bytes, "limit": limits.owner_bytes},
        "owner_version": snapshot.version().get(),
    });
    Ok(Body::from(reply).mark_stale(&reading))
}
