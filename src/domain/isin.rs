//! The international number of a security (ISO 6166).

use super::{Invalid, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// An International Securities Identification Number (ISO 6166).
///
/// It is two letters, nine letters or digits, and a check digit. The prefix is not compared with
/// the list of assigned prefixes: the list grows, and a copy of it would refuse new securities.
/// The stored form is the bare text and is not validated again when it is read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Isin(String);

opaque_debug!(Isin);

const LENGTH: usize = 12;
const FIELD: &str = "isin";

impl Isin {
    /// Parses an ISIN of 12 characters, with letters in either case.
    ///
    /// # Errors
    /// [`Invalid`] for `isin`. The reason names the length, the first wrong character and its
    /// position, or the check digit and the expected one.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let upper = rules::code(
            text,
            LENGTH,
            |c| c.is_ascii_alphanumeric(),
            "a letter A to Z or a digit",
            FIELD,
        )?;

        for (index, c) in upper.chars().enumerate() {
            let expected = match index {
                0 | 1 if !c.is_ascii_uppercase() => "a letter A to Z",
                11 if !c.is_ascii_digit() => "a digit, which is the check digit",
                _ => continue,
            };
            return Err(Invalid::new(
                FIELD,
                format!("character {} is {c:?}, expected {expected}", index + 1),
            ));
        }

        let (base, check) = upper.split_at(LENGTH - 1);
        let expected = check_digit(base).to_string();
        if check != expected {
            return Err(Invalid::new(
                FIELD,
                format!("the check digit is {check}, expected {expected}"),
            ));
        }

        Ok(Self(upper))
    }

    /// Returns the twelve characters, with letters in upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the check digit of the first eleven characters.
///
/// Each letter becomes two digits (A is 10, Z is 35). In the resulting row of digits, the last
/// one and every second one before it count double (the Luhn rule, ISO/IEC 7812-1 annex B).
fn check_digit(base: &str) -> u32 {
    let digits = base
        .chars()
        .filter_map(|c| c.to_digit(36))
        .flat_map(|value| match value {
            0..=9 => [None, Some(value)],
            _ => [Some(value / 10), Some(value % 10)],
        });
    let digits: Vec<u32> = digits.flatten().collect();

    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match index % 2 {
            0 => digit * 2 / 10 + digit * 2 % 10,
            _ => *digit,
        })
        .sum();

    (10 - sum % 10) % 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(text: &str) -> String {
        let invalid = Isin::parse(text).expect_err("this one is wrong");
        assert_eq!(invalid.field, "isin");

        invalid.reason
    }

    #[test]
    fn well_known_numbers_are_accepted() {
        for text in [
            "US0378331005",
            "GB0002634946",
            "DE0007164600",
            "AU0000XVGZA3",
            "US38259P5089",
            "XS0000000009",
        ] {
            assert_eq!(
                Isin::parse(text).as_ref().map(Isin::as_str),
                Ok(text),
                "{text}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_mistake() {
        assert_eq!(reason("US037833100"), "must be 12 characters, is 11");
        assert_eq!(reason(""), "must be 12 characters, is 0");
        assert_eq!(
            reason("US037833100é"),
            "character 12 is 'é', expected a letter A to Z or a digit"
        );
        assert_eq!(
            reason("US 378331005"),
            "character 3 is ' ', expected a letter A to Z or a digit"
        );
        assert_eq!(
            reason("U10378331005"),
            "character 2 is '1', expected a letter A to Z"
        );
        assert_eq!(
            reason("US037833100X"),
            "character 12 is 'X', expected a digit, which is the check digit"
        );
        assert_eq!(reason("US0378331006"), "the check digit is 6, expected 5");
    }

    #[test]
    fn debug_does_not_print_the_number() {
        assert_eq!(
            format!("{:?}", Isin::parse("US0378331005").expect("valid")),
            "Isin"
        );
    }

    proptest! {
        #[test]
        fn a_base_has_exactly_one_check_digit(base in "[A-Z]{2}[A-Z0-9]{9}") {
            let valid = (0..10)
                .filter(|digit| Isin::parse(&format!("{base}{digit}")).is_ok())
                .count();

            prop_assert_eq!(valid, 1);
        }

        #[test]
        fn any_single_wrong_digit_is_detected(
            base in "[A-Z]{2}[A-Z0-9]{9}",
            changed_index in 2usize..12,
            difference in 1u32..10,
        ) {
            let text = format!("{base}{}", check_digit(&base));
            let changed: String = text
                .chars()
                .enumerate()
                .map(|(index, c)| match c.to_digit(10) {
                    Some(digit) if index == changed_index => {
                        char::from_digit((digit + difference) % 10, 10).unwrap_or(c)
                    }
                    _ => c,
                })
                .collect();

            prop_assert_eq!(Isin::parse(&changed).is_ok(), changed == text);
        }

        #[test]
        fn a_parsed_isin_parses_again_in_either_case(base in "[A-Z]{2}[A-Z0-9]{9}") {
            let text = format!("{base}{}", check_digit(&base));
            let isin = Isin::parse(&text).expect("the digit fits");

            prop_assert_eq!(Isin::parse(isin.as_str()), Ok(isin.clone()));
            prop_assert_eq!(Isin::parse(&isin.as_str().to_lowercase()), Ok(isin));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = Isin::parse(&text);
        }
    }
}
