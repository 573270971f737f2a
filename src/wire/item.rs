//! An item on the wire.

use super::{Fields, Refusal};
use crate::domain::{
    CurrencyCode, Data, Instrument, InstrumentInput, InstrumentName, Invalid, Item, ItemId,
    ItemLimits, Kind, Mic, Text, Ticker, Timestamp, Version,
};
use serde_json::{Map, Value, json};

/// Reads `data` of that kind from its fields, and refuses those that the kind does not have.
///
/// # Errors
/// `bad_request` for a field that is missing, unknown or of the wrong type; `invalid_item` for one that breaks a rule.
/// Both name it under `data`.
pub fn data_from(kind: Kind, mut fields: Fields, limits: &ItemLimits) -> Result<Data, Refusal> {
    let under_data = |invalid: Invalid| Refusal::from(invalid.under("data"));
    match kind {
        Kind::Instrument => {
            let (isin, r#type) = (fields.require_text("isin")?, fields.require_text("type")?);
            let (ticker, mic) = (fields.text("ticker")?, fields.text("mic")?);
            let (currency, name) = (fields.text("currency")?, fields.text("name")?);
            fields.finish()?;
            let input = InstrumentInput {
                isin: &isin,
                r#type: &r#type,
                ticker: ticker.as_deref(),
                mic: mic.as_deref(),
                currency: currency.as_deref(),
                name: name.as_deref(),
            };
            Instrument::parse(input, limits)
                .map(Data::Instrument)
                .map_err(under_data)
        }
        Kind::Text => {
            let text = fields.require_text("text")?;
            fields.finish()?;
            Text::parse(&text, limits)
                .map(Data::Text)
                .map_err(under_data)
        }
    }
}

/// The item as the contract shows it. All fields are there, `meta` and `tags` perhaps empty; of `data`, what is absent
/// is left out.
pub fn item_view(item: &Item, version: Version) -> Value {
    json!({
        "kind": item.kind.as_str(),
        "id": item.id.as_str(),
        "data": data_view(&item.data),
        "meta": item.meta.iter().map(|(key, value)| (key.to_owned(), value.into())).collect::<Map<_, _>>(),
        "tags": item.tags.iter().collect::<Vec<_>>(),
        "version": version.get(),
        "created_at": item.created_at.to_rfc3339(),
        "updated_at": item.updated_at.to_rfc3339(),
    })
}

/// A deleted item as the contract shows it.
pub fn deleted_view(kind: Kind, id: &ItemId, version: Version, updated_at: Timestamp) -> Value {
    json!({
        "kind": kind.as_str(),
        "id": id.as_str(),
        "version": version.get(),
        "deleted": true,
        "updated_at": updated_at.to_rfc3339(),
    })
}

fn data_view(data: &Data) -> Value {
    match data {
        Data::Text(text) => json!({"text": text.as_str()}),
        Data::Instrument(instrument) => {
            let mut view = Map::new();
            view.insert("isin".to_owned(), instrument.isin().as_str().into());
            view.insert("type".to_owned(), instrument.kind().as_str().into());
            let optional = [
                ("ticker", instrument.ticker().map(Ticker::as_str)),
                ("mic", instrument.mic().map(Mic::as_str)),
                ("currency", instrument.currency().map(CurrencyCode::as_str)),
                ("name", instrument.name().map(InstrumentName::as_str)),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    view.insert(name.to_owned(), value.into());
                }
            }
            Value::Object(view)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Meta, Tags};
    use crate::wire::{BodyLimits, Code, Encoding, decode, encode};

    fn data(kind: Kind, body: Value) -> Result<Data, Refusal> {
        let bytes = encode(&json!({"data": body}), Encoding::Cbor);
        let mut fields = Fields::of(decode(&bytes, Encoding::Cbor, &BodyLimits::default())?)?;
        data_from(
            kind,
            fields.map("data")?.expect("there"),
            &ItemLimits::default(),
        )
    }

    fn item(data: Data) -> Item {
        let limits = ItemLimits::default();
        let id = match &data {
            Data::Instrument(instrument) => ItemId::of_isin(instrument.isin()),
            Data::Text(_) => ItemId::parse(Kind::Text, "note", &limits).expect("valid"),
        };
        Item {
            kind: data.kind(),
            id,
            data,
            meta: Meta::parse([("broker".to_owned(), "x".to_owned())], &limits).expect("valid"),
            tags: Tags::parse(["b".to_owned(), "a".to_owned()], &limits).expect("valid"),
            created_at: Timestamp::from_millis(0),
            updated_at: Timestamp::from_millis(1),
        }
    }

    #[test]
    fn an_instrument_is_shown_as_it_was_read() {
        let full = json!({"isin": "US0378331005", "type": "stock", "ticker": "AAPL", "mic": "XNAS", "currency": "USD",
            "name": "Apple Inc."});
        let bare = json!({"isin": "US0378331005", "type": "stock"});
        for body in [full, bare] {
            let view = item_view(
                &item(data(Kind::Instrument, body.clone()).expect("valid")),
                Version::MAX,
            );
            assert_eq!(view["data"], body);
            assert_eq!(view["id"], "US0378331005");
        }
    }

    #[test]
    fn an_item_has_all_the_fields_of_the_contract() {
        let view = item_view(
            &item(data(Kind::Text, json!({"text": "hi"})).expect("valid")),
            Version::MAX,
        );
        let expected = json!({"kind": "text", "id": "note", "data": {"text": "hi"}, "meta": {"broker": "x"},
            "tags": ["a", "b"], "version": 9_007_199_254_740_992_u64, "created_at": "1970-01-01T00:00:00.000Z",
            "updated_at": "1970-01-01T00:00:00.001Z"});
        assert_eq!(view, expected);
    }

    #[test]
    fn a_deleted_item_says_so() {
        let Item {
            kind,
            id,
            updated_at,
            ..
        } = item(data(Kind::Text, json!({"text": "hi"})).expect("valid"));
        let expected = json!({"kind": "text", "id": "note", "version": 0, "deleted": true,
            "updated_at": "1970-01-01T00:00:00.001Z"});
        assert_eq!(deleted_view(kind, &id, Version::NONE, updated_at), expected);
    }

    #[test]
    fn a_fault_in_data_is_named_under_data() {
        let told = |kind, body| {
            let refusal = data(kind, body).expect_err("this one is wrong");
            (
                refusal.code(),
                refusal.details()["field"]
                    .as_str()
                    .expect("text")
                    .to_owned(),
            )
        };
        let (bad, invalid) = (Code::BadRequest, Code::InvalidItem);
        assert_eq!(
            told(Kind::Instrument, json!({"type": "stock"})),
            (bad, "data.isin".into())
        );
        assert_eq!(
            told(Kind::Instrument, json!({"isin": "x"})),
            (bad, "data.type".into())
        );
        assert_eq!(
            told(Kind::Instrument, json!({"isin": "x", "type": "stock"})),
            (invalid, "data.isin".into())
        );
        assert_eq!(
            told(
                Kind::Instrument,
                json!({"isin": "x", "type": "y", "text": "z"})
            ),
            (bad, "data.text".into())
        );
        assert_eq!(told(Kind::Text, json!({})), (bad, "data.text".into()));
        assert_eq!(
            told(Kind::Text, json!({"text": ""})),
            (invalid, "data.text".into())
        );
        assert_eq!(
            told(Kind::Text, json!({"text": "x", "isin": "x"})),
            (bad, "data.isin".into())
        );
    }
}
