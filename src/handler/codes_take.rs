//! `codes.take`: the next code of a list, which is given out once.

use super::body::Body;
use super::item_name::ItemName;
use super::request::Call;
use super::secret_data::{codes_parts, with_data};
use super::write;
use super::{Failure, Service};
use crate::domain::{Codes, Kind};
use crate::owners::{Draft, OpenedItem, Snapshot};
use crate::wire::{Code, Refusal};
use serde_json::json;

/// Opens the codes of a living list.
pub(super) fn list(snapshot: &Snapshot, item: &OpenedItem) -> Result<Codes, Failure> {
    snapshot
        .codes(item)?
        .ok_or_else(|| Failure::internal("a list of codes without codes"))
}

/// Decides on the owner's state: the list without its first code that is left.
fn decide(name: &ItemName, snapshot: &Snapshot) -> Result<Draft, Failure> {
    let item = name.require(snapshot)?;

    let shorter = list(snapshot, &item)?.take().ok_or_else(|| {
        Refusal::new(Code::NotFound, "every code of the list was taken: add some")
            .with("owner_version", snapshot.version().get())
            .with("remaining", 0)
    })?;
    with_data(&item, codes_parts(shorter)).map(Draft::one)
}

/// Takes `{id}`. Answers `{code, remaining, version, owner_version}`.
pub(super) async fn codes_take(service: &Service, mut call: Call) -> Result<Body, Failure> {
    let limits = service.limits.current();
    let name = ItemName::take_id(Kind::Codes, &mut call.fields, &limits)?;
    call.fields.finish()?;

    let intent = name.intent(call.request).urgent();
    let decide = |snapshot: &Snapshot| write::decision(decide(&name, snapshot));
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    let receipt = write::written(outcome)?;
    let item = write::only_item(&receipt)?;
    let codes = list(&*service.owners.held(&call.owner).await?, item)?;
    let code = codes
        .just_taken()
        .ok_or_else(|| Failure::internal("a write that took no code"))?;
    let reply = json!({
        "code": code,
        "remaining": codes.facts().remaining,
        "version": item.version.get(),
        "owner_version": receipt.owner_version().get(),
    });
    Ok(Body::from(reply).mark_pending(receipt.local))
}
