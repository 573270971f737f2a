//! An item of an owner.

use super::{
    CodesFacts, Instrument, ItemId, Kind, KindName, Meta, OtpFacts, Place, Tags, Text, Timestamp,
    opaque_debug,
};
use serde::{Deserialize, Serialize};

/// A live item, one that is not deleted.
///
/// The version is not part of it, because the bucket assigns the version when it stores the item.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// The kind.
    pub kind: KindName,
    /// The id, unique within the owner and the kind.
    pub id: ItemId,
    /// The part of the content that replies show; `None` if this version does not know the kind.
    pub data: Option<Data>,
    /// The metadata that the owner attached: texts by name.
    pub meta: Meta,
    /// The tags that the owner attached.
    pub tags: Tags,
    /// The place in the owner's list.
    pub place: Place,
    /// When the item was created. A change keeps this time. An item that is created again after a
    /// deletion gets a new one.
    pub created_at: Timestamp,
    /// When the item was last changed.
    pub updated_at: Timestamp,
}

/// The part of an item's content that replies show, by kind.
///
/// The stored form is tagged with the kind: `{"text": "…"}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// An instrument.
    Instrument(Instrument),
    /// A text.
    Text(Text),
    /// A one-time-password secret, without the secret.
    Otp(OtpFacts),
    /// A list of one-time codes, without the codes.
    Codes(CodesFacts),
    /// A text of the made-up next release.
    #[cfg(feature = "next")]
    Basket(Text),
}

opaque_debug!(Item, Data);

impl Data {
    /// Returns the kind of an item with this content.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Instrument(_) => Kind::Instrument,
            Self::Text(_) => Kind::Text,
            Self::Otp(_) => Kind::Otp,
            Self::Codes(_) => Kind::Codes,
            #[cfg(feature = "next")]
            Self::Basket(_) => Kind::Basket,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{InstrumentInput, ItemLimits};

    fn both() -> [Data; 2] {
        let limits = ItemLimits::default();
        let input = InstrumentInput {
            isin: Some("US0378331005"),
            r#type: "stock",
            ..InstrumentInput::default()
        };

        [
            Data::Instrument(Instrument::parse(input, &limits).expect("valid")),
            Data::Text(Text::parse("hello", &limits).expect("valid")),
        ]
    }

    #[test]
    fn data_has_the_kind_of_its_content() {
        assert_eq!(
            both().map(|data| data.kind()),
            [Kind::Instrument, Kind::Text]
        );
    }

    #[test]
    fn the_stored_form_reads_back() {
        for data in both() {
            let mut bytes = Vec::new();
            ciborium::into_writer(&data, &mut bytes).expect("encodable");

            let read: Data = ciborium::from_reader(bytes.as_slice()).expect("written here");

            assert_eq!(read, data);
        }
    }

    #[test]
    fn the_stored_form_names_the_kind() {
        let [_, text] = both();

        let stored = serde_json::to_string(&text).expect("encodable");

        assert_eq!(stored, r#"{"text":"hello"}"#);
    }

    #[test]
    fn debug_prints_only_the_names_of_the_types() {
        let [_, data] = both();
        let id = ItemId::parse(Kind::Text, "note", &ItemLimits::default()).expect("valid");
        let timestamp = Timestamp::from_millis(0);

        let item = Item {
            kind: data.kind().into(),
            id,
            data: Some(data),
            meta: Meta::default(),
            tags: Tags::default(),
            place: Place::of_creation(0, 0),
            created_at: timestamp,
            updated_at: timestamp,
        };

        assert_eq!(format!("{item:?} {:?}", item.data), "Item Some(Data)");
    }
}
