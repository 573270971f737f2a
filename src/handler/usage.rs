//! `usage`: how much of the owner's quotas is used.

use super::freshness::{Freshness, mark_stale};
use super::request::Call;
use super::{Failure, Service};
use serde_json::{Value, json};

/// Answers `{items: {used, limit}, keys: {used, limit}, bytes: {used}, owner_version}`. The bytes
/// are those of the sealed records of the owner's items, deletions included.
pub(super) async fn usage(service: &Service, mut call: Call) -> Result<Value, Failure> {
    let freshness = Freshness::take(&mut call.fields, &service.owners)?;
    call.fields.finish()?;

    let reading = freshness
        .read(&service.owners, &call.owner, call.deadline)
        .await?;
    let snapshot = &reading.snapshot;
    let (items, keys) = snapshot.counts();
    let limits = service.limits.current();

    let reply = json!({
        "items": {"used": items, "limit": limits.items},
        "keys": {"used": keys, "limit": limits.keys},
        "bytes": {"used": snapshot.item_bytes()},
        "owner_version": snapshot.version().get(),
    });
    Ok(mark_stale(reply, &reading))
}
