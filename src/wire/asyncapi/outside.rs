//! What is no request of a caller: change notifications, the auth service and the reference
//! service.

use super::schema;
use serde_json::{Value, json};

/// Returns the channels by name.
pub(super) fn channels() -> Vec<(&'static str, Value)> {
    vec![
        (
            "changed",
            json!({
                "address": "favorites.changed.{owner}.{record}",
                "description": "Change notifications. The NATS server publishes here for each \
                    record of the owner that the bucket stores. A caller subscribes \
                    to the subject that the operation changes returned as notify. \
                    Its last part is a wildcard. Notifications are best effort: call \
                    changes as well.",
                "parameters": {
                    "owner": {
                        "description": "The owner's name in the bucket, which is a keyed hash.",
                    },
                    "record": {
                        "description": "The record's name in the bucket, which is a keyed hash \
                            or the word key or floor.",
                    },
                },
                "messages": {"ring": {"$ref": "#/components/messages/ring"}},
            }),
        ),
        (
            "authVerify",
            json!({
                "address": "auth.v1.verify",
                "description": "Workers ask the auth service here to verify a token.",
                "messages": {"question": {"$ref": "#/components/messages/question"}},
            }),
        ),
        (
            "authVerifyReply",
            json!({
                "address": null,
                "messages": {"verdict": {"$ref": "#/components/messages/verdict"}},
            }),
        ),
        (
            "authRevoked",
            json!({
                "address": "auth.v1.revoked",
                "description": "The auth service publishes revocations here. Every worker \
                    subscribes.",
                "messages": {
                    "revocation": {"$ref": "#/components/messages/revocation"},
                },
            }),
        ),
        (
            "referenceInstrument",
            json!({
                "address": "reference.v1.instrument",
                "description": "Workers ask the reference service here whether an instrument \
                    exists, if the setting reference.subject names this subject.",
                "messages": {
                    "question": {"$ref": "#/components/messages/instrumentQuestion"},
                },
            }),
        ),
        (
            "referenceInstrumentReply",
            json!({
                "address": null,
                "messages": {
                    "answer": {"$ref": "#/components/messages/instrumentAnswer"},
                },
            }),
        ),
    ]
}

/// Returns the operations by name.
pub(super) fn operations() -> Vec<(&'static str, Value)> {
    vec![
        (
            "ring",
            json!({"action": "send", "channel": {"$ref": "#/channels/changed"}}),
        ),
        (
            "askWhoItIs",
            json!({
                "action": "send",
                "channel": {"$ref": "#/channels/authVerify"},
                "reply": {"channel": {"$ref": "#/channels/authVerifyReply"}},
            }),
        ),
        (
            "hearRevocations",
            json!({
                "action": "receive",
                "channel": {"$ref": "#/channels/authRevoked"},
            }),
        ),
        (
            "askIfItIsReal",
            json!({
                "action": "send",
                "channel": {"$ref": "#/channels/referenceInstrument"},
                "reply": {"channel": {"$ref": "#/channels/referenceInstrumentReply"}},
            }),
        ),
    ]
}

