//! The number that orders the records of the bucket.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A version: the sequence of a record in the bucket, from 1 to 2^53, or 0 for no version yet.
///
/// The upper bound is the greatest integer that every JSON reader holds exactly. The serde form is
/// the bare number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Version(u64);

impl Version {
    /// No version yet: 0.
    pub const NONE: Self = Self(0);
    /// The greatest version: 2^53.
    pub const MAX: Self = Self(1 << 53);

    /// Returns the version with this number, or `None` if the number is above 2^53.
    pub fn new(number: u64) -> Option<Self> {
        (number <= Self::MAX.0).then_some(Self(number))
    }

    /// Returns the number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns whether this is [`Version::NONE`].
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Version> for u64 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl TryFrom<u64> for Version {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("a version is 0 to 2^53")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_at_most_two_to_the_53rd() {
        assert_eq!(Version::new(1 << 53), Some(Version::MAX));
        assert_eq!(Version::new((1 << 53) + 1), None);
        assert_eq!(Version::new(42).map(Version::get), Some(42));
    }

    #[test]
    fn none_is_the_lowest_and_the_default() {
        assert!(Version::NONE.is_none());
        assert!(!Version::MAX.is_none());
        assert!(Version::NONE < Version::MAX);
        assert_eq!(Version::default(), Version::NONE);
    }

    #[test]
    fn the_printed_and_the_stored_form_are_the_bare_number() {
        let version = Version::new(42).expect("in range");

        let stored = serde_json::to_string(&version).expect("encodable");

        assert_eq!(version.to_string(), "42");
        assert_eq!(u64::from(version), 42);
        assert_eq!(stored, "42");
        assert_eq!(
            serde_json::from_str::<Version>(&stored).expect("in range"),
            version
        );
    }

    #[test]
    fn a_stored_number_above_the_maximum_is_refused() {
        assert!(serde_json::from_str::<Version>("9007199254740993").is_err());
    }
}
