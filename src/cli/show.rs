//! Output: JSON for machines, tables and lines for people.

use serde_json::Value;
use std::io::{self, IsTerminal as _, Write as _};
use zeroize::Zeroizing;

/// Prints to the standard output. If its reader has closed it, the program ends without an error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Prints a reply as JSON, for machines.
pub(super) fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Warns if the service could not check whether a reply is current. The warning goes to the
/// standard error stream, so that JSON output stays JSON.
pub(super) fn warn_if_stale(reply: &Value) {
    if reply["stale"] == true {
        eprintln!("stale: the bucket could not be asked, so there may be newer data");
    }
}

/// Formats rows under a heading, each column as wide as its widest entry.
pub(super) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(heading.map(str::to_owned))
        .chain(rows)
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);

    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }

    out
}

/// Returns a value as text on one line, with nothing hidden in it.
pub(super) fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => visible(text),
        None => visible(&value.to_string()),
    }
}

/// Returns a text on one line, with nothing hidden in it.
///
/// Control characters become spaces, so that the text cannot control the reader's terminal.
/// Characters that are not seen, or that reorder others, are escaped, so that no text looks like
/// another one.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.push(' ');
        } else if is_hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }

    out
}

/// Returns whether a character is invisible, or breaks or reorders the line that it is in.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Returns a text for the standard output: as it is for a program that reads it, and by lines with
/// nothing hidden in them for a terminal.
pub(super) fn for_output(text: &str) -> String {
    if !io::stdout().is_terminal() {
        return text.to_owned();
    }

    let lines = text.lines().map(|line| visible(line) + "\n");
    lines.collect()
}

/// Returns a secret for the standard output: as it is for a program that reads it, and with nothing
/// hidden in it for a terminal.
pub(super) fn output_secret(secret: &Value) -> Zeroizing<String> {
    let text = secret.as_str().unwrap_or_default();
    if io::stdout().is_terminal() {
        return Zeroizing::new(visible(text));
    }

    Zeroizing::new(text.to_owned())
}

/// Returns the line about an item that was kept.
pub(super) fn kept(item: &Value) -> String {
    format!(
        "kept {} {} at version {}: {}",
        plain(&item["kind"]),
        plain(&item["id"]),
        item["version"],
        summary(item)
    )
}

/// Prints the reply to a write that kept an item, as JSON or for people.
pub(super) fn print_kept(reply: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_json(reply);
    }

    print(&format!("{}\n", kept(&reply["item"])))
}

/// Returns a number of things: `1 item`, `2 items`.
pub(super) fn count(number: &Value, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };

    format!("{number} {thing}{ending}")
}

/// Returns one line that describes an item.
pub(super) fn summary(item: &Value) -> String {
    let data = &item["data"];
    let text = |value: &Value| value.as_str().map(|_| plain(value)).unwrap_or_default();

    if item["unknown"] == true {
        return "unknown kind".to_owned();
    }
    match item["kind"].as_str() {
        Some("instrument") => [&data["type"], &data["ticker"], &data["name"]]
            .into_iter()
            .map(text)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
        Some("text") => {
            let text = text(&data["text"]);
            let cut: String = text.chars().take(40).collect();
            if cut.len() < text.len() {
                format!("{cut}…")
            } else {
                cut
            }
        }
        Some("otp") => {
            let names = [&data["issuer"], &data["account"]].into_iter().map(text);
            let method = format!("({})", text(&data["type"]));
            names
                .chain([method])
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        }
        Some("codes") => format!("{} of {} left", data["remaining"], data["total"]),
        _ => "unknown kind".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_entry() {
        let rows = [["text", "one"], ["text", "longer"]].map(|row| row.map(str::to_owned));

        let table = table(["KIND", "ID"], rows);

        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines, ["KIND  ID", "text  one", "text  longer"]);
    }

    #[test]
    fn a_text_is_shown_on_one_line() {
        let item = json!({"kind": "text", "data": {"text": "x\ny\u{1b}[2J"}});

        assert_eq!(summary(&item), "x y [2J");
    }

    #[test]
    fn hidden_characters_are_escaped() {
        let reordered = json!("a\u{202e}b\u{200b}c\u{feff}");

        assert_eq!(plain(&reordered), "a\\u{202e}b\\u{200b}c\\u{feff}");
        for range in [
            0x200b..=0x200f,
            0x202a..=0x202e,
            0x2060..=0x2064,
            0x2066..=0x206f,
            0xad..=0xad,
            0x61c..=0x61c,
            0x180e..=0x180e,
        ] {
            for c in range.filter_map(char::from_u32) {
                assert_eq!(visible(&c.to_string()), c.escape_unicode().to_string());
            }
        }
        assert_eq!(visible("Naïve Ελλάδα 日本"), "Naïve Ελλάδα 日本");
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
    }

    #[test]
    fn things_are_counted() {
        assert_eq!(count(&json!(1), "item"), "1 item");
        assert_eq!(count(&json!(0), "item"), "0 items");
    }

    #[test]
    fn a_long_text_is_cut() {
        let item = json!({"kind": "text", "data": {"text": "é".repeat(50)}});

        assert_eq!(summary(&item).chars().count(), 41);
    }

    #[test]
    fn an_instrument_is_shown_by_the_fields_that_it_has() {
        let instrument =
            json!({"kind": "instrument", "data": {"type": "stock", "name": "Apple Inc."}});

        assert_eq!(summary(&instrument), "stock Apple Inc.");
    }
}
