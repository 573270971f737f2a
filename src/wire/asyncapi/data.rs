//! The schemas of what an item holds: what is written, and what is read.

use super::super::schema::VERSION_MAX;
use super::schema;
use crate::domain::InstrumentType;
use serde_json::{Value, json};

/// Returns the schemas by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Data",
            json!({
                "description": "As it is read.",
                "oneOf": [
                    schema("InstrumentData"),
                    schema("TextData"),
                    schema("TimedOtpData"),
                    schema("CountedOtpData"),
                    schema("CodesData"),
                ],
            }),
        ),
        (
            "NewData",
            json!({
                "description": "As it is written.",
                "oneOf": [
                    schema("InstrumentData"),
                    schema("TextData"),
                    schema("NewOtpData"),
                    schema("NewCodesData"),
                ],
            }),
        ),
        (
            "InstrumentData",
            json!({
                "description": "The item's id is the ISIN, or MIC:TICKER of an instrument \
                    without one.",
                "oneOf": [
                    schema("InstrumentWithIsin"),
                    schema("InstrumentWithoutIsin"),
                ],
            }),
        ),
        (
            "InstrumentWithIsin",
            json!({
                "type": "object",
                "properties": {
                    "isin": schema("Isin"),
                    "type": schema("InstrumentType"),
                    "ticker": schema("Ticker"),
                    "mic": schema("Mic"),
                    "currency": schema("Currency"),
                    "name": schema("InstrumentName"),
                },
                "required": ["isin", "type"],
                "additionalProperties": false,
            }),
        ),
        (
            "InstrumentWithoutIsin",
            json!({
                "type": "object",
                "properties": {
                    "type": schema("InstrumentType"),
                    "ticker": schema("Ticker"),
                    "mic": schema("Mic"),
                    "currency": schema("Currency"),
                    "name": schema("InstrumentName"),
                },
                "required": ["type", "ticker", "mic"],
                "additionalProperties": false,
            }),
        ),
        (
            "Isin",
            json!({
                "type": "string",
                "minLength": 12,
                "maxLength": 12,
                "pattern": "^[A-Za-z]{2}[A-Za-z0-9]{9}[0-9]$",
            }),
        ),
        (
            "InstrumentType",
            json!({"enum": InstrumentType::ALL.map(InstrumentType::as_str)}),
        ),
        (
            "Ticker",
            json!({
                "type": "string",
                "minLength": 1,
                "description": "Visible characters, and spaces inside. Case is kept.",
            }),
        ),
        (
            "Mic",
            json!({
                "type": "string",
                "minLength": 4,
                "maxLength": 4,
                "pattern": "^[A-Za-z0-9]{4}$",
            }),
        ),
        (
            "Currency",
            json!({
                "type": "string",
                "minLength": 3,
                "maxLength": 3,
                "pattern": "^([A-Z]{3}|[a-z]{3})$",
                "description": "Never in mixed case: GBp, which is pence, is written GBX.",
            }),
        ),
        ("InstrumentName", json!({"type": "string", "minLength": 1})),
        (
            "TextData",
            json!({
                "type": "object",
                "properties": {"text": {"type": "string", "minLength": 1}},
                "required": ["text"],
                "additionalProperties": false,
            }),
        ),
        (
            "NewOtpData",
            json!({
                "type": "object",
                "properties": {
                    "uri": {
                        "type": "string",
                        "description": "otpauth://<type>/<label>?<parameters>, as authenticator \
                            apps exchange it.",
                    },
                },
                "required": ["uri"],
                "additionalProperties": false,
            }),
        ),
        (
            "TimedOtpData",
            json!({
                "description": "Its codes follow the time. uri and secret only with reveal.",
                "type": "object",
                "properties": {
                    "type": {"enum": ["totp", "steam"]},
                    "issuer": {"type": "string"},
                    "account": {"type": "string"},
                    "algorithm": schema("OtpAlgorithm"),
                    "digits": schema("OtpDigits"),
                    "period_s": schema("OtpPeriod"),
                    "uri": {"type": "string"},
                    "secret": {
                        "type": "string",
                        "description": "Base32 in upper case without padding.",
                    },
                },
                "required": ["type", "algorithm", "digits", "period_s"],
                "additionalProperties": false,
            }),
        ),
        (
            "CountedOtpData",
            json!({
                "description": "Its codes follow a counter. uri and secret only with reveal.",
                "type": "object",
                "properties": {
                    "type": {"const": "hotp"},
                    "issuer": {"type": "string"},
                    "account": {"type": "string"},
                    "algorithm": schema("OtpAlgorithm"),
                    "digits": schema("OtpDigits"),
                    "counter": schema("OtpCounter"),
                    "uri": {"type": "string"},
                    "secret": {
                        "type": "string",
                        "description": "Base32 in upper case without padding.",
                    },
                },
                "required": ["type", "algorithm", "digits", "counter"],
                "additionalProperties": false,
            }),
        ),
        (
            "OtpAlgorithm",
            json!({"enum": ["SHA1", "SHA256", "SHA512"]}),
        ),
        (
            "OtpDigits",
            json!({
                "type": "integer",
                "minimum": 5,
                "maximum": 8,
                "description": "Five for Steam only.",
            }),
        ),
        (
            "OtpPeriod",
            json!({"type": "integer", "minimum": 1, "maximum": 86400}),
        ),
        (
            "OtpCounter",
            json!({"type": "integer", "minimum": 0, "maximum": VERSION_MAX}),
        ),
        (
            "NewCodesData",
            json!({
                "type": "object",
                "properties": {"codes": schema("NewCodes")},
                "required": ["codes"],
                "additionalProperties": false,
            }),
        ),
        (
            "NewCodes",
            json!({
                "type": "array",
                "minItems": 1,
                "uniqueItems": true,
                "items": {"type": "string", "minLength": 1},
            }),
        ),
        (
            "CodesData",
            json!({
                "description": "codes and taken only with reveal.",
                "type": "object",
                "properties": {
                    "remaining": {"type": "integer", "minimum": 0},
                    "total": {"type": "integer", "minimum": 1},
                    "codes": {"type": "array", "items": {"type": "string"}},
                    "taken": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["remaining", "total"],
                "additionalProperties": false,
            }),
        ),
    ]
}
