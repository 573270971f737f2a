//! The schemas of items, and of what several bodies share.

use super::schema;
use serde_json::{Value, json};

/// Returns the schemas by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Meta",
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
        ),
        (
            "Tags",
            json!({"type": "array", "items": {"type": "string"}}),
        ),
        ("Time", json!({"type": "string", "format": "date-time"})),
        (
            "Epoch",
            json!({
                "type": "string",
                "description": "Names the history of the bucket to which versions and cursors \
                    belong.",
            }),
        ),
        (
            "Place",
            json!({
                "type": "string",
                "minLength": 1,
                "maxLength": 64,
                "description": "Items sorted by the bytes of it are in the order of list.",
            }),
        ),
        (
            "ItemName",
            json!({
                "type": "object",
                "properties": {"kind": schema("AnyKind"), "id": {"type": "string"}},
                "required": ["kind", "id"],
                "additionalProperties": false,
            }),
        ),
        (
            "AnyKind",
            json!({
                "type": "string",
                "description": "A kind that the worker knows, or one that only newer workers \
                    know.",
            }),
        ),
        (
            "LivingItem",
            json!({
                "type": "object",
                "properties": {
                    "kind": schema("Kind"),
                    "id": {
                        "type": "string",
                        "description": "Of an instrument the ISIN, or MIC:TICKER without one.",
                    },
                    "data": schema("Data"),
                    "meta": schema("Meta"),
                    "tags": schema("Tags"),
                    "place": schema("Place"),
                    "version": schema("Version"),
                    "created_at": schema("Time"),
                    "updated_at": schema("Time"),
                },
                "required": [
                    "kind",
                    "id",
                    "data",
                    "meta",
                    "tags",
                    "place",
                    "version",
                    "created_at",
                    "updated_at",
                ],
                "additionalProperties": false,
            }),
        ),
        (
            "UnknownItem",
            json!({
                "description": "A living item of a kind that only newer workers know.",
                "type": "object",
                "properties": {
                    "kind": schema("AnyKind"),
                    "id": {"type": "string"},
                    "tags": schema("Tags"),
                    "place": schema("Place"),
                    "version": schema("Version"),
                    "created_at": schema("Time"),
                    "updated_at": schema("Time"),
                    "unknown": {"const": true},
                },
                "required": [
                    "kind",
                    "id",
                    "tags",
                    "place",
                    "version",
                    "created_at",
                    "updated_at",
                    "unknown",
                ],
                "additionalProperties": false,
            }),
        ),
        (
            "PresentItem",
            json!({"oneOf": [schema("LivingItem"), schema("UnknownItem")]}),
        ),
        (
            "PlacedItem",
            json!({
                "description": "An item of a list whose request has only.",
                "type": "object",
                "properties": {
                    "kind": schema("AnyKind"),
                    "id": {"type": "string"},
                    "place": schema("Place"),
                    "version": schema("Version"),
                },
                "required": ["kind", "id", "place", "version"],
                "additionalProperties": false,
            }),
        ),
        (
            "DeletedItem",
            json!({
                "type": "object",
                "properties": {
                    "kind": schema("AnyKind"),
                    "id": {"type": "string"},
                    "version": schema("Version"),
                    "deleted": {"const": true},
                    "updated_at": schema("Time"),
                },
                "required": ["kind", "id", "version", "deleted", "updated_at"],
                "additionalProperties": false,
            }),
        ),
        (
            "Item",
            json!({
                "oneOf": [
                    schema("LivingItem"),
                    schema("UnknownItem"),
                    schema("DeletedItem"),
                ],
            }),
        ),
        (
            "Refusal",
            json!({
                "type": "object",
                "properties": {"error": schema("Error")},
                "required": ["error"],
                "additionalProperties": false,
            }),
        ),
    ]
}