/// Returns the messages by name.
pub(super) fn messages() -> Vec<(&'static str, Value)> {
    vec![
        (
            "ring",
            json!({
                "description": "Headers of the NATS server, and no body.",
                "payload": {"type": "string", "maxLength": 0},
            }),
        ),
        (
            "question",
            json!({
                "headers": {
                    "type": "object",
                    "properties": {"traceparent": {"type": "string"}},
                },
                "payload": {
                    "type": "object",
                    "properties": {
                        "token": {
                            "type": "string",
                            "description": "The caller's token. Empty if a worker only probes \
                                the auth service.",
                        },
                    },
                    "required": ["token"],
                },
            }),
        ),
        (
            "verdict",
            json!({
                "contentType": "application/jwt",
                "description": "Token introspection as a signed JWT (RFC 9701). The worker \
                    checks the signature (EdDSA, ES256 or RS256, as its settings \
                    allow), typ, iss and aud, and that iat is not older than \
                    auth.verdict_max_age_ms. EdDSA may be called Ed25519 (RFC 9864).",
                "payload": {"type": "string"},
                "x-jwt-typ": "token-introspection+jwt",
                "x-jwt-claims": schema("VerdictClaims"),
            }),
        ),
        (
            "revocation",
            json!({
                "contentType": "application/jwt",
                "description": "A security event as a signed JWT (RFC 8417). The worker checks \
                    the signature, typ, iss and aud as for a verdict, and that iat \
                    is not in the future.",
                "payload": {"type": "string"},
                "x-jwt-typ": "secevent+jwt",
                "x-jwt-claims": schema("RevocationClaims"),
            }),
        ),
        (
            "instrumentQuestion",
            json!({
                "headers": {
                    "type": "object",
                    "properties": {"traceparent": {"type": "string"}},
                },
                "payload": schema("InstrumentQuestion"),
            }),
        ),
        (
            "instrumentAnswer",
            json!({
                "description": "A worker treats a reply with the header Nats-Service-Error-Code, \
                    and one that it cannot read, as no answer. It ignores a field \
                    that breaks a rule of instruments.",
                "payload": schema("InstrumentAnswer"),
            }),
        ),
    ]
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "InstrumentQuestion",
            json!({
                "oneOf": [
                    {
                        "type": "object",
                        "properties": {
                            "isin": {
                                "type": "string",
                                "description": "Empty if a worker only probes the reference \
                                    service.",
                            },
                        },
                        "required": ["isin"],
                        "additionalProperties": false,
                    },
                    {
                        "type": "object",
                        "properties": {
                            "mic": {"type": "string"},
                            "ticker": {"type": "string"},
                        },
                        "required": ["mic", "ticker"],
                        "additionalProperties": false,
                    },
                ],
            }),
        ),
        (
            "InstrumentAnswer",
            json!({
                "type": "object",
                "description": "Other fields are ignored, and so is a name, ticker, mic or \
                    currency that breaks its rule.",
                "properties": {
                    "found": {
                        "type": "boolean",
                        "description": "Whether the instrument exists.",
                    },
                    "name": {"type": "string"},
                    "ticker": {"type": "string"},
                    "mic": {"type": "string"},
                    "currency": {"type": "string"},
                },
                "required": ["found"],
            }),
        ),
        (
            "VerdictClaims",
            json!({
                "type": "object",
                "properties": {
                    "iss": {
                        "type": "string",
                        "description": "Equals the setting auth.issuer.",
                    },
                    "aud": {"description": "Contains the setting auth.audience."},
                    "iat": {
                        "type": "number",
                        "description": "The time of the signature, in seconds since 1970. It may \
                            have a fraction, as every time here.",
                    },
                    "token_sha256": {
                        "type": "string",
                        "description": "SHA-256 of the token in question as base64url.",
                    },
                    "token_introspection": {
                        "type": "object",
                        "properties": {
                            "active": {"type": "boolean"},
                            "sub": {
                                "type": "string",
                                "description": "Identifies the owner together with iss. Required \
                                    if active is true.",
                            },
                            "scope": {
                                "type": "string",
                                "description": "The scopes of the token separated by spaces.",
                            },
                            "iss": {
                                "type": "string",
                                "description": "The issuer of the token. Equals the setting \
                                    auth.issuer, or is one of auth.token_issuers.",
                            },
                            "exp": {
                                "type": "number",
                                "description": "The verdict is not cached beyond this time.",
                            },
                            "sid": {
                                "type": "string",
                                "description": "The session. A revocation can name it.",
                            },
                        },
                        "required": ["active"],
                    },
                },
                "required": [
                    "iss",
                    "aud",
                    "iat",
                    "token_sha256",
                    "token_introspection",
                ],
            }),
        ),
        (
            "RevocationClaims",
            json!({
                "type": "object",
                "description": "Has a sub, a sid, or both. Cached verdicts that match are \
                    dropped.",
                "properties": {
                    "iss": {
                        "type": "string",
                        "description": "Equals the setting auth.issuer.",
                    },
                    "aud": {"description": "Contains the setting auth.audience."},
                    "iat": {"type": "number"},
                    "sub": {"type": "string"},
                    "sid": {"type": "string"},
                    "events": {"type": "object", "minProperties": 1},
                },
                "required": ["iss", "aud", "iat", "events"],
            }),
        ),
    ]
}
