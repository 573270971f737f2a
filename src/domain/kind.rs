//! The kinds of item.

use super::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of an item. The same id under two kinds names two different items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An instrument, whose id is its ISIN.
    Instrument,
    /// A text that the owner writes.
    Text,
}

impl Kind {
    /// Every kind that this version supports.
    pub const ALL: [Self; 2] = [Self::Instrument, Self::Text];

    /// Kinds that the contract names and that this version does not support. The refusal says so,
    /// and so the caller does not search for a spelling mistake.
    const UNSUPPORTED: [&'static str; 2] = ["otp", "codes"];

    /// Parses the name of a kind, in lower case.
    ///
    /// # Errors
    /// [`Invalid`] for `kind`. The reason lists the supported kinds, or says that this version does
    /// not support the named one.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.as_str() == text) {
            return Ok(kind);
        }

        let supported = Self::ALL.map(Self::as_str).join(", ");
        let reason = if Self::UNSUPPORTED.contains(&text) {
            format!("this version does not support {text}; it supports {supported}")
        } else {
            format!("must be one of {supported}")
        };

        Err(Invalid::new("kind", reason))
    }

    /// Returns the name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instrument => "instrument",
            Self::Text => "text",
        }
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
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(&kind.to_string()), Ok(kind));
            assert_eq!(
                serde_json::to_value(kind).expect("encodable"),
                kind.as_str()
            );
        }
    }

    #[test]
    fn an_unsupported_kind_is_refused_by_name() {
        for name in ["otp", "codes"] {
            let reason =
                format!("this version does not support {name}; it supports instrument, text");
            assert_eq!(Kind::parse(name), Err(Invalid::new("kind", reason)));
        }
    }

    #[test]
    fn the_refusal_of_an_unknown_kind_lists_all_kinds() {
        for name in ["", "Text", "note"] {
            assert_eq!(
                Kind::parse(name),
                Err(Invalid::new("kind", "must be one of instrument, text"))
            );
        }
    }
}
