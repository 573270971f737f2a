//! A list of one-time codes, such as the recovery codes of an account.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use zeroize::Zeroize as _;

const FIELD: &str = "codes";

/// A list of one-time codes. Each is used once: a code that was taken stays in the list as taken.
///
/// The stored form is not checked against the limits when it is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Codes(Vec<Code>);

/// One code of a list.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Code {
    text: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    taken: bool,
}

opaque_debug!(Codes, Code);

impl Drop for Code {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

impl Codes {
    /// Parses a list of 1 to [`ItemLimits::codes`] codes, each of 1 to [`ItemLimits::code_bytes`]
    /// bytes without control characters, no two alike.
    ///
    /// # Errors
    /// [`Invalid`] for `codes`, or for the entry as `codes[3]`. The reason does not repeat a code.
    pub fn parse(texts: &[String], limits: &ItemLimits) -> Result<Self, Invalid> {
        if texts.is_empty() {
            return Err(Invalid::new(FIELD, "must not be empty"));
        }

        Self(Vec::new()).with(texts, limits)
    }

    /// Returns the list with these codes at its end.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); also for a code that is in the list already, taken or not, and for
    /// more than [`ItemLimits::codes`] codes with those that were taken.
    pub fn with(&self, texts: &[String], limits: &ItemLimits) -> Result<Self, Invalid> {
        let mut codes = self.clone();
        let mut known: HashSet<&str> = self.0.iter().map(|code| code.text.as_str()).collect();

        for (index, text) in texts.iter().enumerate() {
            let field = format!("{FIELD}[{index}]");
            rules::plain(text, limits.code_bytes, &field)?;
            if !known.insert(text) {
                return Err(Invalid::new(field, "is in the list already, taken or not"));
            }

            codes.0.push(Code {
                text: text.clone(),
                taken: false,
            });
        }

        if codes.0.len() > limits.codes {
            let reason = format!(
                "a list has at most {} codes, those that were taken included; this makes {}",
                limits.codes,
                codes.0.len()
            );
            return Err(Invalid::new(FIELD, reason));
        }
        Ok(codes)
    }

    /// Returns a list of these codes that keeps what was taken of this one.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); also for a code that was taken.
    pub fn replaced_by(&self, texts: &[String], limits: &ItemLimits) -> Result<Self, Invalid> {
        let taken = self.0.iter().filter(|code| code.taken).cloned().collect();

        Self::parse(texts, limits)?;
        Self(taken).with(texts, limits)
    }

    /// Takes the first code that is left. Returns it, and the list in which it is taken; `None` if
    /// none is left.
    pub fn take(&self) -> Option<(String, Self)> {
        let index = self.0.iter().position(|code| !code.taken)?;
        let mut codes = self.clone();
        codes.0[index].taken = true;

        Some((self.0[index].text.clone(), codes))
    }

    /// How many codes are left.
    pub fn remaining(&self) -> usize {
        self.left().count()
    }

    /// How many codes the list has, those that were taken included.
    pub fn total(&self) -> usize {
        self.0.len()
    }

    /// The codes that are left, in the order in which they were given.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        let left = self.0.iter().filter(|code| !code.taken);
        left.map(|code| code.text.as_str())
    }

    /// The codes that were taken, in the order in which they were given.
    pub fn taken(&self) -> impl Iterator<Item = &str> {
        let taken = self.0.iter().filter(|code| code.taken);
        taken.map(|code| code.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn codes(list: &[&str]) -> Codes {
        Codes::parse(&texts(list), &ItemLimits::default()).expect("valid")
    }

    fn field(result: Result<Codes, Invalid>) -> String {
        let invalid = result.err().expect("refused");
        assert!(!invalid.reason.contains("one"), "{}", invalid.reason);

        invalid.field
    }

    #[test]
    fn each_code_is_taken_once_in_order() {
        let mut list = codes(&["one", "two"]);

        for expected in ["one", "two"] {
            let (code, rest) = list.take().expect("one is left");
            assert_eq!(code, expected);
            list = rest;
        }

        assert!(list.take().is_none());
        assert_eq!(list.remaining(), 0);
        assert_eq!(list.total(), 2);
    }

    #[test]
    fn a_code_is_not_added_twice_taken_or_not() {
        let limits = ItemLimits::default();
        let (_, list) = codes(&["one", "two"]).take().expect("one is left");

        for again in ["one", "two"] {
            assert_eq!(
                field(list.with(&texts(&["three", again]), &limits)),
                "codes[1]"
            );
        }

        let longer = list.with(&texts(&["three"]), &limits).expect("new");
        assert_eq!(longer.left().collect::<Vec<_>>(), ["two", "three"]);
        assert_eq!(longer.taken().collect::<Vec<_>>(), ["one"]);
    }

    #[test]
    fn another_list_keeps_what_was_taken() {
        let limits = ItemLimits::default();
        let (_, list) = codes(&["one", "two"]).take().expect("one is left");

        assert_eq!(
            field(list.replaced_by(&texts(&["one"]), &limits)),
            "codes[0]"
        );

        let other = list
            .replaced_by(&texts(&["two", "three"]), &limits)
            .expect("not taken");
        assert_eq!(other.left().collect::<Vec<_>>(), ["two", "three"]);
        assert_eq!(other.taken().collect::<Vec<_>>(), ["one"]);
    }

    #[test]
    fn a_list_keeps_to_its_limits() {
        let limits = ItemLimits {
            codes: 2,
            code_bytes: 4,
            ..ItemLimits::default()
        };
        let refused = |list: &[&str]| field(Codes::parse(&texts(list), &limits));

        assert_eq!(refused(&[]), "codes");
        assert_eq!(refused(&["a", ""]), "codes[1]");
        assert_eq!(refused(&["abcde"]), "codes[0]");
        assert_eq!(refused(&["a\n"]), "codes[0]");
        assert_eq!(refused(&["a", "a"]), "codes[1]");
        assert_eq!(refused(&["a", "b", "c"]), "codes");
        assert!(Codes::parse(&texts(&["a", "éé"]), &limits).is_ok());
    }

    #[test]
    fn the_stored_form_reads_back() {
        let (_, list) = codes(&["one", "two"]).take().expect("one is left");
        let mut bytes = Vec::new();
        ciborium::into_writer(&list, &mut bytes).expect("encodable");

        let read: Codes = ciborium::from_reader(bytes.as_slice()).expect("written here");

        assert!(read == list);
        assert_eq!(format!("{list:?}"), "Codes");
    }
}
