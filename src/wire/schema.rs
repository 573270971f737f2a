//! The form of each operation's request, as a JSON Schema (draft 2020-12) for discovery.

use super::Operation;
use serde_json::{Map, Value, json};

/// The schema of the operation's request body.
pub fn request_schema(operation: Operation) -> Value {
    let fields: &[(&str, Value)] = match operation {
        Operation::Put => &[
            ("kind", kind()),
            ("id", text()),
            ("data", json!({"type": "object"})),
            (
                "meta",
                json!({"type": "object", "additionalProperties": text()}),
            ),
            ("tags", json!({"type": "array", "items": text()})),
            ("if_version", version()),
            ("if_owner_version", version()),
        ],
        Operation::Get => &[
            ("kind", kind()),
            ("id", text()),
            ("reveal", json!({"type": "boolean"})),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::List => &[
            ("kind", kind()),
            ("tag", text()),
            ("limit", limit()),
            ("cursor", text()),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::Delete => &[
            ("kind", kind()),
            ("id", text()),
            ("if_version", version()),
            ("if_owner_version", version()),
        ],
        Operation::Changes => &[
            ("since", version()),
            ("floor", version()),
            ("limit", limit()),
        ],
        Operation::History => &[
            ("kind", kind()),
            ("id", text()),
            ("before", version()),
            ("limit", limit()),
        ],
        Operation::Restore => &[
            ("kind", kind()),
            ("id", text()),
            ("version", version()),
            ("if_version", version()),
        ],
        Operation::Batch => &[
            ("mode", json!({"enum": ["atomic", "each"]})),
            (
                "ops",
                json!({"type": "array", "items": {"oneOf": [op(Operation::Put), op(Operation::Delete)]}, "minItems": 1}),
            ),
            ("if_owner_version", version()),
        ],
        Operation::Version | Operation::Limits => &[],
    };
    let required: &[&str] = match operation {
        Operation::Put => &["kind"],
        Operation::Get | Operation::Delete | Operation::History => &["kind", "id"],
        Operation::Changes => &["since"],
        Operation::Restore => &["kind", "id", "version"],
        Operation::Batch => &["mode", "ops"],
        Operation::List | Operation::Version | Operation::Limits => &[],
    };
    let properties: Map<String, Value> = fields
        .iter()
        .map(|(name, form)| ((*name).to_owned(), form.clone()))
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// One operation of a batch: that of a request of its own, with its name; the owner's condition is the whole batch's.
fn op(operation: Operation) -> Value {
    let mut schema = request_schema(operation);
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("if_owner_version");
        properties.insert("op".to_owned(), json!({"const": operation.name()}));
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.insert(0, "op".into());
    }
    schema
}

fn limit() -> Value {
    json!({"type": "integer", "minimum": 1})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn kind() -> Value {
    json!({"enum": ["instrument", "text"]})
}

fn consistency() -> Value {
    json!({"enum": ["head", "strong", "eventual"]})
}

fn version() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": 1_u64 << 53})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_is_described() {
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
