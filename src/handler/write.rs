//! What all writes share: from the outcome to the reply.

use super::failure::{away, bucket_full};
use super::request::out_of_time;
use super::{Failure, Limits};
use crate::domain::Version;
use crate::owners::{Opened, Outcome, Written};
use crate::seal::Content;
use crate::shard::Passed;
use crate::wire::{Code, Refusal, deleted_view, item_view};
use serde_json::{Value, json};

/// Room for what stands around an item in a reply, a refusal's words included.
pub(super) const FRAME_BYTES: usize = 1_024;

/// The reply to a write of one item, or the refusal that it came to.
pub(super) fn reply(outcome: Outcome<Refusal>) -> Result<Value, Failure> {
    unless_written(
        outcome,
        |refusal| Err(refusal.into()),
        |written| {
            let item = written
                .items
                .first()
                .ok_or_else(|| Failure::unreachable("a write of no item"))?;
            Ok(pending(
                json!({"item": view(item), "owner_version": written.owner_version().get()}),
                written.local,
            ))
        },
    )
}

/// What a write came to, as it is told: by `refused` where it was refused for what the data holds, by `told` where it is
/// written.
pub(super) fn unless_written<R>(
    outcome: Outcome<R>,
    refused: impl FnOnce(R) -> Result<Value, Failure>,
    told: impl FnOnce(Written) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    Err(Failure::Refused(match outcome {
        Outcome::Written(written) => return told(*written),
        Outcome::Refused(refusal) => return refused(refusal),
        Outcome::RequestIdReused => {
            Refusal::new(Code::RequestIdReused, "this Nats-Msg-Id stands for another request: use a new one")
        }
        Outcome::Forgotten(owner_version) => Refusal::new(
            Code::ResyncRequired,
            "it was done before, and not all that it wrote is still kept as it was: look at the items",
        )
        .with("owner_version", owner_version.get()),
        Outcome::TooManyRaces => away(Code::Overloaded, "others write this owner's items all the time: ask again"),
        Outcome::Full => bucket_full(),
        Outcome::OutOfTime => out_of_time(),
        Outcome::InDoubt => Refusal::new(
            Code::InDoubt,
            "it may be written, or may yet be: ask again with the same Nats-Msg-Id, or look",
        ),
    }))
}

/// Says of a reply that the rows are not yet in this shard's Postgres, where it is so.
pub(super) fn pending(mut reply: Value, local: Passed) -> Value {
    if local == Passed::NotYet {
        reply["local"] = Value::from("pending");
    }
    reply
}

/// An item as a reply shows it, living or deleted.
pub(super) fn view(opened: &Opened) -> Value {
    match &opened.body.content {
        Content::Living(item) => item_view(item, opened.version),
        Content::Deleted {
            kind,
            id,
            updated_at,
        } => deleted_view(*kind, id, opened.version, *updated_at),
    }
}

/// Refuses a write whose reply could not fit.
pub(super) fn must_fit(content: &Content, limits: &Limits) -> Result<(), Refusal> {
    let used = longest(content) + FRAME_BYTES;
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

/// The bytes that an item takes in a reply at most: in JSON, the longer encoding, and with the longest version.
pub(super) fn longest(content: &Content) -> usize {
    let view = match content {
        Content::Living(item) => item_view(item, Version::MAX),
        Content::Deleted {
            kind,
            id,
            updated_at,
        } => deleted_view(*kind, id, Version::MAX, *updated_at),
    };
    view.to_string().len()
}
