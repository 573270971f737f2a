//! An operation as a request on the wire, and a reply as an answer of the model.

use super::model::{Answer, Change, LIST, Op};
use serde_json::{Value, json};

/// How many codes the list has: more than clients take.
const CODES: usize = 100;

/// Returns the kind and the id of an item.
fn name_of(item: u8) -> Value {
    if item == LIST {
        json!({"kind": "codes", "id": "list"})
    } else {
        json!({"kind": "text", "id": format!("item-{item}")})
    }
}

/// Returns the name of the operation that executes a change.
fn name(change: &Change) -> &'static str {
    if change.text.is_some() {
        "put"
    } else {
        "delete"
    }
}

fn fields(change: &Change) -> Value {
    let mut fields = name_of(change.item);

    if change.item == LIST {
        let codes: Vec<String> = (0..CODES).map(|number| format!("code-{number}")).collect();
        fields["data"] = json!({"codes": codes});
    } else if let Some(text) = change.text {
        fields["data"] = json!({"text": format!("a-favourite-text-{text}")});
    }
    if let Some(version) = change.if_version {
        fields["if_version"] = json!(version);
    }

    fields
}

fn batch(changes: &[Change]) -> Value {
    let op = |change| {
        let mut op = fields(change);
        op["op"] = json!(name(change));

        op
    };
    let ops: Vec<Value> = changes.iter().map(op).collect();

    json!({"mode": "atomic", "ops": ops})
}

/// Returns the name of the wire's operation, and the body of the request.
pub fn request(op: &Op) -> (&'static str, Value) {
    let (changes, if_owner_version) = match op {
        Op::Get { item } => return ("get", name_of(*item)),
        Op::Take => return ("codes.take", json!({"id": "list"})),
        Op::Write {
            changes,
            if_owner_version,
        } => (changes, if_owner_version),
    };

    let (operation, mut body) = match &changes[..] {
        [change] => (name(change), fields(change)),
        several => ("batch", batch(several)),
    };

    if let Some(version) = if_owner_version {
        body["if_owner_version"] = json!(version);
    }

    (operation, body)
}

/// Returns the version and the text of an item in a reply. The text of a list is the number of codes
/// that were taken.
fn item(shown: &Value) -> Option<(u64, u32)> {
    let version = shown["version"].as_u64()?;
    let data = &shown["data"];
    let text = match data["total"].as_u64() {
        Some(total) => u32::try_from(total - data["remaining"].as_u64()?).ok()?,
        None => number_of(&data["text"])?,
    };

    Some((version, text))
}

/// Returns the number at the end of a text or a code.
fn number_of(text: &Value) -> Option<u32> {
    text.as_str()?.rsplit('-').next()?.parse().ok()
}

/// Returns the answer of a reply; `None` for a refusal that says nothing about the data.
pub fn answer(op: &Op, reply: &Value) -> Option<Answer> {
    let error = &reply["error"];
    if error.is_object() {
        return refusal(op, error);
    }

    let owner = reply["owner_version"].as_u64()?;
    let versions: Vec<u64> = match (op, reply["results"].as_array()) {
        (Op::Get { .. }, _) => {
            let (version, text) = item(&reply["item"])?;
            return Some(Answer::Found {
                owner,
                version,
                text,
            });
        }
        (Op::Take, _) => {
            return Some(Answer::Taken {
                version: reply["version"].as_u64()?,
                code: number_of(&reply["code"])?,
            });
        }
        (_, None) => vec![reply["item"]["version"].as_u64()?],
        (_, Some(results)) => results
            .iter()
            .map(|result| result["item"]["version"].as_u64())
            .collect::<Option<_>>()?,
    };

    (versions.last() == Some(&owner)).then_some(Answer::Written { versions })
}

fn refusal(op: &Op, error: &Value) -> Option<Answer> {
    let details = &error["details"];
    let owner = details["owner_version"].as_u64();
    let index = details["op"].as_u64().map(|index| index as usize);

    match error["code"].as_str()? {
        "not_found" => Some(Answer::NotFound {
            owner: owner?,
            index: index.unwrap_or_default(),
        }),
        "version_conflict" => {
            let is_single = matches!(op, Op::Write { changes, .. } if changes.len() == 1);
            Some(Answer::Conflict {
                owner: owner?,
                index: if is_single { Some(0) } else { index },
                item: item(&details["item"]),
            })
        }
        _ => None,
    }
}
