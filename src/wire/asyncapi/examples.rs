//! What each operation does, and a request that shows it.

use super::super::Operation;
use serde_json::{Value, json};

/// Returns what the operation does, in a sentence.
pub(super) fn summary(operation: Operation) -> &'static str {
    match operation {
        Operation::Put => "Stores an item, a new one or one that replaces the present one.",
        Operation::Get => "Returns one item.",
        Operation::List => "Returns the living items, ordered by place.",
        Operation::Delete => "Deletes an item.",
        Operation::Changes => "Returns what changed after a version, once per item, deletions too.",
        Operation::History => "Returns the versions of an item, newest first.",
        Operation::Restore => "Restores an item to its state at a version.",
        Operation::Batch => "Executes several puts and deletes in one write.",
        Operation::Move => "Puts an item right after another one, or first.",
        Operation::Tags => {
            "Returns the tags of the living items, each with the number of its items."
        }
        Operation::TagsRename => {
            "Renames a tag on all items that have it, or removes it from them."
        }
        Operation::Lookup => "Returns which of several items exist.",
        Operation::Usage => "Returns how much the owner has, and may have.",
        Operation::OtpCode => "Returns a code of a one-time-password item. For HOTP it is a write.",
        Operation::OtpVerify => {
            "Verifies a code of a one-time-password item, and accepts each one once."
        }
        Operation::CodesTake => "Takes the first code of a list that was not yet taken.",
        Operation::CodesAdd => "Adds codes to the end of a list.",
        Operation::Version => "Returns the running build.",
        Operation::Limits => "Returns the limits in force.",
    }
}

/// Returns a request, for an owner who has the instrument US0378331005 with the tag tech, the text
/// note, the one-time password mail and the list of codes recovery.
pub(super) fn example(operation: Operation) -> Value {
    match operation {
        Operation::Put => json!({
            "kind": "instrument",
            "data": {"isin": "US0378331005", "type": "stock"},
            "tags": ["tech"],
        }),
        Operation::Get | Operation::Delete | Operation::History | Operation::Move => {
            json!({"kind": "instrument", "id": "US0378331005"})
        }
        Operation::List => json!({"kind": "instrument", "tag": "tech", "limit": 10}),
        Operation::Changes => json!({"since": 0}),
        Operation::Restore => json!({"kind": "instrument", "id": "US0378331005", "version": 3}),
        Operation::Batch => json!({
            "mode": "each",
            "ops": [
                {"op": "put", "kind": "text", "id": "plan", "data": {"text": "Buy in May."}},
                {"op": "delete", "kind": "text", "id": "note"},
            ],
        }),
        Operation::Tags => json!({"kind": "instrument", "id": "US0378331005"}),
        Operation::TagsRename => json!({"from": "tech", "to": "technology"}),
        Operation::Lookup => json!({
            "items": [
                {"kind": "instrument", "id": "US0378331005"},
                {"kind": "text", "id": "plan"},
            ],
        }),
        Operation::OtpCode => json!({"id": "mail"}),
        Operation::OtpVerify => json!({"id": "mail", "code": "123456"}),
        Operation::CodesTake => json!({"id": "recovery"}),
        Operation::CodesAdd => json!({"id": "recovery", "codes": ["49-17", "80-26"]}),
        Operation::Usage | Operation::Version | Operation::Limits => json!({}),
    }
}
