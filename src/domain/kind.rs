//! The kinds of item.

use super::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of an item. The same id under two kinds names two different items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An instrument, whose id is its ISIN, or its market and ticker.
    Instrument,
    /// A text that the owner writes.
    Text,
    /// A one-time-password secret.
    Otp,
    /// A list of one-time codes.
    Codes,
    /// A text of the made-up next release.
    #[cfg(feature = "next")]
    Basket,
}

/// The name of a kind, which this version may not know: a newer version of the service may have
/// written the item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum KindName {
    /// A kind of this version.
    Known(Kind),
    /// Any other kind.
    Unknown(String),
}

impl Kind {
    /// Returns every kind that this version supports.
    pub fn all() -> impl Iterator<Item = Self> {
        let kinds = [Self::Instrument, Self::Text, Self::Otp, Self::Codes];

        kinds.into_iter().chain(Self::of_next_release())
    }

    /// Returns the kind that only the made-up next release supports, if this process plays it.
    #[cfg(feature = "next")]
    fn of_next_release() -> Option<Self> {
        super::next::is_active().then_some(Self::Basket)
    }

    /// Returns nothing: this build has no next release.
    #[cfg(not(feature = "next"))]
    fn of_next_release() -> Option<Self> {
        None
    }

    /// Returns the kind of that name, in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::all().find(|kind| kind.as_str() == text)
    }

    /// Returns the name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instrument => "instrument",
            Self::Text => "text",
            Self::Otp => "otp",
            Self::Codes => "codes",
            #[cfg(feature = "next")]
            Self::Basket => "basket",
        }
    }

    /// Returns whether items of this kind have something that replies hide. Only records of format
    /// 2 can hold such an item.
    pub fn has_secrets(self) -> bool {
        matches!(self, Self::Otp | Self::Codes)
    }
}

impl KindName {
    /// The maximum length, in bytes.
    const BYTES_MAX: usize = 32;

    /// Parses the name of a kind: 1 to 32 of a-z, 0-9, `_` and `-`.
    ///
    /// # Errors
    /// [`Invalid`] for `kind`, with the kinds that this version knows.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_name = (1..=Self::BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_-".contains(&c));

        if is_name {
            Ok(Self::from(text.to_owned()))
        } else {
            Err(Self::unknown())
        }
    }

    /// Returns the refusal of a kind that this version does not know and that the owner has no such
    /// item of.
    pub fn unknown() -> Invalid {
        let supported: Vec<_> = Kind::all().map(Kind::as_str).collect();
        Invalid::new("kind", format!("must be one of {}", supported.join(", ")))
    }

    /// Returns the kind, if this version knows it.
    pub fn known(&self) -> Option<Kind> {
        match self {
            Self::Known(kind) => Some(*kind),
            Self::Unknown(_) => None,
        }
    }

    /// Returns the name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(kind) => kind.as_str(),
            Self::Unknown(name) => name,
        }
    }
}

impl From<Kind> for KindName {
    fn from(kind: Kind) -> Self {
        Self::Known(kind)
    }
}

impl From<String> for KindName {
    fn from(name: String) -> Self {
        match Kind::parse(&name) {
            Some(kind) => Self::Known(kind),
            None => Self::Unknown(name),
        }
    }
}

impl From<KindName> for String {
    fn from(name: KindName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_parses_from_its_name() {
        for kind in Kind::all() {
            assert_eq!(Kind::parse(&kind.to_string()), Some(kind));
            assert_eq!(
                KindName::parse(kind.as_str()),
                Ok(KindName::Known(kind)),
                "{kind}"
            );
            assert_eq!(
                serde_json::to_value(KindName::from(kind)).expect("encodable"),
                kind.as_str()
            );
        }
    }

    #[test]
    fn a_kind_of_another_version_keeps_its_name() {
        let name = KindName::parse("note").expect("well formed");

        assert_eq!(name.known(), None);
        assert_eq!(name.as_str(), "note");
        let stored = serde_json::to_value(&name).expect("encodable");
        assert_eq!(
            serde_json::from_value::<KindName>(stored).expect("written here"),
            name
        );
    }

    #[test]
    fn the_refusal_of_what_is_no_kind_lists_all_kinds() {
        let expected = Invalid::new("kind", "must be one of instrument, text, otp, codes");

        for name in ["", "Text", "a b", &"x".repeat(33)] {
            assert_eq!(KindName::parse(name), Err(expected.clone()));
        }
    }
}
