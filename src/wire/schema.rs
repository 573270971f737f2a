//! The JSON Schema (draft 2020-12) of each operation's request, for discovery.

use super::Operation;
use serde_json::{Map, Value, json};

/// Returns the schema of the operation's request body.
pub fn request_schema(operation: Operation) -> Value {
    let properties: Map<String, Value> = properties(operation)
        .into_iter()
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
            ("kind", kind()),
            ("id", text()),
            ("reveal", json!({"type": "boolean"})),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::List => vec![
            ("kind", kind()),
            ("tag", text()),
            ("limit", limit()),
            ("cursor", text()),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::Delete => vec![
            ("kind", kind()),
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
            ("kind", kind()),
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
        Operation::Version | Operation::Limits => vec![],
    }
}

fn required(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Put => &["kind"],
        Operation::Get | Operation::Delete | Operation::History => &["kind", "id"],
        Operation::Changes => &["since"],
        Operation::Restore => &["kind", "id", "version"],
        Operation::Batch => &["mode", "ops"],
        Operation::List | Operation::Version | Operation::Limits => &[],
    }
}

fn batch_operations() -> Value {
    let operation = json!({
        "oneOf": [batch_operation(Operation::Put), batch_operation(Operation::Delete)],
    });

    json!({"type": "array", "items": operation, "minItems": 1})
}

/// Returns the schema of one operation of a batch: that of a request of its own, with the name of
/// the operation. The condition on the owner's version belongs to the batch.
fn batch_operation(operation: Operation) -> Value {
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

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn text_map() -> Value {
    json!({"type": "object", "additionalProperties": text()})
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
