//! What the reference service is asked.

use crate::domain::{Instrument, opaque_debug};
use serde_json::json;

/// The question whether an instrument exists: by its ISIN, or by its market and ticker if it has
/// none.
///
/// Equal questions are about the same instrument.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The body of the request, in JSON.
    body: String,
    /// The field of a caller's request that the question is about.
    field: &'static str,
}

// It shows what an owner keeps.
opaque_debug!(Question);

impl Question {
    /// Returns the question about this instrument; `None` if nothing identifies the instrument.
    pub fn about(instrument: &Instrument) -> Option<Self> {
        if let Some(isin) = instrument.isin() {
            return Some(Self {
                body: json!({"isin": isin.as_str()}).to_string(),
                field: "data.isin",
            });
        }

        let (mic, ticker) = instrument.mic().zip(instrument.ticker())?;
        Some(Self {
            body: json!({"mic": mic.as_str(), "ticker": ticker.as_str()}).to_string(),
            field: "data.ticker",
        })
    }

    /// Returns a question that only finds out whether the service answers: about an empty ISIN.
    pub fn probe() -> Self {
        Self {
            body: json!({"isin": ""}).to_string(),
            field: "data.isin",
        }
    }

    /// Returns the body of the request.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Returns the path of the field that names the instrument in a caller's request.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{InstrumentInput, ItemLimits};
    use serde_json::Value;

    fn about(isin: Option<&str>) -> Question {
        let input = InstrumentInput {
            isin,
            r#type: "stock",
            ticker: Some("AAPL"),
            mic: Some("XNAS"),
            ..InstrumentInput::default()
        };
        let apple = Instrument::parse(input, &ItemLimits::default()).expect("valid");

        Question::about(&apple).expect("identified")
    }

    #[test]
    fn without_an_isin_it_is_asked_for_by_market_and_ticker() {
        let question = about(None);

        let body: Value = serde_json::from_str(question.body()).expect("JSON");
        assert_eq!(body, json!({"mic": "XNAS", "ticker": "AAPL"}));
        assert_eq!(question.field(), "data.ticker");
    }

    #[test]
    fn an_instrument_is_asked_for_by_its_isin_alone() {
        let question = about(Some("us0378331005"));

        let body: Value = serde_json::from_str(question.body()).expect("JSON");
        assert_eq!(body, json!({"isin": "US0378331005"}));
        assert_eq!(question.field(), "data.isin");
        assert_eq!(format!("{question:?}"), "Question");
    }
}
