//! Items as replies show them: written from memory in the order of the contract, without a tree in
//! between.

use crate::domain::{
    CodesFacts, CurrencyCode, Data, Instrument, InstrumentName, Isin, Item, ItemId, KindName, Meta,
    Mic, OtpFacts, Tags, Ticker, Timestamp, Version,
};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// An item in the form of the contract, with its fields in [their order](super::Ordered).
#[derive(Serialize)]
pub struct ItemView<'i> {
    kind: &'i str,
    id: &'i str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<DataView<'i>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "entries_of")]
    meta: Option<&'i Meta>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "texts_of")]
    tags: Option<&'i Tags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'i str>,
    version: u64,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
    #[serde(skip_serializing_if = "is_false")]
    unknown: bool,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "written")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "written")]
    updated_at: Option<Timestamp>,
}

impl<'i> ItemView<'i> {
    /// A living item.
    ///
    /// All fields are present; `meta` and `tags` may be empty. `data` omits absent fields. An item of
    /// a kind that this version does not know has neither `data` nor `meta`, and `unknown`.
    pub fn living(item: &'i Item, version: Version) -> Self {
        Self {
            data: item.data.as_ref().map(DataView::of),
            meta: item.data.is_some().then_some(&item.meta),
            tags: Some(&item.tags),
            unknown: item.data.is_none(),
            created_at: Some(item.created_at),
            updated_at: Some(item.updated_at),
            ..Self::ids(item, version)
        }
    }

    /// What names an item and its place, for a list of ids.
    pub fn ids(item: &'i Item, version: Version) -> Self {
        Self {
            place: Some(item.place.as_str()),
            ..Self::named(&item.kind, &item.id, version)
        }
    }

    /// A deleted item.
    pub fn deleted(
        kind: &'i KindName,
        id: &'i ItemId,
        version: Version,
        updated_at: Timestamp,
    ) -> Self {
        Self {
            deleted: true,
            updated_at: Some(updated_at),
            ..Self::named(kind, id, version)
        }
    }

    fn named(kind: &'i KindName, id: &'i ItemId, version: Version) -> Self {
        Self {
            kind: kind.as_str(),
            id: id.as_str(),
            data: None,
            meta: None,
            tags: None,
            place: None,
            version: version.get(),
            deleted: false,
            unknown: false,
            created_at: None,
            updated_at: None,
        }
    }

    /// The same as a tree, for a reply that changes it.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The data of an item, without what replies hide.
#[derive(Serialize)]
#[serde(untagged)]
enum DataView<'i> {
    Text {
        text: &'i str,
    },
    Instrument {
        #[serde(skip_serializing_if = "Option::is_none")]
        isin: Option<&'i str>,
        r#type: &'i str,
        #[serde(skip_serializing_if = "Option::is_none")]
        mic: Option<&'i str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ticker: Option<&'i str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        currency: Option<&'i str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'i str>,
    },
    Otp {
        r#type: &'i str,
        #[serde(skip_serializing_if = "Option::is_none")]
        issuer: Option<&'i str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<&'i str>,
        algorithm: &'i str,
        digits: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        period_s: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        counter: Option<u64>,
    },
    Codes {
        remaining: usize,
        total: usize,
    },
}

impl<'i> DataView<'i> {
    fn of(data: &'i Data) -> Self {
        match data {
            Data::Text(text) => Self::Text {
                text: text.as_str(),
            },
            Data::Otp(facts) => Self::of_otp(facts),
            Data::Codes(CodesFacts { remaining, total }) => Self::Codes {
                remaining: *remaining,
                total: *total,
            },
            #[cfg(feature = "next")]
            Data::Basket(text) => Self::Text {
                text: text.as_str(),
            },
            Data::Instrument(instrument) => Self::of_instrument(instrument),
        }
    }

    fn of_otp(facts: &'i OtpFacts) -> Self {
        Self::Otp {
            r#type: facts.moving().as_str(),
            issuer: facts.issuer(),
            account: facts.account(),
            algorithm: facts.algorithm().as_str(),
            digits: facts.digits(),
            period_s: facts.period_s(),
            counter: facts.counter(),
        }
    }

    fn of_instrument(instrument: &'i Instrument) -> Self {
        Self::Instrument {
            isin: instrument.isin().map(Isin::as_str),
            r#type: instrument.kind().as_str(),
            mic: instrument.mic().map(Mic::as_str),
            ticker: instrument.ticker().map(Ticker::as_str),
            currency: instrument.currency().map(CurrencyCode::as_str),
            name: instrument.name().map(InstrumentName::as_str),
        }
    }
}

fn entries_of<S: Serializer>(meta: &Option<&Meta>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(meta.iter().flat_map(|meta| meta.iter()))
}

fn texts_of<S: Serializer>(tags: &Option<&Tags>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tags.iter().flat_map(|tags| tags.iter()))
}

