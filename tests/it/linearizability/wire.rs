//! An operation as a request on the wire, and a reply as an answer of the model.

use super::model::{Answer, Change, Op};
use serde_json::{Value, json};

/// Returns the name of the operation that executes a change.
fn name(change: &Change) -> &'static str {
    if change.text.is_some() {
        "put"
    } else {
        "delete"
    }
}

fn fields(change: &Change) -> Value {
    let mut fields = json!({"kind": "text", "id": format!("item-{}", change.item)});

    if let Some(text) = change.text {
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
        Op::Get { item } => {
            let id = format!("item-{item}");

            return ("get", json!({"kind": "text", "id": id}));
        }
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

/// Returns the version and the text of an item in a reply.
fn item(shown: &Value) -> Option<(u64, u32)> {
    let version = shown["version"].as_u64()?;
    let text = shown["data"]["text"].as_str()?;
    let number = text.rsplit('-').next()?.parse().ok()?;

    Some((version, number))
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
