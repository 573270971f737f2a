//! Output: JSON for machines, tables and lines for people.

use serde_json::Value;
use std::io::{self, Write as _};

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

/// Returns a value as text on one line. Control characters become spaces, so that the text cannot
/// control the reader's terminal.
pub(super) fn plain(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);

    text.replace(char::is_control, " ")
}

/// Returns one line that describes an item.
pub(super) fn summary(item: &Value) -> String {
    let data = &item["data"];
    let text = |value: &Value| value.as_str().map(|_| plain(value)).unwrap_or_default();

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
        _ => String::new(),
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
