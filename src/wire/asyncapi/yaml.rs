//! Writes a JSON value as YAML that people can read.

use serde_json::Value;

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

/// Returns the value as YAML. Texts are quoted as in JSON, which is a part of YAML.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);

    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);

    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| {
                let first = FIRST.iter().position(|one| one == name);
                first.unwrap_or(FIRST.len())
            });

            for (name, field) in fields {
                *text += &format!("{indent}{}:", key(name));
                write_below(field, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                *text += &format!("{indent}-");
                write_below(item, depth, text);
            }
        }
        other => *text += &format!("{indent}{other}\n"),
    }
}

/// Writes what follows a name or a dash: on the same line if it is short, else below it.
fn write_below(value: &Value, depth: usize, text: &mut String) {
    let line = flow(value);
    let is_nested = value.as_object().is_some_and(|fields| {
        let mut fields = fields.values();
        fields.any(|field| matches!(field, Value::Object(fields) if !fields.is_empty()))
    });
    let is_scalar = !value.is_object() && !value.is_array();

    if is_scalar || line.len() + 2 * depth <= LINE_BYTES_MAX && !is_nested {
        *text += &format!(" {line}\n");
    } else {
        text.push('\n');
        write(value, depth + 1, text);
    }
}

/// Returns the value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, field)| format!("{}: {}", key(name), flow(field)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Returns the name of a field, without quotes where YAML needs none.
fn key(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&name);

    if is_plain {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_that_yaml_could_misread_are_quoted() {
        let value = json!({"$ref": "#/a", "no": "yes", "b": [1, null, "3"], "asyncapi": "3.0.0"});

        assert_eq!(
            yaml(&value),
            "asyncapi: \"3.0.0\"\n\"$ref\": \"#/a\"\nb: [1, null, \"3\"]\n\"no\": \"yes\"\n"
        );
    }
}
