//! How an operation is asked for on the wire, and what a reply tells.

use super::model::{Change, Op, Told};
use serde_json::{Value, json};

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

/// The operation's name, and its body.
pub fn body(op: &Op) -> (&'static str, Value) {
    let name = |change: &Change| {
        if change.text.is_some() {
            "put"
        } else {
            "delete"
        }
    };
    let (changes, condition) = match op {
        Op::Get { item } => return ("get", json!({"kind": "text", "id": format!("item-{item}")})),
        Op::Write {
            changes,
            if_owner_version,
        } => (changes.as_slice(), if_owner_version),
    };
    let (what, mut body) = match changes {
        [one] => (name(one), fields(one)),
        several => {
            let op = |change| {
                let mut op = fields(change);
                op["op"] = json!(name(change));
                op
            };
            let ops: Vec<Value> = several.iter().map(op).collect();
            ("batch", json!({"mode": "atomic", "ops": ops}))
        }
    };
    if let Some(version) = condition {
        body["if_owner_version"] = json!(version);
    }
    (what, body)
}

/// An item as a reply shows it: version and text.
fn item(shown: &Value) -> Option<(u64, u32)> {
    let text = shown["data"]["text"]
        .as_str()?
        .rsplit('-')
        .next()?
        .parse()
        .ok()?;
    Some((shown["version"].as_u64()?, text))
}

/// What a reply tells; `None` if it is another refusal than one of the data.
pub fn told(op: &Op, reply: &Value) -> Option<Told> {
    let error = &reply["error"];
    if error.is_object() {
        let details = &error["details"];
        let owner = details["owner_version"].as_u64();
        let at = details["op"].as_u64().map(|at| at as usize);
        return match error["code"].as_str()? {
            "not_found" => Some(Told::NotFound {
                owner: owner?,
                at: at.unwrap_or_default(),
            }),
            "version_conflict" => {
                let single = matches!(op, Op::Write { changes, .. } if changes.len() == 1);
                let at = if single { Some(0) } else { at };
                Some(Told::Conflict {
                    owner: owner?,
                    at,
                    item: item(&details["item"]),
                })
            }
            _ => None,
        };
    }
    let owner = reply["owner_version"].as_u64()?;
    let versions: Vec<u64> = match (op, reply["results"].as_array()) {
        (Op::Get { .. }, _) => {
            let (version, text) = item(&reply["item"])?;
            return Some(Told::Found {
                owner,
                version,
                text,
            });
        }
        (_, None) => vec![reply["item"]["version"].as_u64()?],
        (_, Some(results)) => results
            .iter()
            .map(|one| one["item"]["version"].as_u64())
            .collect::<Option<_>>()?,
    };
    (versions.last() == Some(&owner)).then_some(Told::Written { versions })
}
