//! One thing that an owner keeps.

use super::{Instrument, ItemId, Kind, Meta, Tags, Text, Timestamp, opaque_debug};
use serde::{Deserialize, Serialize};

/// An item that lives. Its version is not part of it: whoever stores it gives that.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Its kind, that of `data`.
    pub kind: Kind,
    /// Its id, within owner and kind.
    pub id: ItemId,
    /// What it is.
    pub data: Data,
    /// Text by name that the owner hung on it.
    pub meta: Meta,
    /// Words that the owner hung on it.
    pub tags: Tags,
    /// When its present life began: a change keeps this, a deletion ends it.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What an item is, by kind. The stored form is tagged with the kind: `{"text": "…"}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// An instrument.
    Instrument(Instrument),
    /// A text.
    Text(Text),
}

opaque_debug!(Item, Data);

impl Data {
    /// The kind of the item that holds this.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Instrument(_) => Kind::Instrument,
            Self::Text(_) => Kind::Text,
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
            isin: "US0378331005",
            r#type: "stock",
            ..InstrumentInput::default()
        };
        [
            Data::Instrument(Instrument::parse(input, &limits).expect("valid")),
            Data::Text(Text::parse("hello", &limits).expect("valid")),
        ]
    }

    #[test]
    fn data_knows_its_kind() {
        assert_eq!(
            both().map(|data| data.kind()),
            [Kind::Instrument, Kind::Text]
        );
    }

    #[test]
    fn the_stored_form_reads_back_and_names_the_kind() {
        for data in both() {
            let mut bytes = Vec::new();
            ciborium::into_writer(&data, &mut bytes).expect("encodable");
            assert_eq!(
                ciborium::from_reader::<Data, _>(bytes.as_slice()).expect("written here"),
                data
            );
        }
        assert_eq!(
            serde_json::to_string(&both()[1]).expect("encodable"),
            r#"{"text":"hello"}"#
        );
    }

    #[test]
    fn an_item_does_not_print_itself() {
        let [_, data] = both();
        let id = ItemId::parse(Kind::Text, "note", &ItemLimits::default()).expect("valid");
        let at = Timestamp::from_millis(0);
        let (meta, tags) = (Meta::default(), Tags::default());
        let item = Item {
            kind: data.kind(),
            id,
            data,
            meta,
            tags,
            created_at: at,
            updated_at: at,
        };
        assert_eq!(format!("{item:?} {:?}", item.data), "Item Data");
    }
}
