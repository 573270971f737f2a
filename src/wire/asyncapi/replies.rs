//! The schema of each operation's reply.

use super::super::Operation;
use super::schema;
use serde_json::{Value, json};

/// Returns the schema of the operation's reply.
pub(super) fn reply(operation: Operation) -> Value {
    match operation {
        Operation::Put => written(
            json!({"item": schema("LivingItem")}),
            &["item", "owner_version"],
        ),
        Operation::Get => read(
            json!({"item": schema("PresentItem")}),
            &["item", "owner_version"],
        ),
        Operation::List => read(
            json!({
                "items": {
                    "type": "array",
                    "items": {
                        "oneOf": [
                            schema("LivingItem"),
                            schema("UnknownItem"),
                            schema("PlacedItem"),
                        ],
                    },
                },
                "next_cursor": {"type": "string"},
            }),
            &["items", "owner_version"],
        ),
        Operation::Delete => written(
            json!({"item": schema("DeletedItem")}),
            &["item", "owner_version"],
        ),
        Operation::Changes => read(
            json!({
                "items": {"type": "array", "items": schema("Item")},
                "floor": schema("Version"),
                "epoch": schema("Epoch"),
                "more": {"type": "boolean"},
                "notify": {"type": "string"},
            }),
            &["items", "owner_version", "floor", "more", "notify"],
        ),
        Operation::History => read(
            json!({
                "versions": {"type": "array", "items": schema("Item")},
                "more": {"type": "boolean"},
                "complete": {"type": "boolean"},
            }),
            &["versions", "owner_version", "more", "complete"],
        ),
        Operation::Restore => written(
            json!({"item": schema("LivingItem")}),
            &["item", "owner_version"],
        ),
        Operation::Batch => written(
            json!({
                "results": {
                    "type": "array",
                    "items": {"oneOf": [schema("Done"), schema("Refusal")]},
                },
            }),
            &["results", "owner_version"],
        ),
        Operation::Move => written(
            json!({"item": schema("PresentItem")}),
            &["item", "owner_version"],
        ),
        Operation::Tags => read(
            json!({
                "tags": {"type": "array", "items": schema("TagOfOwner")},
            }),
            &["tags", "owner_version"],
        ),
        Operation::TagsRename => written(
            json!({
                "items": {"type": "integer", "minimum": 1},
            }),
            &["items", "owner_version"],
        ),
        Operation::Lookup => read(
            json!({
                "items": {
                    "description": "In the order of the request; null for an item that does not \
                        exist.",
                    "type": "array",
                    "items": {
                        "oneOf": [
                            schema("LivingItem"),
                            schema("UnknownItem"),
                            {"type": "null"},
                        ],
                    },
                },
            }),
            &["items", "owner_version"],
        ),
        Operation::Usage => read(
            json!({
                "items": schema("UsedOfLimit"),
                "keys": schema("UsedOfLimit"),
                "bytes": schema("UsedOfLimit"),
            }),
            &["items", "keys", "bytes", "owner_version"],
        ),
        Operation::OtpCode => json!({
            "oneOf": [schema("TimedCode"), schema("CountedCode")],
        }),
        Operation::OtpVerify => written(
            json!({
                "valid": {"type": "boolean"},
                "reason": {"enum": ["wrong", "already_used"]},
            }),
            &["valid", "owner_version"],
        ),
        Operation::CodesTake => written(
            json!({
                "code": {"type": "string"},
                "remaining": {"type": "integer", "minimum": 0},
                "version": schema("Version"),
            }),
            &["code", "remaining", "version", "owner_version"],
        ),
        Operation::CodesAdd => written(
            json!({"item": schema("LivingItem")}),
            &["item", "owner_version"],
        ),
        Operation::Version => closed(
            json!({
                "service": schema("Build"),
                "client": schema("Build"),
                "shard": {"type": "string"},
                "supports": schema("Supports"),
            }),
            &["service", "client", "shard", "supports"],
        ),
        Operation::Limits => closed(
            json!({
                "limits": {
                    "type": "object",
                    "additionalProperties": schema("OneLimit"),
                },
            }),
            &["limits"],
        ),
    }
}

/// Returns the schema of the reply to a write, with what every such reply has.
fn written(mut properties: Value, required: &[&str]) -> Value {
    properties["local"] = json!({"const": "pending"});
    properties["owner_version"] = schema("Version");

    closed(properties, required)
}

/// Returns the schema of the reply to a read, with what every such reply has.
fn read(mut properties: Value, required: &[&str]) -> Value {
    properties["stale"] = json!({"const": true});
    properties["owner_version"] = schema("Version");

    closed(properties, required)
}

/// Returns the schema of an object that has no other fields.
fn closed(properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Returns the schemas of the parts of replies, by name.
pub(super) fn parts() -> Vec<(&'static str, Value)> {
    vec![
        ("Done", closed(json!({"item": schema("Item")}), &["item"])),
        (
            "TagOfOwner",
            closed(
                json!({
                    "tag": {"type": "string"},
                    "items": {"type": "integer", "minimum": 1},
                    "contains": {
                        "type": "boolean",
                        "description": "Whether the item that the request names has the tag.",
                    },
                }),
                &["tag", "items"],
            ),
        ),
        (
            "UsedOfLimit",
            closed(
                json!({
                    "used": {"type": "integer", "minimum": 0},
                    "limit": {"type": "integer", "minimum": 0},
                }),
                &["used", "limit"],
            ),
        ),
        (
            "TimedCode",
            read(
                json!({
                    "code": {"type": "string"},
                    "valid_for_s": schema("OtpPeriod"),
                    "period_s": schema("OtpPeriod"),
                }),
                &["code", "valid_for_s", "period_s", "owner_version"],
            ),
        ),
        (
            "CountedCode",
            written(
                json!({
                    "code": {"type": "string"},
                    "counter": schema("OtpCounter"),
                    "version": schema("Version"),
                }),
                &["code", "counter", "version", "owner_version"],
            ),
        ),
        (
            "Build",
            closed(
                json!({
                    "name": {"type": "string"},
                    "version": {"type": "string"},
                    "commit": {"type": "string"},
                    "built_at": schema("Time"),
                }),
                &["version", "commit", "built_at"],
            ),
        ),
        (
            "Supports",
            json!({
                "description": "What the worker knows.",
                "type": "object",
                "properties": {
                    "kinds": {"type": "array", "items": {"type": "string"}},
                    "operations": {"type": "array", "items": {"type": "string"}},
                    "formats": {
                        "type": "array",
                        "items": {"type": "integer"},
                        "description": "The formats of records that it reads.",
                    },
                },
                "required": ["kinds", "operations", "formats"],
                "additionalProperties": false,
            }),
        ),
        (
            "OneLimit",
            closed(
                json!({
                    "value": {"type": "integer", "minimum": 0},
                    "unit": {"type": "string"},
                }),
                &["value", "unit"],
            ),
        ),
    ]
}
