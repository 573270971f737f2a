//! Templates: what is printed of each item, such as `{kind} {id} {data.name}`.

use super::items::tags;
use super::text::plain;
use crate::wire::FIELDS;
use serde_json::Value;

/// The fields that an item may have, for an error.
const ITEM_FIELDS: &str = "kind, id, data.<name>, meta.<name>, tags, place, version, deleted, \
                           created_at, updated_at";

/// A line for each item, with fields of the item in it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// The names that lead to a field.
    Field(Vec<String>),
}

impl Template {
    /// Parses a template. `{{` and `}}` are braces, `\t` is a tab and `\n` a line break.
    ///
    /// # Errors
    /// A brace without its partner, or a field that nothing has.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;

        while let Some(first) = rest.chars().next() {
            let (taken, stands_for) = match rest.get(..2) {
                Some("{{") => (2, "{"),
                Some("}}") => (2, "}"),
                Some("\\t") => (2, "\t"),
                Some("\\n") => (2, "\n"),
                _ => (first.len_utf8(), &rest[..first.len_utf8()]),
            };
            if taken == 1 && first == '}' {
                return Err("a } without its {; write }} for a brace".to_owned());
            }
            if taken == 1 && first == '{' {
                let (name, after) = rest[1..]
                    .split_once('}')
                    .ok_or("a { without its }; write {{ for a brace")?;
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Field(parse_field(name)?));
                rest = after;
                continue;
            }
            plain.push_str(stands_for);
            rest = &rest[taken..];
        }

        parts.push(Part::Text(plain));
        Ok(Self(parts))
    }

    /// Returns the line for an item. A field that it does not have is empty.
    pub fn fill(&self, item: &Value) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(names) => shown(names, item),
        });

        parts.collect()
    }
}

/// Parses the name of a field. Under `meta` every name is possible, and it may have dots in it. Of
/// other fields with parts, only those of an item's data are known here.
fn parse_field(name: &str) -> Result<Vec<String>, String> {
    if let Some(key) = name.strip_prefix("meta.") {
        return Ok(vec!["meta".to_owned(), key.to_owned()]);
    }

    let names: Vec<&str> = name.split('.').collect();
    let is_known = match names[..] {
        ["data", part] => FIELDS.contains(&part),
        [first, ..] => FIELDS.contains(&first),
        [] => false,
    };
    if !is_known {
        return Err(format!(
            "there is no field {{{name}}}; an item has {ITEM_FIELDS}, and -o json shows all fields"
        ));
    }

    Ok(names.into_iter().map(str::to_owned).collect())
}

fn shown(names: &[String], item: &Value) -> String {
    let field = names
        .iter()
        .try_fold(item, |value, name| value.get(name.as_str()));

    match field {
        None | Some(Value::Null) => String::new(),
        Some(_) if names == ["tags"] => tags(item),
        Some(value) => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_fields_of_an_item_are_filled_in() {
        let item = json!({
            "kind": "text", "id": "a", "data": {"text": "x\ny"}, "meta": {"a.b": "1"},
            "tags": ["t", "u,v"], "version": 7,
        });
        for (template, expected) in [
            ("{kind} {id}", "text a"),
            ("{version}\\t{data.text}", "7\tx y"),
            ("[{data.name}]", "[]"),
            ("{meta.a.b}{{é}}{tags}", "1{é}t,\"u,v\""),
            ("{data.text.x}", ""),
            ("", ""),
        ] {
            let template = Template::parse(template).expect("well formed");

            assert_eq!(template.fill(&item), expected);
        }
    }

    #[test]
    fn what_no_item_has_is_refused() {
        for (template, part) in [
            ("{nope}", "there is no field {nope}"),
            ("{data.nope}", "{data.nope}"),
            ("{}", "there is no field {}"),
            ("{kind", "without its }"),
            ("kind}", "without its {"),
        ] {
            let error = Template::parse(template).expect_err("refused");

            assert!(error.contains(part), "{error}");
        }
    }
}
