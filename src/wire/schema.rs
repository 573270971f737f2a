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
            ("meta", json!({"type": "object", "additionalProperties": text()})),
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
            ("limit", json!({"type": "integer", "minimum": 1})),
            ("cursor", text()),
            ("min_version", version()),
            ("consistency", consistency()),
        ],
        Operation::Delete => {
            &[("kind", kind()), ("id", text()), ("if_version", version()), ("if_owner_version", version())]
        }
        Operation::Version | Operation::Limits => &[],
    };
    let required: &[&str] = match operation {
        Operation::Put => &["kind"],
        Operation::Get | Operation::Delete => &["kind", "id"],
        Operation::List | Operation::Version | Operation::Limits => &[],
    };
    let properties: Map<String, Value> = fields.iter().map(|(name, form)| ((*name).to_owned(), form.clone())).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
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
                assert!(schema["properties"][name.as_str().expect("a name")].is_object(), "{operation:?} {name}");
            }
        }
    }
}
