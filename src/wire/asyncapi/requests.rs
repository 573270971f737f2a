//! The schemas of requests, made of those that discovery shows. What several operations have in
//! common becomes a reference.

use super::super::{Operation, request_schema};
use super::schema;
use serde_json::{Value, json};

/// Returns the schema of the operation's request.
pub(super) fn request(operation: Operation) -> Value {
    let mut request = with_references(operation, request_schema(operation));

    if operation == Operation::Batch {
        request["properties"]["ops"]["items"] =
            json!({"oneOf": [schema("PutInBatch"), schema("DeleteInBatch")]});
    }
    if operation == Operation::Tags {
        request["description"] = "kind and id both, or neither.".into();
    }

    request
}

/// Returns the schemas of a batch's operations, by name.
pub(super) fn in_batch() -> Vec<(&'static str, Value)> {
    let schema = request_schema(Operation::Batch);
    let alternatives = &schema["properties"]["ops"]["items"]["oneOf"];
    let alternative = |operation, at: usize| with_references(operation, alternatives[at].clone());

    vec![
        ("PutInBatch", alternative(Operation::Put, 0)),
        ("DeleteInBatch", alternative(Operation::Delete, 1)),
    ]
}

/// Puts a reference in the place of each field that has a schema of its own, and leaves out an
/// empty list of what is required.
fn with_references(operation: Operation, mut request: Value) -> Value {
    if let Some(fields) = request["properties"].as_object_mut() {
        for (name, field) in fields {
            *field = field_schema(operation, name, field);
        }
    }
    if let Some(fields) = request.as_object_mut() {
        fields.retain(|name, field| name != "required" || *field != json!([]));
    }

    request
}

/// Returns what the document says about a field.
fn field_schema(operation: Operation, name: &str, field: &Value) -> Value {
    match name {
        "kind" if field.get("enum").is_some() => schema("Kind"),
        "kind" => schema("AnyKind"),
        "data" => schema("NewData"),
        "meta" => schema("Meta"),
        "tags" => schema("Tags"),
        "limit" => schema("Limit"),
        "epoch" => schema("Epoch"),
        "after" => schema("ItemName"),
        "codes" => schema("NewCodes"),
        "consistency" => schema("Consistency"),
        "since" | "floor" | "before" | "version" | "min_version" | "if_version"
        | "if_owner_version" => schema("Version"),
        "items" => json!({"type": "array", "items": schema("ItemName"), "minItems": 1}),
        "untagged" => described(field, "Not together with tag."),
        "to" if operation == Operation::TagsRename => {
            described(field, "If it is left out, the tag is removed.")
        }
        _ => field.clone(),
    }
}

fn described(field: &Value, description: &str) -> Value {
    let mut field = field.clone();
    field["description"] = description.into();

    field
}
