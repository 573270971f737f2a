//! Parses the data of an item.

use super::{Fields, Refusal};
use crate::domain::{
    Codes, Data, Instrument, InstrumentInput, Invalid, ItemLimits, Kind, Otp, Text, opaque_debug,
};
use zeroize::Zeroizing;

/// The data of a `put`.
#[derive(Clone, PartialEq, Eq)]
pub enum NewData {
    /// Data of which nothing is hidden.
    Shown(Data),
    /// A one-time-password secret.
    Otp(Otp),
    /// A list of one-time codes.
    Codes(Codes),
}

opaque_debug!(NewData);

impl NewData {
    /// Returns the instrument, if it is one.
    pub fn instrument(&self) -> Option<&Instrument> {
        match self {
            Self::Shown(Data::Instrument(instrument)) => Some(instrument),
            _ => None,
        }
    }
}

/// Parses `data` of this kind from its fields. Refuses fields that the kind does not have.
///
/// # Errors
/// `bad_request` for a field that is missing, unknown or of the wrong type; `invalid_item` for one
/// that breaks a rule. Both name the field with its path under `data`. `invalid_item` names `data`
/// itself for an instrument without an identity.
pub fn data_from(kind: Kind, mut fields: Fields, limits: &ItemLimits) -> Result<NewData, Refusal> {
    let under_data = |invalid: Invalid| Refusal::from(invalid.under("data"));

    match kind {
        Kind::Instrument => {
            let isin = fields.text("isin")?;
            let r#type = fields.require_text("type")?;
            let ticker = fields.text("ticker")?;
            let mic = fields.text("mic")?;
            let currency = fields.text("currency")?;
            let name = fields.text("name")?;
            fields.finish()?;

            let input = InstrumentInput {
                isin: isin.as_deref(),
                r#type: &r#type,
                ticker: ticker.as_deref(),
                mic: mic.as_deref(),
                currency: currency.as_deref(),
                name: name.as_deref(),
            };

            Instrument::parse(input, limits)
                .map(|instrument| NewData::Shown(Data::Instrument(instrument)))
                .map_err(under_data)
        }
        Kind::Text => {
            let text = fields.require_text("text")?;
            fields.finish()?;

            Text::parse(&text, limits)
                .map(|text| NewData::Shown(Data::Text(text)))
                .map_err(under_data)
        }
        Kind::Otp => {
            let uri = Zeroizing::new(fields.require_text("uri")?);
            fields.finish()?;

            Otp::parse(&uri).map(NewData::Otp).map_err(under_data)
        }
        Kind::Codes => {
            let codes = fields.text_list("codes")?;
            let codes = Zeroizing::new(fields.require("codes", codes)?);
            fields.finish()?;

            Codes::parse(&codes, limits)
                .map(NewData::Codes)
                .map_err(under_data)
        }
        #[cfg(feature = "next")]
        Kind::Basket => {
            let text = fields.require_text("text")?;
            fields.finish()?;

            Text::parse(&text, limits)
                .map(|text| NewData::Shown(Data::Basket(text)))
                .map_err(under_data)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BodyLimits, Code, Encoding, decode, encode};
    use serde_json::{Value, json};

    fn data(kind: Kind, body: Value) -> Result<NewData, Refusal> {
        let bytes = encode(&json!({"data": body}), Encoding::Cbor);
        let mut fields = Fields::of(decode(&bytes, Encoding::Cbor, &BodyLimits::default())?)?;
        let data = fields.map("data")?.expect("present");

        data_from(kind, data, &ItemLimits::default())
    }

    #[track_caller]
    fn assert_refused(kind: Kind, body: Value, code: Code, field: &str) {
        let refusal = data(kind, body).expect_err("this one is wrong");

        assert_eq!(refusal.code(), code);
        assert_eq!(refusal.details()["field"], field);
    }

    #[test]
    fn a_wrong_form_of_data_is_a_bad_request() {
        let table = [
            (Kind::Instrument, json!({}), "data.type"),
            (Kind::Instrument, json!({"isin": "x"}), "data.type"),
            (
                Kind::Instrument,
                json!({"isin": 7, "type": "stock"}),
                "data.isin",
            ),
            (
                Kind::Instrument,
                json!({"isin": "x", "type": "y", "text": "z"}),
                "data.text",
            ),
            (Kind::Text, json!({}), "data.text"),
            (Kind::Text, json!({"text": "x", "isin": "x"}), "data.isin"),
        ];

        for (kind, body, field) in table {
            assert_refused(kind, body, Code::BadRequest, field);
        }
    }

    #[test]
    fn a_broken_rule_in_data_is_an_invalid_item() {
        let table = [
            (
                Kind::Instrument,
                json!({"isin": "x", "type": "stock"}),
                "data.isin",
            ),
            (
                Kind::Instrument,
                json!({"isin": "", "type": "stock", "mic": "XNAS", "ticker": "AAPL"}),
                "data.isin",
            ),
            (Kind::Instrument, json!({"type": "stock"}), "data"),
            (
                Kind::Instrument,
                json!({"type": "stock", "mic": "XNAS"}),
                "data",
            ),
            (
                Kind::Instrument,
                json!({"type": "stock", "ticker": "AAPL"}),
                "data",
            ),
            (Kind::Text, json!({"text": ""}), "data.text"),
        ];

        for (kind, body, field) in table {
            assert_refused(kind, body, Code::InvalidItem, field);
        }
    }
}
