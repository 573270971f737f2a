//! What the reference service answers.

use super::ReferenceError;
use crate::domain::{CurrencyCode, InstrumentName, ItemLimits, Mic, Ticker, opaque_debug};
use serde_json::Value;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16_384;

/// An answer about an instrument.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// The instrument exists.
    Found(Listing),
    /// The service knows no such instrument.
    Unknown,
}

/// What the service knows about an instrument.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The symbol on the exchange.
    pub ticker: Option<Ticker>,
    /// The market.
    pub mic: Option<Mic>,
    /// The currency.
    pub currency: Option<CurrencyCode>,
    /// The common name.
    pub name: Option<InstrumentName>,
}

opaque_debug!(Answer, Listing);

impl Answer {
    /// Reads `{found, name?, ticker?, mic?, currency?}` in JSON. Other fields are ignored, and so
    /// is one of these that breaks its rule.
    ///
    /// # Errors
    /// The answer is too long, is not a JSON object, or does not say whether the instrument was
    /// found.
    pub fn read(bytes: &[u8], limits: &ItemLimits) -> Result<Self, ReferenceError> {
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(ReferenceError::TooLong);
        }

        let fields: Value =
            serde_json::from_slice(bytes).map_err(|_| ReferenceError::Unreadable)?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let found = fields.get("found").and_then(Value::as_bool);

        match found {
            None => Err(ReferenceError::Unreadable),
            Some(false) => Ok(Self::Unknown),
            Some(true) => Ok(Self::Found(Listing {
                ticker: text("ticker").and_then(|text| Ticker::parse(text, limits).ok()),
                mic: text("mic").and_then(|text| Mic::parse(text).ok()),
                currency: text("currency").and_then(|text| CurrencyCode::parse(text).ok()),
                name: text("name").and_then(|text| InstrumentName::parse(text, limits).ok()),
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(answer: &Value) -> Result<Answer, ReferenceError> {
        Answer::read(answer.to_string().as_bytes(), &ItemLimits::default())
    }

    fn listing(answer: &Value) -> Listing {
        match read(answer).expect("readable") {
            Answer::Found(listing) => listing,
            Answer::Unknown => panic!("found"),
        }
    }

    #[test]
    fn all_fields_of_a_known_instrument_are_read() {
        let apple = listing(&json!({
            "found": true,
            "name": "Apple Inc.",
            "ticker": "AAPL",
            "mic": "xnas",
            "currency": "usd",
            "sector": "technology",
        }));

        assert_eq!(
            apple.name.as_ref().map(InstrumentName::as_str),
            Some("Apple Inc.")
        );
        assert_eq!(apple.ticker.as_ref().map(Ticker::as_str), Some("AAPL"));
        assert_eq!(apple.mic.as_ref().map(Mic::as_str), Some("XNAS"));
        assert_eq!(
            apple.currency.as_ref().map(CurrencyCode::as_str),
            Some("USD")
        );
    }

    #[test]
    fn a_field_that_breaks_its_rule_is_dropped() {
        let strange = listing(&json!({
            "found": true,
            "name": "a\u{7}b",
            "ticker": 7,
            "mic": "NASDAQ",
            "currency": "USD",
        }));

        assert!(strange.name.is_none());
        assert!(strange.ticker.is_none());
        assert!(strange.mic.is_none());
        assert!(strange.currency.is_some(), "the rest is used");
        assert!(listing(&json!({"found": true})) == Listing::default());
    }

    #[test]
    fn an_unknown_instrument_needs_no_other_field() {
        assert!(read(&json!({"found": false})) == Ok(Answer::Unknown));
        assert!(read(&json!({"found": false, "name": "x"})) == Ok(Answer::Unknown));
    }

    #[test]
    fn an_answer_that_does_not_say_whether_it_was_found_is_unreadable() {
        let unreadable = [
            json!(null),
            json!(true),
            json!([]),
            json!({}),
            json!({"found": "yes"}),
            json!({"found": 1}),
            json!({"found": null}),
            json!({"error": {"code": "overloaded"}}),
        ];
        for answer in unreadable {
            assert_eq!(
                read(&answer).err(),
                Some(ReferenceError::Unreadable),
                "{answer}"
            );
        }

        let limits = ItemLimits::default();
        for bytes in [&b""[..], b"{\"found\": true", b"\xff\xfe", b"[[[["] {
            let answer = Answer::read(bytes, &limits);
            assert_eq!(answer.err(), Some(ReferenceError::Unreadable));
        }
    }

    #[test]
    fn an_answer_that_is_too_long_is_not_read() {
        let long = json!({"found": true, "more": "x".repeat(ANSWER_BYTES_MAX)});

        assert_eq!(read(&long).err(), Some(ReferenceError::TooLong));
    }

    #[test]
    fn debug_prints_only_the_names_of_the_types() {
        let answer = Answer::Found(Listing::default());

        assert_eq!(
            format!("{answer:?} {:?}", Listing::default()),
            "Answer Listing"
        );
    }
}
