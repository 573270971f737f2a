//! The number that names a security the world over (ISO 6166).

use super::{Invalid, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// An International Securities Identification Number (ISO 6166): two letters, nine letters or digits and a check digit.
///
/// Whether the prefix is one that has been given out is not looked at: the list grows, and a copy of it would refuse
/// tomorrow's securities. The stored form is the text alone and is not checked again when read back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Isin(String);

opaque_debug!(Isin);

const LENGTH: usize = 12;
const FIELD: &str = "isin";

impl Isin {
    /// Reads an ISIN of 12 characters, letters in either case.
    ///
    /// # Errors
    /// [`Invalid`] for `isin`, which says what is wrong: the length, which character at which position, or the check
    /// digit together with the one expected.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let upper = rules::code(
            text,
            LENGTH,
            |c| c.is_ascii_alphanumeric(),
            "a letter A to Z or a digit",
            FIELD,
        )?;
        for (at, c) in upper.chars().enumerate() {
            let wanted = match at {
                0 | 1 if !c.is_ascii_uppercase() => "a letter A to Z",
                11 if !c.is_ascii_digit() => "a digit, which is the check digit",
                _ => continue,
            };
            return Err(Invalid::new(
                FIELD,
                format!("character {} is {c:?}, expected {wanted}", at + 1),
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

    /// The twelve characters, letters in upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The check digit of the first eleven characters: each letter becomes two digits (A is 10, Z is 35), and of the
/// digits in a row every second one from the right counts double (the Luhn rule, ISO/IEC 7812-1 annex B).
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
        .map(|(at, digit)| match at % 2 {
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
    fn known_numbers_pass() {
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
    fn a_refusal_says_what_is_wrong() {
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
    fn it_does_not_print_itself() {
        assert_eq!(
            format!("{:?}", Isin::parse("US0378331005").expect("valid")),
            "Isin"
        );
    }

    proptest! {
        #[test]
        fn a_base_has_exactly_one_check_digit(base in "[A-Z]{2}[A-Z0-9]{9}") {
            let valid = (0..10).filter(|digit| Isin::parse(&format!("{base}{digit}")).is_ok()).count();
            prop_assert_eq!(valid, 1);
        }

        #[test]
        fn any_one_digit_that_is_wrong_is_caught(base in "[A-Z]{2}[A-Z0-9]{9}", at in 2usize..12, other in 1u32..10) {
            let text = format!("{base}{}", check_digit(&base));
            let changed: String = text.chars().enumerate().map(|(i, c)| match c.to_digit(10) {
                Some(digit) if i == at => char::from_digit((digit + other) % 10, 10).unwrap_or(c),
                _ => c,
            }).collect();
            prop_assert_eq!(Isin::parse(&changed).is_ok(), changed == text);
        }

        #[test]
        fn what_was_read_reads_again_and_case_does_not_matter(base in "[A-Z]{2}[A-Z0-9]{9}") {
            let isin = Isin::parse(&format!("{base}{}", check_digit(&base))).expect("the digit fits");
            prop_assert_eq!(Isin::parse(isin.as_str()), Ok(isin.clone()));
            prop_assert_eq!(Isin::parse(&isin.as_str().to_lowercase()), Ok(isin));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = Isin::parse(&text);
        }
    }
}
