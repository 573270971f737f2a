//! The kinds of item.

use super::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of item it is. Kinds share nothing: the same id under two kinds is two items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An instrument, whose id is its ISIN.
    Instrument,
    /// A text of the owner's own.
    Text,
}

impl Kind {
    /// Every kind that this version keeps.
    pub const ALL: [Self; 2] = [Self::Instrument, Self::Text];

    /// Kinds that the contract names and that this version does not keep: a caller is told so, not that they are
    /// misspelt.
    const NOT_KEPT: [&'static str; 2] = ["otp", "codes"];

    /// Reads the name of a kind, which is in lower case.
    ///
    /// # Errors
    /// [`Invalid`] for `kind`, which lists the kinds, or says that this version does not keep the one named.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.as_str() == text) {
            return Ok(kind);
        }
        let kept = Self::ALL.map(Self::as_str).join(", ");
        Err(match Self::NOT_KEPT.contains(&text) {
            true => Invalid::new(
                "kind",
                format!("this version does not keep {text}; it keeps {kept}"),
            ),
            false => Invalid::new("kind", format!("must be one of {kept}")),
        })
    }

    /// The name, as on the wire.
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
    fn every_kind_reads_back_under_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(&kind.to_string()), Ok(kind));
            assert_eq!(
                serde_json::to_value(kind).expect("encodable"),
                kind.as_str()
            );
        }
    }

    #[test]
    fn a_kind_not_kept_is_told_from_one_that_does_not_exist() {
        for name in ["otp", "codes"] {
            let reason = format!("this version does not keep {name}; it keeps instrument, text");
            assert_eq!(Kind::parse(name), Err(Invalid::new("kind", reason)));
        }
        for name in ["", "Text", "note"] {
            assert_eq!(
                Kind::parse(name),
                Err(Invalid::new("kind", "must be one of instrument, text"))
            );
        }
    }
}
