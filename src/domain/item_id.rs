//! How an owner's items of one kind are told apart.

use super::{Invalid, Isin, ItemLimits, Kind, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// The id of an item within its owner and kind: UTF-8 without control characters; for an instrument, its ISIN.
///
/// The stored form is the text alone and is not checked again when read back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(String);

opaque_debug!(ItemId);

impl ItemId {
    /// Reads an id of 1 to [`ItemLimits::id_bytes`] bytes; that of an instrument must be an ISIN, and is upper-cased.
    ///
    /// # Errors
    /// [`Invalid`] for `id`.
    pub fn parse(kind: Kind, text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::plain(text, limits.id_bytes, "id")?;
        match kind {
            Kind::Text => Ok(Self(text.to_owned())),
            Kind::Instrument => match Isin::parse(text) {
                Ok(isin) => Ok(Self::of_isin(&isin)),
                Err(Invalid { reason, .. }) => Err(Invalid::new(
                    "id",
                    format!("the id of an instrument is its ISIN: {reason}"),
                )),
            },
        }
    }

    /// The id of the instrument with that ISIN.
    pub fn of_isin(isin: &Isin) -> Self {
        Self(isin.as_str().to_owned())
    }

    /// The id as text.
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
        let id = parse(Kind::Instrument, "us0378331005").expect("valid");
        assert_eq!(id.as_str(), "US0378331005");
        assert_eq!(
            id,
            ItemId::of_isin(&Isin::parse("US0378331005").expect("valid"))
        );
        let reason = "the id of an instrument is its ISIN: must be 12 characters, is 1";
        assert_eq!(
            parse(Kind::Instrument, "x"),
            Err(Invalid::new("id", reason))
        );
    }

    #[test]
    fn another_id_is_short_text_kept_as_it_is() {
        assert_eq!(
            parse(Kind::Text, "Überblick 1").expect("valid").as_str(),
            "Überblick 1"
        );
        assert!(parse(Kind::Text, &"x".repeat(256)).is_ok());
        for text in ["", "a\0", &"x".repeat(257)] {
            assert_eq!(
                parse(Kind::Text, text)
                    .expect_err("this one is wrong")
                    .field,
                "id"
            );
        }
    }

    #[test]
    fn it_is_stored_as_text_and_does_not_print_itself() {
        let id = parse(Kind::Text, "note").expect("valid");
        assert_eq!(serde_json::to_value(&id).expect("encodable"), "note");
        assert_eq!(format!("{id:?}"), "ItemId");
    }
}