fn written<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemLimits, Kind, Place};
    use crate::wire::{BodyLimits, Encoding, Fields, NewData, Ordered, data_from, decode, encode};
    use serde_json::json;

    fn item(kind: Kind, body: Value) -> Item {
        let limits = ItemLimits::default();
        let bytes = encode(&body, Encoding::Json);
        let body = decode(&bytes, Encoding::Json, &BodyLimits::default()).expect("JSON");
        let data = match data_from(kind, Fields::of(body).expect("fields"), &limits) {
            Ok(NewData::Shown(data)) => data,
            Ok(NewData::Otp(otp)) => Data::Otp(otp.facts().clone()),
            Ok(NewData::Codes(codes)) => Data::Codes(codes.facts()),
            Err(refusal) => panic!("{refusal:?}"),
        };
        let id = match &data {
            Data::Instrument(instrument) => instrument.id().expect("an identity"),
            _ => ItemId::parse(kind, "note", &limits).expect("valid"),
        };

        Item {
            kind: kind.into(),
            id,
            data: Some(data),
            meta: Meta::parse([("broker".to_owned(), "x".to_owned())], &limits).expect("valid"),
            tags: Tags::parse(["b".to_owned(), "a".to_owned()], &limits).expect("valid"),
            place: Place::of_creation(1, 0),
            created_at: Timestamp::from_millis(0),
            updated_at: Timestamp::from_millis(1),
        }
    }

    fn text_item() -> Item {
        item(Kind::Text, json!({"text": "hi"}))
    }

    /// One item of each kind, with as many fields as it can have.
    fn samples() -> Vec<Item> {
        let instrument = json!({
            "isin": "US0378331005", "type": "stock", "ticker": "AAPL", "mic": "XNAS", "currency": "USD", "name": "Apple",
        });
        let secret = "secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Bank";
        let timed = json!({"uri": format!("otpauth://totp/Bank:me?{secret}&period=60&digits=8")});
        let counted = json!({"uri": format!("otpauth://hotp/Bank:me?{secret}&counter=7")});

        vec![
            item(Kind::Instrument, instrument),
            text_item(),
            item(Kind::Text, json!({"text": "\"hi\"\n"})),
            item(Kind::Otp, timed),
            item(Kind::Otp, counted),
            item(Kind::Codes, json!({"codes": ["1111", "2222"]})),
        ]
    }

    fn assert_in_order(view: &ItemView<'_>) {
        let written = serde_json::to_string(view).expect("JSON");
        let tree = view.to_value();

        assert_eq!(
            written,
            serde_json::to_string(&Ordered(&tree)).expect("JSON")
        );
        assert_eq!(written.len(), crate::wire::json_bytes(view));
        assert_eq!(
            decode(
                &encode(view, Encoding::Cbor),
                Encoding::Cbor,
                &BodyLimits::default()
            ),
            decode(
                &encode(&tree, Encoding::Cbor),
                Encoding::Cbor,
                &BodyLimits::default()
            ),
        );
    }

    #[test]
    fn an_instrument_is_shown_as_it_was_read() {
        let full = json!({
            "isin": "US0378331005",
            "type": "stock",
            "ticker": "AAPL",
            "mic": "XNAS",
            "currency": "USD",
            "name": "Apple Inc.",
        });
        let bare = json!({"isin": "US0378331005", "type": "stock"});
        let listing = json!({"type": "future", "ticker": "SiZ6", "mic": "RTSX"});
        let table = [
            (full, "US0378331005"),
            (bare, "US0378331005"),
            (listing, "RTSX:SiZ6"),
        ];

        for (body, id) in table {
            let item = item(Kind::Instrument, body.clone());

            let view = ItemView::living(&item, Version::MAX).to_value();

            assert_eq!(view["data"], body);
            assert_eq!(view["id"], id);
        }
    }

    #[test]
    fn an_item_has_all_the_fields_of_the_contract() {
        let expected = json!({
            "kind": "text",
            "id": "note",
            "data": {"text": "hi"},
            "meta": {"broker": "x"},
            "tags": ["a", "b"],
            "place": "0000000000100V",
            "version": 9_007_199_254_740_992_u64,
            "created_at": "1970-01-01T00:00:00.000Z",
            "updated_at": "1970-01-01T00:00:00.001Z",
        });

        let view = ItemView::living(&text_item(), Version::MAX).to_value();

        assert_eq!(view, expected);
    }

    #[test]
    fn a_deleted_item_is_marked_as_deleted() {
        let item = text_item();
        let expected = json!({
            "kind": "text",
            "id": "note",
            "version": 0,
            "deleted": true,
            "updated_at": "1970-01-01T00:00:00.001Z",
        });

        let view = ItemView::deleted(&item.kind, &item.id, Version::NONE, item.updated_at);
        let view = view.to_value();

        assert_eq!(view, expected);
    }

    #[test]
    fn items_are_written_in_the_order_of_fields() {
        for item in samples() {
            let view = ItemView::living(&item, Version::MAX);
            assert_in_order(&view);
            let tree = view.to_value();
            assert!(
                tree["data"]
                    .as_object()
                    .is_some_and(|data| !data.is_empty()),
                "{tree}"
            );
        }

        let item = &text_item();
        assert_in_order(&ItemView::ids(item, Version::MAX));
        assert_in_order(&ItemView::deleted(
            &item.kind,
            &item.id,
            Version::MAX,
            item.updated_at,
        ));
    }

    #[test]
    fn an_item_of_an_unknown_kind_shows_no_data() {
        let item = Item {
            data: None,
            ..text_item()
        };
        let view = ItemView::living(&item, Version::MAX);

        assert_in_order(&view);
        let tree = view.to_value();
        assert_eq!(tree["unknown"], true);
        assert!(
            tree.get("data").is_none() && tree.get("meta").is_none(),
            "{tree}"
        );
    }
}
