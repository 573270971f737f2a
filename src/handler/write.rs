//! What all writes share: from the outcome to the reply.

use super::failure::away;
use super::request::out_of_time;
use super::{Failure, Limits};
use crate::domain::Version;
use crate::owners::{Opened, Outcome, Written};
use crate::seal::Content;
use crate::shard::Passed;
use crate::wire::{Code, Refusal, deleted_view, item_view};
use serde_json::{Value, json};

/// Room for what stands around an item in a reply, a refusal's words included.
const FRAME_BYTES: usize = 1_024;

/// The reply to a write, or the refusal that it came to.
pub(super) fn reply(outcome: Outcome<Refusal>) -> Result<Value, Failure> {
    Err(Failure::Refused(match outcome {
        Outcome::Written(written) => return Ok(written_reply(&written)),
        Outcome::Refused(refusal) => refusal,
        Outcome::RequestIdReused => {
            Refusal::new(Code::RequestIdReused, "this Nats-Msg-Id stands for another request: use a new one")
        }
        Outcome::TooManyRaces => away(Code::Overloaded, "others write this owner's items all the time: ask again"),
        Outcome::Full => away(Code::TruthUnavailable, "the bucket takes no more: tell the operators"),
        Outcome::OutOfTime => out_of_time(),
        Outcome::InDoubt => Refusal::new(
            Code::InDoubt,
            "it may be written, or may yet be: ask again with the same Nats-Msg-Id, or look",
        ),
    }))
}

fn written_reply(written: &Written) -> Value {
    let mut reply = json!({
        "item": view(&written.item),
        "owner_version": written.owner_version().get(),
    });
    if written.local == Passed::NotYet {
        reply["local"] = Value::from("pending");
    }
    reply
}

/// An item as a reply shows it, living or deleted.
pub(super) fn view(opened: &Opened) -> Value {
    match &opened.body.content {
        Content::Living(item) => item_view(item, opened.version),
        Content::Deleted { kind, id, updated_at } => deleted_view(*kind, id, opened.version, *updated_at),
    }
}

/// Refuses a write whose reply could not fit: in JSON, the longer encoding, and with the longest version.
pub(super) fn must_fit(content: &Content, limits: &Limits) -> Result<(), Refusal> {
    let Content::Living(item) = content else { return Ok(()) };
    let longest = Version::new(1 << 53).unwrap_or_default();
    let used = item_view(item, longest).to_string().len() + FRAME_BYTES;
    if used <= limits.reply_bytes {
        return Ok(());
    }
    let message = format!("a reply with this item would take {used} bytes, and {} fit", limits.reply_bytes);
    Err(Refusal::new(Code::TooLarge, message).with("used", used).with("limit", limits.reply_bytes))
}
