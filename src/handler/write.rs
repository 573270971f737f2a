//! What all writes share: the size check, and the way from an outcome to a reply.

use super::body::{Body, ItemsBody, ShownItem, view_of};
use super::{Failure, Limits, Service};
use crate::domain::Version;
use crate::owners::{Decision, Draft, OpenedItem, Outcome, Owners, Snapshot, WriteReceipt};
use crate::seal::{Content, Format};
use crate::wire::{Code, Refusal, json_bytes};
use std::sync::Arc;

/// The bytes reserved for the rest of a reply, around an item or a refusal.
pub(super) const FRAME_BYTES: usize = 1_024;

/// The state on which a write is decided.
pub(super) struct WriteState<'s> {
    pub snapshot: &'s Snapshot,
    pub limits: &'s Limits,
    /// The format in which the write will be stored.
    pub format: Format,
    /// The position of the operation in its batch.
    pub position: usize,
    pub owners: &'s Owners,
}

impl<'s> WriteState<'s> {
    /// The state of a write of one operation.
    pub fn new(service: &'s Service, snapshot: &'s Snapshot, limits: &'s Limits) -> Self {
        Self {
            snapshot,
            limits,
            format: service.owners.format_for(snapshot),
            position: 0,
            owners: &service.owners,
        }
    }

    /// Returns the function that hashes a secret of this owner for a deletion's record. An owner
    /// without keys has no deletion.
    pub fn secret_hash(&self) -> impl Fn(&str) -> [u8; 16] {
        let keys = self.snapshot.keys();
        move |secret| keys.map_or([0; 16], |keys| keys.secret_hash(secret))
    }
}

/// Decides a write of one operation on this state of the owner.
pub(super) fn decide(
    service: &Service,
    snapshot: &Snapshot,
    draft: impl FnOnce(&WriteState<'_>) -> Result<Draft, Failure>,
) -> Result<Decision<Refusal>, Failure> {
    let limits = service.limits.current();
    let state = WriteState::new(service, snapshot, &limits);

    decision(draft(&state))
}

/// What a handler decides. A refusal is a decision on the owner's state; any other failure ends the
/// request.
pub(super) fn decision(draft: Result<Draft, Failure>) -> Result<Decision<Refusal>, Failure> {
    match draft {
        Ok(draft) => Ok(Decision::Write(draft)),
        Err(Failure::Refused(refusal)) => Ok(Decision::Refuse(refusal)),
        Err(failure) => Err(failure),
    }
}

/// The reply to a write of one item.
pub(super) fn reply(outcome: Outcome<Refusal>) -> Result<Body, Failure> {
    let receipt = written(outcome)?;
    let item = only_item(&receipt)?.clone();
    let reply = ItemsBody {
        item: Some(ShownItem::Whole(item)),
        owner_version: receipt.owner_version().get(),
        ..ItemsBody::default()
    };
    Ok(Body::from(reply).mark_pending(receipt.local))
}

/// The receipt of a write, unless it was refused or failed.
pub(super) fn written(outcome: Outcome<Refusal>) -> Result<Box<WriteReceipt>, Failure> {
    match outcome {
        Outcome::Written(receipt) => Ok(receipt),
        Outcome::Refused(refusal) => Err(refusal.into()),
        Outcome::Failed(failure) => Err(failure.into()),
    }
}

/// The item of a write of one item.
pub(super) fn only_item(receipt: &WriteReceipt) -> Result<&Arc<OpenedItem>, Failure> {
    receipt
        .items
        .first()
        .ok_or_else(|| Failure::internal("a write of no item"))
}

/// Checks that a reply with this item fits the limit.
///
/// # Errors
/// `too_large` if it does not.
pub(super) fn must_fit(content: &Content, limits: &Limits) -> Result<(), Refusal> {
    let used = view_bytes_max(content) + FRAME_BYTES;
    if used <= limits.reply_bytes {
        return Ok(());
    }

    let message = format!(
        "a reply with this item would take {used} bytes, and {} fit",
        limits.reply_bytes
    );
    Err(Refusal::new(Code::TooLarge, message)
        .with("used", used)
        .with("limit", limits.reply_bytes))
}

/// The most bytes that an item takes in a reply: in JSON, the longer encoding, and with the longest
/// version.
pub(super) fn view_bytes_max(content: &Content) -> usize {
    json_bytes(&view_of(content, Version::MAX))
}
