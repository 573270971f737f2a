//! The symbol of an instrument on a market.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// The symbol of an instrument on a market, such as `AAPL`, `BRK B` or `SiZ6`.
///
/// It is UTF-8 without characters that a reader cannot see: no control and format characters, and
/// of the separators only the space U+0020, inside. Two symbols that look alike are then more
/// likely to be the same. Case is preserved, because some markets distinguish it. The stored form
/// is the bare text and is not validated again when it is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticker(String);

opaque_debug!(Ticker);

const FIELD: &str = "ticker";

/// The format characters (category Cf of Unicode 16.0), as ranges in ascending order. The
/// bidirectional controls and the zero-width characters are among them.
const FORMAT: [(char, char); 21] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

impl Ticker {
    /// Parses a ticker of 1 to [`ItemLimits::ticker_bytes`] bytes.
    ///
    /// # Errors
    /// [`Invalid`] for `ticker`. The reason names the first character that is not allowed, and its
    /// position.
    pub fn parse(text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::bounded(text, limits.ticker_bytes, FIELD)?;

        if let Some((index, c)) = text.chars().enumerate().find(|(_, c)| is_hidden(*c)) {
            let reason = format!(
                "character {} is U+{:04X}; control, format and separator characters other than \
                 the space U+0020 are not allowed",
                index + 1,
                u32::from(c)
            );
            return Err(Invalid::new(FIELD, reason));
        }

        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(Invalid::new(FIELD, "must not begin or end with a space"));
        }

        Ok(Self(text.to_owned()))
    }

    /// Returns the ticker, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether the character is a control character (category Cc), a format character (Cf), or
/// a separator (Zl, Zp, Zs) other than the space U+0020.
fn is_hidden(c: char) -> bool {
    // White space is exactly the separators and some control characters.
    let is_separator = c.is_whitespace() && c != ' ';

    c.is_control() || is_separator || is_format(c)
}

fn is_format(c: char) -> bool {
    let index = FORMAT.partition_point(|(_, last)| *last < c);

    FORMAT.get(index).is_some_and(|(first, _)| *first <= c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Ticker, Invalid> {
        Ticker::parse(text, &ItemLimits::default())
    }

    #[test]
    fn a_ticker_is_kept_as_it_was_sent() {
        for text in [
            "AAPL", "brk.B", "BRK B", "NOVO B", "A  B", "SiZ6", "7203", "EUR/USD", "^GSPC", "A:B",
            "ES=F", "СБЕР", "é", "腾讯", "👍",
        ] {
            let ticker = parse(text);
            assert_eq!(ticker.as_ref().map(Ticker::as_str), Ok(text));
        }
    }

    #[test]
    fn the_length_counts_bytes() {
        let limits = ItemLimits {
            ticker_bytes: 4,
            ..ItemLimits::default()
        };

        assert!(Ticker::parse("éé", &limits).is_ok());
        for text in ["", "ABCDE", "ééé"] {
            let invalid = Ticker::parse(text, &limits).expect_err("this one is wrong");
            assert_eq!(invalid.field, "ticker");
        }
    }

    #[test]
    fn a_hidden_character_is_named_with_its_position() {
        let controls = "\0\t\n\u{7f}\u{85}";
        let separators = "\u{a0}\u{1680}\u{2003}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
        let formats = "\u{ad}\u{61c}\u{180e}\u{200b}\u{200d}\u{200f}\u{202e}\u{2060}\u{2066}\
                       \u{2069}\u{feff}\u{1343f}\u{e0041}";

        for c in [controls, separators, formats].concat().chars() {
            let invalid = parse(&format!("é{c}B")).expect_err("a hidden character");

            let reason = format!("character 2 is U+{:04X}; ", u32::from(c));
            assert_eq!(invalid.field, "ticker");
            assert!(invalid.reason.starts_with(&reason), "{}", invalid.reason);
        }
    }

    #[test]
    fn a_space_at_either_end_is_refused() {
        for text in [" A", "A ", " ", "  A"] {
            let reason = "must not begin or end with a space";
            assert_eq!(parse(text), Err(Invalid::new("ticker", reason)));
        }
    }

    #[test]
    fn the_ranges_of_format_characters_ascend() {
        assert!(FORMAT.iter().all(|(first, last)| first <= last));
        assert!(FORMAT.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn both_ends_of_each_range_are_format_characters() {
        for (first, last) in FORMAT {
            assert!(is_format(first) && is_format(last), "{first:?}");
        }
        for c in "\u{ac}\u{ae}\u{200a}\u{2010}\u{2065}\u{e0080}".chars() {
            assert!(!is_format(c), "{c:?}");
        }
    }

    #[test]
    fn debug_does_not_print_the_ticker() {
        assert_eq!(format!("{:?}", parse("AAPL")), "Ok(Ticker)");
    }

    proptest! {
        #[test]
        fn a_parsed_ticker_parses_again(text in "\\PC{0,12}") {
            if let Ok(ticker) = parse(&text) {
                prop_assert_eq!(ticker.as_str(), text.as_str());
                prop_assert_eq!(parse(ticker.as_str()), Ok(ticker.clone()));
            }
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
