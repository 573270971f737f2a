//! How things are shown: JSON for machines, tables and lines for people.

use serde_json::Value;
use std::io::{self, Write as _};

/// Prints to the standard output; a reader who has gone away ends the program without a word.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Prints a reply as JSON, for machines.
pub(super) fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Says on the standard error stream, so that JSON stays JSON, that a reply could not be checked.
pub(super) fn tell_if_stale(reply: &Value) {
    if reply["stale"] == true {
        eprintln!("stale: the truth could not be asked, so there may be newer");
    }
}

/// Rows under a heading, each column as wide as its widest entry.
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

/// A text on one line: what moves the cursor or rings the bell is not passed on to a terminal.
pub(super) fn plain(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    text.replace(char::is_control, " ")
}

/// One line that tells what an item is.
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
        assert_eq!(
            table.lines().collect::<Vec<_>>(),
            ["KIND  ID", "text  one", "text  longer"]
        );
    }

    #[test]
    fn a_long_text_is_cut_and_keeps_to_its_line() {
        let item = |text: &str| json!({"kind": "text", "data": {"text": text}});
        assert_eq!(summary(&item("x\ny\u{1b}[2J")), "x y [2J");
        assert_eq!(summary(&item(&"é".repeat(50))).chars().count(), 41);
        let instrument =
            json!({"kind": "instrument", "data": {"type": "stock", "name": "Apple Inc."}});
        assert_eq!(summary(&instrument), "stock Apple Inc.");
    }
}
