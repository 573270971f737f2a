//! The codes and names of an instrument on a market.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// The symbol of the instrument on an exchange: printable ASCII without spaces, case preserved.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticker(String);

/// A Market Identifier Code (ISO 10383): four letters or digits, in upper case.
///
/// Only the form is checked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mic(String);

/// A currency code (ISO 4217): three letters, in upper case.
///
/// Only the form is checked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CurrencyCode(String);

/// The common name of the instrument: UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstrumentName(String);

opaque_debug!(Ticker, Mic, CurrencyCode, InstrumentName);

impl Ticker {
    /// Parses a ticker of 1 to [`ItemLimits::ticker_bytes`] characters.
    ///
    /// # Errors
    /// [`Invalid`] for `ticker`.
    pub fn parse(text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::bounded(text, limits.ticker_bytes, "ticker")?;

        match text
            .chars()
            .enumerate()
            .find(|(_, c)| !c.is_ascii_graphic())
        {
            Some((index, c)) => {
                let reason = format!(
                    "character {} is {c:?}, expected printable ASCII without spaces",
                    index + 1
                );

                Err(Invalid::new("ticker", reason))
            }
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Returns the ticker, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Mic {
    /// Parses a code of four letters or digits, with letters in either case.
    ///
    /// # Errors
    /// [`Invalid`] for `mic`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        rules::code(
            text,
            4,
            |c| c.is_ascii_alphanumeric(),
            "a letter A to Z or a digit",
            "mic",
        )
        .map(Self)
    }

    /// Returns the four characters, with letters in upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CurrencyCode {
    /// Parses a code of three letters in either case.
    ///
    /// # Errors
    /// [`Invalid`] for `currency`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        rules::code(
            text,
            3,
            |c| c.is_ascii_uppercase(),
            "a letter A to Z",
            "currency",
        )
        .map(Self)
    }

    /// Returns the three letters, in upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl InstrumentName {
    /// Parses a name of 1 to [`ItemLimits::name_bytes`] bytes.
    ///
    /// # Errors
    /// [`Invalid`] for `name`.
    pub fn parse(text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::plain(text, limits.name_bytes, "name").map(|()| Self(text.to_owned()))
    }

    /// Returns the name, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_upper_cased() {
        assert_eq!(Mic::parse("xna5").expect("valid").as_str(), "XNA5");
        assert_eq!(CurrencyCode::parse("usd").expect("valid").as_str(), "USD");
    }

    #[test]
    fn a_ticker_and_a_name_keep_their_case() {
        let limits = ItemLimits::default();

        let ticker = Ticker::parse("brk.B", &limits).expect("valid");
        let name = InstrumentName::parse("Société 1", &limits).expect("valid");

        assert_eq!(ticker.as_str(), "brk.B");
        assert_eq!(name.as_str(), "Société 1");
    }

    #[test]
    fn a_refusal_names_its_field() {
        let limits = ItemLimits {
            ticker_bytes: 4,
            name_bytes: 4,
            ..ItemLimits::default()
        };

        let mic = Mic::parse("XNA").expect_err("short");
        let currency = CurrencyCode::parse("U5D").expect_err("a digit");
        let name_with_tab = InstrumentName::parse("a\tb", &limits).expect_err("a tab");
        let long_name = InstrumentName::parse("abcde", &limits).expect_err("long");
        let long_ticker = Ticker::parse("ABCDE", &limits).expect_err("long");

        assert_eq!(mic.field, "mic");
        assert_eq!(currency.field, "currency");
        assert_eq!(name_with_tab.field, "name");
        assert_eq!(long_name.field, "name");
        assert_eq!(long_ticker.field, "ticker");
    }

    #[test]
    fn a_ticker_with_a_space_is_refused_by_position() {
        let invalid = Ticker::parse("A B", &ItemLimits::default()).expect_err("a space");

        let reason = "character 2 is ' ', expected printable ASCII without spaces";
        assert_eq!(invalid, Invalid::new("ticker", reason));
    }

    #[test]
    fn debug_prints_only_the_names_of_the_types() {
        assert_eq!(format!("{:?}", Mic::parse("XNAS")), "Ok(Mic)");
        assert_eq!(
            format!("{:?}", CurrencyCode::parse("USD")),
            "Ok(CurrencyCode)"
        );
    }
}
