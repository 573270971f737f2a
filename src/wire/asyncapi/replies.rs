//! The schema of each operation's reply.

use super::super::Operation;
use super::schema;
use serde_json::{Value, json};

/// Returns the schema of the operation's reply.
pub(super) fn reply(operation: Operation) -> Value {
    match operation {
        Operation::Put => json!({
            "type": "object",
            "properties": {
                "item": schema("LivingItem"),
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["item", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Get => json!({
            "type": "object",
            "properties": {
                "item": schema("PresentItem"),
                "owner_version": schema("Version"),
                "stale": {"const": true},
            },
            "required": ["item", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::List => json!({
            "type": "object",
            "properties": {
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
                "owner_version": schema("Version"),
                "next_cursor": {"type": "string"},
                "stale": {"const": true},
            },
            "required": ["items", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Delete => json!({
            "type": "object",
            "properties": {
                "item": schema("DeletedItem"),
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["item", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Changes => json!({
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": schema("Item")},
                "owner_version": schema("Version"),
                "floor": schema("Version"),
                "epoch": schema("Epoch"),
                "more": {"type": "boolean"},
                "notify": {"type": "string"},
                "stale": {"const": true},
            },
            "required": ["items", "owner_version", "floor", "more", "notify"],
            "additionalProperties": false,
        }),
        Operation::History => json!({
            "type": "object",
            "properties": {
                "versions": {"type": "array", "items": schema("Item")},
                "owner_version": schema("Version"),
                "more": {"type": "boolean"},
                "complete": {"type": "boolean"},
                "stale": {"const": true},
            },
            "required": ["versions", "owner_version", "more", "complete"],
            "additionalProperties": false,
        }),
        Operation::Restore => json!({
            "type": "object",
            "properties": {
                "item": schema("LivingItem"),
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["item", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Batch => json!({
            "type": "object",
            "properties": {
                "results": {
                    "type": "array",
                    "items": {"oneOf": [schema("Done"), schema("Refusal")]},
                },
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["results", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Move => json!({
            "type": "object",
            "properties": {
                "item": schema("PresentItem"),
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["item", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Tags => json!({
            "type": "object",
            "properties": {
                "tags": {"type": "array", "items": schema("TagOfOwner")},
                "owner_version": schema("Version"),
                "stale": {"const": true},
            },
            "required": ["tags", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::TagsRename => json!({
            "type": "object",
            "properties": {
                "items": {"type": "integer", "minimum": 1},
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["items", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Lookup => json!({
            "type": "object",
            "properties": {
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
                "owner_version": schema("Version"),
                "stale": {"const": true},
            },
            "required": ["items", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Usage => json!({
            "type": "object",
            "properties": {
                "items": schema("UsedOfLimit"),
                "keys": schema("UsedOfLimit"),
                "bytes": schema("Used"),
                "owner_version": schema("Version"),
                "stale": {"const": true},
            },
            "required": ["items", "keys", "bytes", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::OtpCode => json!({
            "oneOf": [schema("TimedCode"), schema("CountedCode")],
        }),
        Operation::OtpVerify => json!({
            "type": "object",
            "properties": {
                "valid": {"type": "boolean"},
                "reason": {"enum": ["wrong", "already_used"]},
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["valid", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::CodesTake => json!({
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "remaining": {"type": "integer", "minimum": 0},
                "version": schema("Version"),
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["code", "remaining", "version", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::CodesAdd => json!({
            "type": "object",
            "properties": {
                "item": schema("LivingItem"),
                "owner_version": schema("Version"),
                "local": {"const": "pending"},
            },
            "required": ["item", "owner_version"],
            "additionalProperties": false,
        }),
        Operation::Version => json!({
            "type": "object",
            "properties": {
                "service": schema("Build"),
                "client": schema("Build"),
                "shard": {"type": "string"},
                "supports": schema("Supports"),
            },
            "required": ["service", "client", "shard", "supports"],
            "additionalProperties": false,
        }),
        Operation::Limits => json!({
            "type": "object",
            "properties": {
                "limits": {
                    "type": "object",
                    "additionalProperties": schema("OneLimit"),
                },
            },
            "required": ["limits"],
            "additionalProperties": false,
        }),
    }
}

/// Returns the schemas of the parts of replies, by name.
pub(super) fn parts() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Done",
            json!({
                "type": "object",
                "properties": {"item": schema("Item")},
                "required": ["item"],
                "additionalProperties": false,
            }),
        ),
        (
            "TagOfOwner",
            json!({
                "type": "object",
                "properties": {
                    "tag": {"type": "string"},
                    "items": {"type": "integer", "minimum": 1},
                    "contains": {
                        "type": "boolean",
                        "description": "Whether the item that the request names has the tag.",
                    },
                },
                "required": ["tag", "items"],
                "additionalProperties": false,
            }),
        ),
        (
            "Used",
            json!({
                "type": "object",
                "properties": {"used": {"type": "integer", "minimum": 0}},
                "required": ["used"],
                "additionalProperties": false,
            }),
        ),
        (
            "UsedOfLimit",
            json!({
                "type": "object",
                "properties": {
                    "used": {"type": "integer", "minimum": 0},
                    "limit": {"type": "integer", "minimum": 0},
                },
                "required": ["used", "limit"],
                "additionalProperties": false,
            }),
        ),
        (
            "TimedCode",
            json!({
                "type": "object",
                "properties": {
                    "code": {"type": "string"},
                    "valid_for_s": schema("OtpPeriod"),
                    "period_s": schema("OtpPeriod"),
                    "owner_version": schema("Version"),
                    "stale": {"const": true},
                },
                "required": ["code", "valid_for_s", "period_s", "owner_version"],
                "additionalProperties": false,
            }),
        ),
        (
            "CountedCode",
            json!({
                "type": "object",
                "properties": {
                    "code": {"type": "string"},
                    "counter": schema("OtpCounter"),
                    "version": schema("Version"),
                    "owner_version": schema("Version"),
                    "local": {"const": "pending"},
                },
                "required": ["code", "counter", "version", "owner_version"],
                "additionalProperties": false,
            }),
        ),
        (
            "Build",
            json!({
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "version": {"type": "string"},
                    "commit": {"type": "string"},
                    "built_at": schema("Time"),
                },
                "required": ["version", "commit", "built_at"],
                "additionalProperties": false,
            }),
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
            json!({
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": 0},
                    "unit": {"type": "string"},
                },
                "required": ["value", "unit"],
                "additionalProperties": false,
            }),
        ),
    ]
}
