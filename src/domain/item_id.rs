//! The id of an item.

use super::{Invalid, Isin, ItemLimits, Kind, KindName, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// The id of an item, unique among the owner's items of one kind.
///
/// It is UTF-8 without control characters; the id of an instrument is its ISIN. The stored form is
/// the bare text and is not validated again when it is read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(String);

opaque_debug!(ItemId);

impl ItemId {
    /// Parses an id of 1 to [`ItemLimits::id_bytes`] bytes.
    ///
    /// The id of an instrument must be an ISIN and is converted to upper case.
    ///
    /// # Errors
    /// [`Invalid`] for `id`.
    pub fn parse(kind: Kind, text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::plain(text, limits.id_bytes, "id")?;

        match kind {
            Kind::Text | Kind::Otp | Kind::Codes => Ok(Self(text.to_owned())),
            Kind::Instrument => match Isin::parse(text) {
                Ok(isin) => Ok(Self::of_isin(&isin)),
                Err(Invalid { reason, .. }) => Err(Invalid::new(
                    "id",
                    format!("the id of an instrument is its ISIN: {reason}"),
                )),
            },
        }
    }

    /// Returns the id of the instrument with this ISIN.
    pub fn of_isin(isin: &Isin) -> Self {
        Self(isin.as_str().to_owned())
    }

    /// Parses an id of any kind. This version does not know the rule of an unknown kind, and checks
    /// only the length and that there are no control characters.
    ///
    /// # Errors
    /// [`Invalid`] for `id`.
    pub fn parse_any(kind: &KindName, text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        match kind {
            KindName::Known(kind) => Self::parse(*kind, text, limits),
            KindName::Unknown(_) => {
                rules::plain(text, limits.id_bytes, "id")?;
                Ok(Self(text.to_owned()))
            }
        }
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Kind, text: &str) -> Result<ItemId, Invalid> {
        ItemId::parse(kind, text, &ItemLimits::default())
    }

    #[test]
    fn the_id_of_an_instrument_is_its_isin_in_upper_case() {
        let isin = Isin::parse("US0378331005").expect("valid");

        let id = parse(Kind::Instrument, "us0378331005").expect("valid");

        assert_eq!(id.as_str(), "US0378331005");
        assert_eq!(id, ItemId::of_isin(&isin));
    }

    #[test]
    fn the_id_of_an_instrument_must_be_an_isin() {
        let reason = "the id of an instrument is its ISIN: must be 12 characters, is 1";

        assert_eq!(
            parse(Kind::Instrument, "x"),
            Err(Invalid::new("id", reason))
        );
    }

    #[test]
    fn the_id_of_a_text_is_bounded_and_unchanged() {
        let id = parse(Kind::Text, "Überblick 1").expect("valid");

        assert_eq!(id.as_str(), "Überblick 1");
        assert!(parse(Kind::Text, &"x".repeat(256)).is_ok());
        for text in ["", "a\0", &"x".repeat(257)] {
            let invalid = parse(Kind::Text, text).expect_err("this one is wrong");
            assert_eq!(invalid.field, "id");
        }
    }

    #[test]
    fn an_id_is_stored_as_text_and_not_printed() {
        let id = parse(Kind::Text, "note").expect("valid");

        assert_eq!(serde_json::to_value(&id).expect("encodable"), "note");
        assert_eq!(format!("{id:?}"), "ItemId");
    }
}
