//! A refusal in the words of the command line: options and arguments where the service names the
//! fields of a request.

use crate::client::Refused;
use serde_json::Value;

/// What a person gives where a request has this field.
const FIELDS: [(&str, &str); 19] = [
    ("data.type", "--type"),
    ("data.ticker", "--ticker"),
    ("data.mic", "--mic"),
    ("data.currency", "--currency"),
    ("data.name", "--name"),
    ("data.text", "--text"),
    ("data.isin", "ID"),
    ("id", "ID"),
    ("kind", "KIND"),
    ("tags", "--tag"),
    ("meta", "--meta"),
    ("limit", "--limit"),
    ("cursor", "--cursor"),
    ("before", "--before"),
    ("version", "--version"),
    ("consistency", "--consistency"),
    ("tag", "--tag"),
    ("since", "--since"),
    ("epoch", "--epoch"),
];

/// What a person gives where a message names this.
const NAMES: [(&str, &str); 4] = [
    ("if_version", "--if-version"),
    ("if_owner_version", "--if-owner-version"),
    ("min_version", "--min-version"),
    ("Nats-Msg-Id", "--request-id"),
];

/// Returns the message of a refusal, with options and arguments.
pub(super) fn in_flags(refused: &Refused, body: &Value) -> String {
    let message = match refused.field().and_then(|field| {
        let reason = refused.message.strip_prefix(field)?.strip_prefix(": ")?;
        Some((field, reason))
    }) {
        Some(("data", reason)) => {
            let remedy = match body["kind"].as_str() {
                Some("instrument") => "give --type",
                Some("text") => "give --text",
                Some("otp") => "`otp add` stores one",
                _ => "`codes new` stores one",
            };
            format!("{reason}: {remedy}")
        }
        Some((field, reason)) => format!("{}: {reason}", flag(field)),
        None => refused.message.clone(),
    };

    with_names(&message)
}

/// Returns what a person gives where a request has a field.
fn flag(field: &str) -> &str {
    // An element of a list or of an object is given with the same option.
    let whole = field.split('[').next().unwrap_or(field);
    let whole = if whole.starts_with("meta.") {
        "meta"
    } else {
        whole
    };

    FIELDS
        .iter()
        .find(|(name, _)| *name == whole)
        .map_or(field, |(_, flag)| flag)
}

/// Returns the message with options in the place of the names of fields, word by word.
fn with_names(message: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);

    message
        .split_inclusive(|c| !is_name(c))
        .map(|part| {
            let word = part.trim_end_matches(|c| !is_name(c));
            match NAMES.iter().find(|(name, _)| *name == word) {
                Some((_, option)) => part.replacen(word, option, 1),
                None => part.to_owned(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(message: &str, field: Option<&str>) -> String {
        let details = field.map_or(json!({}), |field| json!({"field": field}));
        let error =
            json!({"code": "bad_request", "status": 400, "message": message, "details": details});

        let body = json!({"kind": "text"});
        in_flags(&serde_json::from_value(error).expect("a refusal"), &body)
    }

    #[test]
    fn a_field_is_named_by_its_option() {
        for (message, field, expected) in [
            (
                "data.type: is missing",
                Some("data.type"),
                "--type: is missing",
            ),
            ("tags[1]: is empty", Some("tags[1]"), "--tag: is empty"),
            ("meta.x: is too long", Some("meta.x"), "--meta: is too long"),
            (
                "if_version: must be lower",
                Some("if_version"),
                "--if-version: must be lower",
            ),
            ("if_version is 1", None, "--if-version is 1"),
            (
                "this Nats-Msg-Id stands for another",
                None,
                "this --request-id stands for another",
            ),
            ("ops[0].data: x", Some("ops[0].data"), "ops[0].data: x"),
        ] {
            assert_eq!(said(message, field), expected);
        }
    }

    #[test]
    fn missing_data_are_asked_for() {
        let said = said(
            "data: there is no such item yet, so its data is needed",
            Some("data"),
        );

        assert!(said.ends_with(": give --text"), "{said}");
    }
}
