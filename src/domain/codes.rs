//! A list of one-time codes, such as the recovery codes of an account.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use zeroize::Zeroize as _;

const FIELD: &str = "codes";

/// A keyed hash of a code.
type CodeHash = [u8; 16];

/// A list of one-time codes. Each is used once: a code that was taken stays in the list as taken.
///
/// The stored form is not checked against the limits when it is read.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codes {
    list: Vec<Code>,
    /// The codes that were taken before the item was deleted and restored, and that the list does
    /// not have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    former: BTreeSet<CodeHash>,
    /// Which code of the list the write took that made this list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    just_taken: Option<usize>,
}

/// What a reply may show of a list of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodesFacts {
    /// How many codes are left.
    pub remaining: usize,
    /// How many codes the list has, those that were taken included.
    pub total: usize,
}

/// What the deletion of a list keeps, so that no code is taken again if it is restored: keyed
/// hashes of the codes that were taken.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodesRemains(BTreeSet<CodeHash>);

/// One code of a list.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Code {
    text: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    taken: bool,
}

opaque_debug!(Codes, Code, CodesRemains);

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
    pub fn parse(texts: &[impl AsRef<str>], limits: &ItemLimits) -> Result<Self, Invalid> {
        Self::default().with(texts, limits, |_| CodeHash::default())
    }

    /// Returns the list with these codes at its end. `hash` is the keyed hash of a code.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); also for a code that is in the list already, taken or not, and for
    /// more than [`ItemLimits::codes`] codes with those that were taken.
    pub fn with(
        &self,
        texts: &[impl AsRef<str>],
        limits: &ItemLimits,
        hash: impl Fn(&str) -> CodeHash,
    ) -> Result<Self, Invalid> {
        if texts.is_empty() {
            return Err(Invalid::new(FIELD, "must not be empty"));
        }

        let mut codes = self.clone();
        codes.just_taken = None;
        let mut known: HashSet<&str> = self.list.iter().map(|code| code.text.as_str()).collect();
        for (index, text) in texts.iter().enumerate() {
            let text = text.as_ref();
            let field = format!("{FIELD}[{index}]");
            rules::plain(text, limits.code_bytes, &field)?;
            let is_former = !self.former.is_empty() && self.former.contains(&hash(text));
            if !known.insert(text) || is_former {
                let is_taken = is_former || self.taken().any(|taken| taken == text);
                let reason = if is_taken {
                    "was taken before, and a code is given out once"
                } else if self.left().any(|left| left == text) {
                    "is in the list already"
                } else {
                    "occurs twice"
                };
                return Err(Invalid::new(field, reason));
            }

            codes.list.push(Code {
                text: text.to_owned(),
                taken: false,
            });
        }

        if codes.total() > limits.codes {
            let reason = format!(
                "a list has at most {} codes, those that were taken included; this makes {}",
                limits.codes,
                codes.total()
            );
            return Err(Invalid::new(FIELD, reason));
        }
        Ok(codes)
    }

    /// Returns a list of these codes that keeps what was taken of this one.
    ///
    /// # Errors
    /// As [`with`](Self::with); also for a code that was taken.
    pub fn replaced_by(
        &self,
        new: &Self,
        limits: &ItemLimits,
        hash: impl Fn(&str) -> CodeHash,
    ) -> Result<Self, Invalid> {
        let taken = self.list.iter().filter(|code| code.taken).cloned();
        let texts: Vec<&str> = new.left().collect();

        let kept = Self {
            list: taken.collect(),
            former: self.former.clone(),
            just_taken: None,
        };
        kept.with(&texts, limits, hash)
    }

    /// Returns the list after its first code that is left was taken; `None` if none is left.
    pub fn take(&self) -> Option<Self> {
        let index = self.list.iter().position(|code| !code.taken)?;
        let mut codes = self.clone();
        codes.list[index].taken = true;
        codes.just_taken = Some(index);

        Some(codes)
    }

    /// The code that the write took that made this list; `None` if it took none.
    pub fn just_taken(&self) -> Option<&str> {
        let code = self.list.get(self.just_taken?)?;
        Some(&code.text)
    }

    /// Returns what a deletion keeps. `hash` is the keyed hash of a code.
    pub fn remains(&self, hash: impl Fn(&str) -> CodeHash) -> CodesRemains {
        let taken = self.taken().map(hash);
        CodesRemains(taken.chain(self.former.iter().copied()).collect())
    }

    /// Returns this list as it goes on after a deletion: a code that was taken before stays taken.
    #[must_use]
    pub fn resumed(mut self, remains: &CodesRemains, hash: impl Fn(&str) -> CodeHash) -> Self {
        self.just_taken = None;
        self.former.extend(&remains.0);
        for code in &mut self.list {
            code.taken |= self.former.remove(&hash(&code.text));
        }
        self
    }

    /// What a reply may show.
    pub fn facts(&self) -> CodesFacts {
        CodesFacts {
            remaining: self.left().count(),
            total: self.total(),
        }
    }

    fn total(&self) -> usize {
        self.list.len() + self.former.len()
    }

    /// The codes that are left, in the order in which they were given.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        let left = self.list.iter().filter(|code| !code.taken);
        left.map(|code| code.text.as_str())
    }

    /// The codes that were taken, in the order in which they were given. Of those that were taken
    /// before the item was deleted, only the ones that the restored list has.
    pub fn taken(&self) -> impl Iterator<Item = &str> {
        let taken = self.list.iter().filter(|code| code.taken);
        taken.map(|code| code.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(list: &[&str]) -> Codes {
        Codes::parse(list, &ItemLimits::default()).expect("valid")
    }

    /// The list after its first code was taken.
    fn taken_once(list: &[&str]) -> Codes {
        codes(list).take().expect("one is left")
    }

    fn hash(text: &str) -> CodeHash {
        let mut hash = CodeHash::default();
        hash[..text.len()].copy_from_slice(text.as_bytes());
        hash
    }

    fn with(list: &Codes, texts: &[&str]) -> Result<Codes, Invalid> {
        list.with(texts, &ItemLimits::default(), hash)
    }

    fn replaced_by(list: &Codes, texts: &[&str]) -> Result<Codes, Invalid> {
        list.replaced_by(&codes(texts), &ItemLimits::default(), hash)
    }

    fn field(result: Result<Codes, Invalid>) -> String {
        let invalid = result.expect_err("refused");
        assert!(!invalid.reason.contains("one"), "{}", invalid.reason);

        invalid.field
    }

    fn left(codes: &Codes) -> Vec<&str> {
        codes.left().collect()
    }

    fn taken(codes: &Codes) -> Vec<&str> {
        codes.taken().collect()
    }

    #[test]
    fn each_code_is_taken_once_in_order() {
        let mut list = codes(&["one", "two"]);

        for expected in ["one", "two"] {
            list = list.take().expect("one is left");
            assert_eq!(list.just_taken(), Some(expected));
        }

        assert!(list.take().is_none());
        let facts = CodesFacts {
            remaining: 0,
            total: 2,
        };
        assert_eq!(list.facts(), facts);
    }

    #[test]
    fn a_code_is_not_added_twice_taken_or_not() {
        let list = taken_once(&["one", "two"]);

        for again in ["one", "two"] {
            assert_eq!(field(with(&list, &["three", again])), "codes[1]");
        }

        let longer = with(&list, &["three"]).expect("new");
        assert_eq!(left(&longer), ["two", "three"]);
        assert_eq!(taken(&longer), ["one"]);
        assert_eq!(longer.just_taken(), None);
    }

    #[test]
    fn another_list_keeps_what_was_taken() {
        let list = taken_once(&["one", "two"]);

        assert_eq!(field(replaced_by(&list, &["one"])), "codes[0]");

        let other = replaced_by(&list, &["two", "three"]).expect("not taken");
        assert_eq!(left(&other), ["two", "three"]);
        assert_eq!(taken(&other), ["one"]);
    }

    #[test]
    fn what_was_taken_before_a_deletion_stays_taken() {
        let remains = taken_once(&["one", "two"]).remains(hash);

        let same = codes(&["one", "two"]).resumed(&remains, hash);
        let other = codes(&["two", "three"]).resumed(&remains, hash);

        assert_eq!(left(&same), ["two"]);
        assert_eq!(taken(&same), ["one"]);
        assert_eq!(left(&other), ["two", "three"]);
        assert_eq!(other.facts().total, 3);
        assert_eq!(field(with(&other, &["one"])), "codes[0]");
        assert_eq!(
            left(&codes(&["one"]).resumed(&other.remains(hash), hash)),
            [""; 0]
        );
    }

    #[test]
    fn a_list_keeps_to_its_limits() {
        let limits = ItemLimits {
            codes: 2,
            code_bytes: 4,
            ..ItemLimits::default()
        };
        let refused = |list: &[&str]| field(Codes::parse(list, &limits));

        assert_eq!(refused(&[]), "codes");
        assert_eq!(refused(&["a", ""]), "codes[1]");
        assert_eq!(refused(&["abcde"]), "codes[0]");
        assert_eq!(refused(&["a\n"]), "codes[0]");
        assert_eq!(refused(&["a", "a"]), "codes[1]");
        assert_eq!(refused(&["a", "b", "c"]), "codes");
        assert!(Codes::parse(&["a", "éé"], &limits).is_ok());
    }

    #[test]
    fn the_stored_form_reads_back() {
        let list = taken_once(&["one", "two"]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&list, &mut bytes).expect("encodable");

        let read: Codes = ciborium::from_reader(bytes.as_slice()).expect("written here");

        assert!(read == list);
        assert_eq!(format!("{list:?}"), "Codes");
    }
}
