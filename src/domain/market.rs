//! The smaller names that an instrument has on a market.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// The symbol under which an exchange trades the instrument: printable ASCII without spaces, case kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticker(String);

/// A Market Identifier Code (ISO 10383): four letters or digits, upper case. Only the form is checked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mic(String);

/// A currency code (ISO 4217): three letters, upper case. Only the form is checked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CurrencyCode(String);

/// What people call the instrument: UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstrumentName(String);

opaque_debug!(Ticker, Mic, CurrencyCode, InstrumentName);

impl Ticker {
    /// Reads a ticker of 1 to [`ItemLimits::ticker_bytes`] characters.
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
            Some((at, c)) => {
                let reason = format!(
                    "character {} is {c:?}, expected printable ASCII without spaces",
                    at + 1
                );
                Err(Invalid::new("ticker", reason))
            }
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The ticker as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Mic {
    /// Reads a code of four letters or digits, letters in either case.
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

    /// The four characters, letters in upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CurrencyCode {
    /// Reads a code of three letters in either case.
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

    /// The three letters, in upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl InstrumentName {
    /// Reads a name of 1 to [`ItemLimits::name_bytes`] bytes.
    ///
    /// # Errors
    /// [`Invalid`] for `name`.
    pub fn parse(text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::plain(text, limits.name_bytes, "name").map(|()| Self(text.to_owned()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_upper_cased_and_the_rest_is_kept() {
        let limits = ItemLimits::default();
        assert_eq!(Mic::parse("xna5").expect("valid").as_str(), "XNA5");
        assert_eq!(CurrencyCode::parse("usd").expect("valid").as_str(), "USD");
        assert_eq!(
            Ticker::parse("brk.B", &limits).expect("valid").as_str(),
            "brk.B"
        );
        assert_eq!(
            InstrumentName::parse("Société 1", &limits)
                .expect("valid")
                .as_str(),
            "Société 1"
        );
    }

    #[test]
    fn a_refusal_names_its_field() {
        let limits = ItemLimits {
            ticker_bytes: 4,
            name_bytes: 4,
            ..ItemLimits::default()
        };
        assert_eq!(Mic::parse("XNA").expect_err("short").field, "mic");
        assert_eq!(
            CurrencyCode::parse("U5D").expect_err("a digit").field,
            "currency"
        );
        assert_eq!(
            InstrumentName::parse("a\tb", &limits)
                .expect_err("a tab")
                .field,
            "name"
        );
        assert_eq!(
            InstrumentName::parse("abcde", &limits)
                .expect_err("long")
                .field,
            "name"
        );
        let spaced = Ticker::parse("A B", &limits).expect_err("a space");
        let reason = "character 2 is ' ', expected printable ASCII without spaces";
        assert_eq!(spaced, Invalid::new("ticker", reason));
        assert_eq!(
            Ticker::parse("ABCDE", &limits).expect_err("long").field,
            "ticker"
        );
    }

    #[test]
    fn they_do_not_print_themselves() {
        assert_eq!(format!("{:?}", Mic::parse("XNAS")), "Ok(Mic)");
        assert_eq!(
            format!("{:?}", CurrencyCode::parse("USD")),
            "Ok(CurrencyCode)"
        );
    }
}
