//! What a parser finds in a file.

use super::new_item::NewItem;
use serde_json::Value;

/// What a file holds, in its order.
#[derive(Default)]
pub(super) struct Parsed {
    pub entries: Vec<Found>,
    pub parts: Vec<Part>,
}

/// An entry of a file: an item, or why it is none. The reason repeats nothing of the entry.
pub(super) struct Found {
    /// Where it stands in the file: `line 3`.
    pub place: String,
    pub item: Result<NewItem, String>,
}

/// A part of an export of Google Authenticator, which splits a large one over several QR codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it stands in the file.
    pub place: String,
    /// The number that all parts of an export share.
    pub batch: u64,
    /// How many parts the export has.
    pub size: u64,
    /// Which part this is, counted from 0.
    pub index: u64,
}

impl Parsed {
    /// Adds an entry.
    pub fn push(&mut self, place: String, item: Result<NewItem, String>) {
        self.entries.push(Found { place, item });
    }
}

/// Parses the entries of a list in JSON, each by itself.
pub(super) fn parse_entries(
    entries: &[Value],
    parse: impl Fn(&Value) -> Result<NewItem, String>,
) -> Parsed {
    let mut parsed = Parsed::default();
    for (index, entry) in entries.iter().enumerate() {
        parsed.push(format!("entry {}", index + 1), parse(entry));
    }

    parsed
}

/// Parses a file of JSON. The error repeats nothing of the file.
pub(super) fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("the file is not JSON: see line {}", error.line()))
}

/// Returns a text of a JSON object; an absent one and null are empty.
pub(super) fn text<'v>(entry: &'v Value, name: &str) -> Result<&'v str, String> {
    match &entry[name] {
        Value::Null => Ok(""),
        value => value
            .as_str()
            .ok_or_else(|| format!("the field {name} is not a text")),
    }
}

/// Returns a whole number of a JSON object, if it is there.
pub(super) fn number(entry: &Value, name: &str) -> Result<Option<u64>, String> {
    match &entry[name] {
        Value::Null => Ok(None),
        value => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| format!("the field {name} is not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_of_the_wrong_type_is_named_and_not_repeated() {
        let entry = json!({"secret": 7777, "digits": "hush", "name": null});

        assert_eq!(text(&entry, "name"), Ok(""));
        assert_eq!(number(&entry, "period"), Ok(None));
        assert_eq!(
            text(&entry, "secret"),
            Err("the field secret is not a text".to_owned())
        );
        assert_eq!(
            number(&entry, "digits"),
            Err("the field digits is not a whole number".to_owned())
        );
        assert_eq!(
            text(&json!("hush"), "name"),
            Ok(""),
            "an entry that is no object has no field"
        );
    }

    #[test]
    fn what_is_not_json_is_not_repeated() {
        let error = parse_json("{\n\"hush\": hush}").expect_err("no JSON");

        assert_eq!(error, "the file is not JSON: see line 2");
    }
}
