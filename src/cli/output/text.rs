//! Texts that are safe to show, and the way to the standard output.

use super::json::pretty_json;
use serde_json::Value;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use zeroize::Zeroizing;

/// Prints to the standard output. If its reader has closed it, the program ends without an error.
pub(in crate::cli) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Prints a reply as JSON, for machines.
pub(in crate::cli) fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&format!("{}\n", pretty_json(value)))
}

/// Returns a value as text on one line, with nothing hidden in it.
pub(in crate::cli) fn plain(value: &Value) -> String {
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
pub(in crate::cli) fn visible(text: &str) -> String {
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
pub(in crate::cli) fn for_output(text: &str) -> String {
    if !io::stdout().is_terminal() {
        return text.to_owned();
    }

    let lines = text.lines().map(|line| visible(line) + "\n");
    lines.collect()
}

/// Returns a secret for the standard output: as it is for a program that reads it, and with nothing
/// hidden in it for a terminal.
pub(in crate::cli) fn output_secret(secret: &Value) -> Zeroizing<String> {
    let text = secret.as_str().unwrap_or_default();
    if io::stdout().is_terminal() {
        return Zeroizing::new(visible(text));
    }

    Zeroizing::new(text.to_owned())
}

/// Returns a number of things: `1 item`, `2 items`.
pub(in crate::cli) fn count(number: impl Display, thing: &str) -> String {
    let number = number.to_string();
    let ending = if number == "1" { "" } else { "s" };

    format!("{number} {thing}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn things_are_counted() {
        assert_eq!(count(1, "item"), "1 item");
        assert_eq!(count(0, "item"), "0 items");
    }
}
