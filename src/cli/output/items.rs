//! Items, as people read them.

use super::style::BAD;
use super::table::{Cell, Column, Table, cut};
use super::text::plain;
use serde_json::{Value, json};

/// The longest text of an item in a line about it, in cells.
const SUMMARY_CELLS_MAX: usize = 40;

/// Returns the line about an item that was kept.
pub(in crate::cli) fn kept(item: &Value) -> String {
    format!(
        "kept {} {} at version {}: {}",
        plain(&item["kind"]),
        plain(&item["id"]),
        item["version"],
        summary(item)
    )
}

/// Returns one line that describes an item, with the beginning of a long text.
pub(in crate::cli) fn summary(item: &Value) -> String {
    let description = description(item);
    if item["kind"] == "text" {
        return cut(&description, SUMMARY_CELLS_MAX, "…");
    }

    description
}

/// Returns one line that describes an item.
pub(in crate::cli) fn description(item: &Value) -> String {
    let data = &item["data"];
    let text = |value: &Value| value.as_str().map(|_| plain(value)).unwrap_or_default();
    let joined = |parts: &[String]| {
        let parts = parts.iter().filter(|part| !part.is_empty());
        parts.cloned().collect::<Vec<_>>().join(" ")
    };

    if item["deleted"] == true {
        return "deleted".to_owned();
    }
    match item["kind"].as_str() {
        _ if item["unknown"] == true => "unknown kind".to_owned(),
        Some("instrument") => joined(&["type", "ticker", "name"].map(|field| text(&data[field]))),
        Some("text") => text(&data["text"]),
        Some("otp") => {
            let method = format!("({})", text(&data["type"]));
            joined(&[text(&data["issuer"]), text(&data["account"]), method])
        }
        Some("codes") => format!("{} of {} left", data["remaining"], data["total"]),
        _ => "unknown kind".to_owned(),
    }
}

/// Returns an item's tags with commas between them. A tag that could be misread is quoted as in
/// JSON.
pub(in crate::cli) fn tags(item: &Value) -> String {
    let tags = item["tags"].as_array().into_iter().flatten();
    let tags: Vec<String> = tags.map(|tag| quoted(&plain(tag))).collect();

    tags.join(",")
}

fn quoted(tag: &str) -> String {
    let is_misread = tag.contains([',', '"', '\'']) || tag.trim() != tag;

    if is_misread {
        json!(tag).to_string()
    } else {
        tag.to_owned()
    }
}

/// Returns the table of items.
pub(in crate::cli) fn item_table<'i>(items: impl IntoIterator<Item = &'i Value>) -> Table {
    let columns = [
        Column::words("KIND"),
        Column::words("ID"),
        Column::free_text("WHAT"),
        Column::free_text("TAGS"),
        Column::numbers("VERSION"),
        Column::times("UPDATED"),
    ];

    Table::new(columns).with_rows(items.into_iter().map(|item| {
        vec![
            plain(&item["kind"]).into(),
            plain(&item["id"]).into(),
            what(item),
            tags(item).into(),
            plain(&item["version"]).into(),
            plain(&item["updated_at"]).into(),
        ]
    }))
}

/// Returns the cell that describes an item.
pub(in crate::cli) fn what(item: &Value) -> Cell {
    let description = description(item);
    if item["deleted"] == true {
        return Cell::styled(description, BAD);
    }

    description.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_on_one_line() {
        let item = json!({"kind": "text", "data": {"text": "x\ny\u{1b}[2J"}});

        assert_eq!(summary(&item), "x y [2J");
    }

    #[test]
    fn hidden_data_are_described() {
        let otp = json!({"type": "totp", "issuer": "Bank", "account": "a"});
        let bare = json!({"type": "hotp"});
        let codes = json!({"remaining": 7, "total": 10});

        for (kind, data, expected) in [
            ("otp", otp, "Bank a (totp)"),
            ("otp", bare, "(hotp)"),
            ("codes", codes, "7 of 10 left"),
            ("later", Value::Null, "unknown kind"),
        ] {
            assert_eq!(summary(&json!({"kind": kind, "data": data})), expected);
        }
        let unknown = json!({"kind": "text", "unknown": true});
        let deleted = json!({"kind": "text", "deleted": true});
        assert_eq!(summary(&unknown), "unknown kind");
        assert_eq!(summary(&deleted), "deleted");
    }

    #[test]
    fn a_line_has_the_beginning_of_a_long_text() {
        let item = json!({"kind": "text", "data": {"text": "é".repeat(50)}});

        assert_eq!(summary(&item).chars().count(), 40);
        assert_eq!(description(&item).chars().count(), 50);
    }

    #[test]
    fn an_instrument_is_shown_by_the_fields_that_it_has() {
        let instrument =
            json!({"kind": "instrument", "data": {"type": "stock", "name": "Apple Inc."}});

        assert_eq!(summary(&instrument), "stock Apple Inc.");
    }

    #[test]
    fn a_tag_with_a_comma_is_one_tag() {
        for (list, expected) in [
            (json!(["a", "b c"]), "a,b c"),
            (json!(["a,b", "c"]), "\"a,b\",c"),
            (json!(["a\"", " b"]), "\"a\\\"\",\" b\""),
            (json!([]), ""),
        ] {
            assert_eq!(tags(&json!({"tags": list})), expected);
        }
    }
}
