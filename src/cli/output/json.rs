//! JSON and YAML, with the fields in the order of the contract.

use crate::wire::{FIELDS, Ordered, yaml_in_order};
use serde_json::Value;

/// Returns the value as JSON on several lines.
pub(super) fn pretty_json(value: &Value) -> String {
    serde_json::to_string_pretty(&Ordered(value)).unwrap_or_else(|_| format!("{value:#}"))
}

/// Returns the value as JSON on one line.
pub(in crate::cli) fn json_line(value: &Value) -> String {
    serde_json::to_string(&Ordered(value)).unwrap_or_else(|_| value.to_string())
}

/// Returns the value as YAML.
pub(super) fn ordered_yaml(value: &Value) -> String {
    yaml_in_order(value, &FIELDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_form_has_the_fields_in_order() {
        let value = json!({"id": "a", "kind": "text"});

        assert_eq!(json_line(&value), "{\"kind\":\"text\",\"id\":\"a\"}");
        assert_eq!(
            pretty_json(&value),
            "{\n  \"kind\": \"text\",\n  \"id\": \"a\"\n}"
        );
        assert_eq!(ordered_yaml(&value), "kind: \"text\"\nid: \"a\"\n");
    }
}
