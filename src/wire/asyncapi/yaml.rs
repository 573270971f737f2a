//! Writes a JSON value as YAML that people can read.

use serde_json::{Map, Value};

/// The fields of the document that come first, in this order. All others follow in the order of
/// their names.
const FIRST: [&str; 7] = [
    "asyncapi",
    "info",
    "defaultContentType",
    "servers",
    "channels",
    "operations",
    "components",
];

/// The maximum length of a value on one line, in bytes.
const LINE_BYTES_MAX: usize = 100;

/// Returns the document as YAML. Texts are quoted as in JSON, which is a part of YAML.
pub fn yaml(value: &Value) -> String {
    yaml_in_order(value, &FIRST)
}

/// Returns the value as YAML, with these fields first. All others follow in the order of their
/// names.
pub fn yaml_in_order(value: &Value, first: &[&str]) -> String {
    let mut text = String::new();
    write(value, 0, first, &mut text);

    text
}

fn write(value: &Value, depth: usize, first: &[&str], text: &mut String) {
    let indent = "  ".repeat(depth);

    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in in_order(fields, first) {
                *text += &format!("{indent}{}:", key(name));
                write_below(field, depth, first, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                *text += &format!("{indent}-");
                write_below(item, depth, first, text);
            }
        }
        other => *text += &format!("{indent}{}\n", flow(other, first)),
    }
}

fn in_order<'f>(fields: &'f Map<String, Value>, first: &[&str]) -> Vec<(&'f String, &'f Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(name, _)| {
        let position = first.iter().position(|one| one == name);
        position.unwrap_or(first.len())
    });

    fields
}

/// Writes what follows a name or a dash: on the same line if it is short, else below it.
fn write_below(value: &Value, depth: usize, first: &[&str], text: &mut String) {
    let line = flow(value, first);
    let is_nested = value.as_object().is_some_and(|fields| {
        let mut fields = fields.values();
        fields.any(|field| matches!(field, Value::Object(fields) if !fields.is_empty()))
    });
    let is_scalar = !value.is_object() && !value.is_array();

    if is_scalar || line.len() + 2 * depth <= LINE_BYTES_MAX && !is_nested {
        *text += &format!(" {line}\n");
    } else {
        text.push('\n');
        write(value, depth + 1, first, text);
    }
}

/// Returns the value on one line.
fn flow(value: &Value, first: &[&str]) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = in_order(fields, first)
                .into_iter()
                .map(|(name, field)| format!("{}: {}", key(name), flow(field, first)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| flow(item, first)).collect();
            format!("[{}]", items.join(", "))
        }
        other => quoted(other),
    }
}

/// Returns a text, a number or another value without parts as in JSON. Characters that JSON takes
/// and YAML does not, or takes for line breaks, are escaped.
fn quoted(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                text += &format!("\\u{:04x}", u32::from(c));
            }
            other => text.push(other),
        }
    }

    text
}

/// Returns the name of a field, without quotes where YAML needs none.
fn key(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
            .contains(&name.to_ascii_lowercase().as_str());

    if is_plain {
        name.to_owned()
    } else {
        quoted(&Value::from(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn texts_that_yaml_could_misread_are_quoted() {
        let value = json!({"$ref": "#/a", "no": "yes", "b": [1, null, "3"], "asyncapi": "3.0.0"});

        assert_eq!(
            yaml(&value),
            "asyncapi: \"3.0.0\"\n\"$ref\": \"#/a\"\nb: [1, null, \"3\"]\n\"no\": \"yes\"\n"
        );
    }

    #[test]
    fn the_named_fields_are_first() {
        let value = json!({"a": 1, "kind": "text", "id": [{"b": 1, "id": 2}]});

        assert_eq!(
            yaml_in_order(&value, &["kind", "id"]),
            "kind: \"text\"\nid: [{id: 2, b: 1}]\na: 1\n"
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ \\t\\n\u{85}\u{2028}\u{7f}\u{feff}:#'\"a-c\\[\\]{},-]{0,80}".prop_map(Value::from),
        ];

        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[\\PC\u{85}]{0,6}|Yes|no", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(value in values()) {
            let text = yaml(&value);

            let read: Value = serde_yaml_ng::from_str(&text).expect("YAML");

            prop_assert_eq!(read, value);
        }
    }
}
