//! The JSON Schema (draft 2020-12) of each operation's request, for discovery.

use super::Operation;
use crate::domain::Kind;
use serde_json::{Map, Value, json};

/// The highest version, and the highest counter of a one-time password: JSON readers keep integers up
/// to it exactly.
pub(super) const VERSION_MAX: u64 = 1 << 53;

/// Returns the schema of the operation's request body.
pub fn request_schema(operation: Operation) -> Value {
    let epoch = operation.takes_epoch().then(|| ("epoch", text()));
    let properties: Map<String, Value> = properties(operation)
        .into_iter()
        .chain(epoch)
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();

    json!({
        "type": "object",
        "properties": properties,
        "required": required(operation),
        "additionalProperties": false,
    })
}

fn properties(operation: Operation) -> Vec<(&'static str, Value)> {
    match operation {
        Operation::Put => vec![
            ("kind", kind()),
            ("id", text()),
            ("data", json!({"type": "object"})),
            ("meta", text_map()),
            ("tags", list(text())),
            ("if_version", version()),
            ("if_owner_version", version()),
        ],
        Operation::Get => vec![
            ("kind", kind_name()),
            ("id", text()),
            ("reveal", json!({"type": "boolean"})),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::List => vec![
            ("kind", kind_name()),
            ("tag", text()),
            ("untagged", json!({"type": "boolean"})),
            ("only", json!({"enum": ["ids"]})),
            ("limit", limit()),
            ("cursor", text()),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::Delete => vec![
            ("kind", kind_name()),
            ("id", text()),
            ("if_version", version()),
            ("if_owner_version", version()),
        ],
        Operation::Changes => vec![
            ("since", version()),
            ("floor", version()),
            ("limit", limit()),
        ],
        Operation::History => vec![
            ("kind", kind_name()),
            ("id", text()),
            ("before", version()),
            ("limit", limit()),
        ],
        Operation::Restore => vec![
            ("kind", kind()),
            ("id", text()),
            ("version", version()),
            ("if_version", version()),
        ],
        Operation::Batch => vec![
            ("mode", json!({"enum": ["atomic", "each"]})),
            ("ops", batch_operations()),
            ("if_owner_version", version()),
        ],
        Operation::Move => vec![
            ("kind", kind_name()),
            ("id", text()),
            ("after", item_name()),
            ("if_version", version()),
        ],
        Operation::Tags => vec![
            ("kind", kind_name()),
            ("id", text()),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::TagsRename => vec![("from", text()), ("to", text())],
        Operation::Lookup => vec![
            (
                "items",
                json!({"type": "array", "items": item_name(), "minItems": 1}),
            ),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::Usage => vec![("min_version", version()), ("consistency", consistency())],
        Operation::OtpCode => vec![
            ("id", text()),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::OtpVerify => vec![("id", text()), ("code", text())],
        Operation::CodesTake => vec![("id", text())],
        Operation::CodesAdd => vec![
            ("id", text()),
            (
                "codes",
                json!({"type": "array", "items": text(), "minItems": 1}),
            ),
        ],
        Operation::Version | Operation::Limits => vec![],
    }
}

fn required(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Put => &["kind"],
        Operation::Get | Operation::Delete | Operation::History | Operation::Move => {
            &["kind", "id"]
        }
        Operation::TagsRename => &["from"],
        Operation::Lookup => &["items"],
        Operation::OtpCode | Operation::CodesTake => &["id"],
        Operation::OtpVerify => &["id", "code"],
        Operation::CodesAdd => &["id", "codes"],
        Operation::Changes => &["since"],
        Operation::Restore => &["kind", "id", "version"],
        Operation::Batch => &["mode", "ops"],
        Operation::List
        | Operation::Tags
        | Operation::Usage
        | Operation::Version
        | Operation::Limits => &[],
    }
}

fn batch_operations() -> Value {
    let operation = json!({
        "oneOf": [batch_operation(Operation::Put), batch_operation(Operation::Delete)],
    });

    json!({"type": "array", "items": operation, "minItems": 1})
}

/// Returns the schema of one operation of a batch: that of a request of its own, with the name of
/// the operation. The condition on the owner's version and the epoch belong to the batch.
fn batch_operation(operation: Operation) -> Value {
    let mut schema = request_schema(operation);

    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("if_owner_version");
        properties.remove("epoch");
        properties.insert("op".to_owned(), json!({"const": operation.name()}));
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.insert(0, "op".into());
    }

    schema
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn text_map() -> Value {
    json!({"type": "object", "additionalProperties": text()})
}

pub(super) fn limit() -> Value {
    json!({"type": "integer", "minimum": 1})
}

fn text() -> Value {
    json!({"type": "string"})
}

pub(super) fn kind() -> Value {
    let kinds: Vec<_> = Kind::all().map(Kind::as_str).collect();

    json!({"enum": kinds})
}

/// A kind, perhaps one that this version does not know.
fn kind_name() -> Value {
    text()
}

fn item_name() -> Value {
    json!({
        "type": "object",
        "properties": {"kind": kind_name(), "id": text()},
        "required": ["kind", "id"],
        "additionalProperties": false,
    })
}

pub(super) fn consistency() -> Value {
    json!({"enum": ["head", "strong", "eventual"]})
}

fn version() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": VERSION_MAX})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_required_field_is_described() {
        for operation in Operation::ALL {
            let schema = request_schema(operation);

            for name in schema["required"].as_array().expect("a list") {
                assert!(
                    schema["properties"][name.as_str().expect("a name")].is_object(),
                    "{operation:?} {name}"
                );
            }
        }
    }
}
