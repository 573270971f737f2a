//! The codes and names of an instrument on a market.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// A Market Identifier Code (ISO 10383): four letters or digits, in upper case.
///
/// Only the form is checked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mic(String);

/// A currency code: three letters, in upper case. Most are of ISO 4217; the codes of minor units,
/// such as GBX for pence, are not.
///
/// Only the form is checked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CurrencyCode(String);

/// The common name of the instrument: UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstrumentName(String);

opaque_debug!(Mic, CurrencyCode, InstrumentName);

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
    /// Parses a code of three letters, all in upper case or all in lower case.
    ///
    /// Mixed case is how some markets write a minor unit: GBp is pence. In upper case it would be
    /// pounds, a hundred times as much. So it is refused.
    ///
    /// # Errors
    /// [`Invalid`] for `currency`. The reason for a code in mixed case names what to write.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let upper = rules::code(
            text,
            3,
            |c| c.is_ascii_uppercase(),
            "a letter A to Z",
            "currency",
        )?;

        let has_upper = text.chars().any(|c| c.is_ascii_uppercase());
        let has_lower = text.chars().any(|c| c.is_ascii_lowercase());
        if has_upper && has_lower {
            return Err(Invalid::new("currency", mixed_case_reason(text)));
        }

        Ok(Self(upper))
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

/// Returns what to write instead of a code in mixed case.
fn mixed_case_reason(text: &str) -> &'static str {
    match text {
        "GBp" => "GBp is pence, so write GBX",
        "ZAc" => "ZAc is South African cents, so write ZAC",
        "ILa" => "ILa is Israeli agorot, so write ILA",
        _ => "must not be in mixed case: write it in upper case",
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
    fn a_currency_in_mixed_case_is_refused_with_what_to_write() {
        let table = [
            ("GBp", "GBp is pence, so write GBX"),
            ("ZAc", "ZAc is South African cents, so write ZAC"),
            ("ILa", "ILa is Israeli agorot, so write ILA"),
            ("Gbp", "must not be in mixed case: write it in upper case"),
            ("gBP", "must not be in mixed case: write it in upper case"),
            ("usD", "must not be in mixed case: write it in upper case"),
        ];

        for (text, reason) in table {
            assert_eq!(
                CurrencyCode::parse(text),
                Err(Invalid::new("currency", reason))
            );
        }
    }

    #[test]
    fn a_minor_unit_has_a_code_of_its_own() {
        for text in ["GBX", "ZAC", "ILA", "GBP"] {
            let code = CurrencyCode::parse(text).expect("valid");
            assert_eq!(code.as_str(), text);
        }
        assert_eq!(CurrencyCode::parse("gbx").expect("valid").as_str(), "GBX");
    }

    #[test]
    fn a_name_is_kept_as_it_was_sent() {
        let limits = ItemLimits::default();

        let name = InstrumentName::parse("Société 1", &limits).expect("valid");

        assert_eq!(name.as_str(), "Société 1");
    }

    #[test]
    fn a_refusal_names_its_field() {
        let limits = ItemLimits {
            name_bytes: 4,
            ..ItemLimits::default()
        };

        let mic = Mic::parse("XNA").expect_err("short");
        let currency = CurrencyCode::parse("U5D").expect_err("a digit");
        let name_with_tab = InstrumentName::parse("a\tb", &limits).expect_err("a tab");
        let long_name = InstrumentName::parse("abcde", &limits).expect_err("long");

        assert_eq!(mic.field, "mic");
        assert_eq!(currency.field, "currency");
        assert_eq!(name_with_tab.field, "name");
        assert_eq!(long_name.field, "name");
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
