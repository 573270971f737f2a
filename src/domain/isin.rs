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
        if text.is_empty() {
            let reason = "must not be empty; leave it out of an instrument that is kept by mic \
                          and ticker";
            return Err(Invalid::new(FIELD, reason));
        }

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
                format!(
                    "the check digit is {check}, expected {expected}; an instrument with such a \
                     number can be kept by mic and ticker, without isin"
                ),
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

    /// Numbers that are in use, most with a prefix that is no country's code.
    const IN_USE: [&str; 20] = [
        "XF000BTC0017",
        "XF000ETH0019",
        "XF0000C14922",
        "XTV15WLZJMF0",
        "XC000A2YY6Q6",
        "EU000A1G0AA6",
        "EU0009652759",
        "EZR9HY1361L7",
        "XS2689917198",
        "QS0000003564",
        "AN8068571086",
        "RU000A1038V6",
        "RU000A107T19",
        "GG00BPFJTF46",
        "JE00B4T3BW64",
        "BMG3602E1084",
        "CNE100000296",
        "IL0010811243",
        "ZAE000066692",
        "US912810SM18",
    ];

    /// Returns the number with every second letter in lower case.
    fn mixed_case(number: &str) -> String {
        number
            .char_indices()
            .map(|(index, c)| match index % 2 {
                0 => c,
                _ => c.to_ascii_lowercase(),
            })
            .collect()
    }

    #[test]
    fn any_prefix_of_letters_and_any_case_are_accepted() {
        for number in IN_USE {
            for text in [
                number.to_owned(),
                number.to_ascii_lowercase(),
                mixed_case(number),
            ] {
                let isin = Isin::parse(&text);

                assert_eq!(isin.as_ref().map(Isin::as_str), Ok(number), "{text}");
            }
        }
    }

    #[test]
    fn a_wrong_check_digit_is_refused_even_of_a_number_in_use() {
        for (number, found, expected) in [
            ("XF000ETH0017", 7, 9),
            ("US0000000000", 0, 2),
            ("DE0000000000", 0, 9),
            ("BBG000B9XRY4", 4, 1),
            ("BBG004730N88", 8, 1),
        ] {
            let message = format!("the check digit is {found}, expected {expected}; ");
            let remedy = "an instrument with such a number can be kept by mic and ticker, \
                          without isin";

            for text in [
                number.to_owned(),
                number.to_ascii_lowercase(),
                mixed_case(number),
            ] {
                assert_eq!(reason(&text), format!("{message}{remedy}"), "{text}");
            }
        }
    }

    #[test]
    fn a_foreign_character_is_named_with_its_position() {
        let table = [
            ("US 0378331005", "character 3 is ' '"),
            (" US0378331005", "character 1 is ' '"),
            ("US0378331005 ", "character 13 is ' '"),
            ("US-0378331005", "character 3 is '-'"),
            ("US-037833-1005", "character 3 is '-'"),
            ("US\u{a0}0378331005", "character 3 is '\\u{a0}'"),
            ("US0378331005\u{a0}", "character 13 is '\\u{a0}'"),
            ("ＵＳ0378331005", "character 1 is 'Ｕ'"),
            ("US037833100５", "character 12 is '５'"),
            ("US0378331005\u{200b}", "character 13 is '\\u{200b}'"),
        ];

        for (text, place) in table {
            let expected = format!("{place}, expected a letter A to Z or a digit");
            assert_eq!(reason(text), expected, "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_mistake() {
        assert_eq!(reason("US037833100"), "must be 12 characters, is 11");
        assert_eq!(
            reason(""),
            "must not be empty; leave it out of an instrument that is kept by mic and ticker"
        );
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
        assert!(reason("US0378331006").starts_with("the check digit is 6, expected 5; "));
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
