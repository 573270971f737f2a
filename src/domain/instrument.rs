//! A security or another thing that is traded, as an owner marks it.

use super::{CurrencyCode, InstrumentName, Invalid, Isin, ItemLimits, Mic, Ticker, opaque_debug};
use serde::{Deserialize, Serialize};

/// What sort of instrument it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstrumentType {
    /// A share.
    Stock,
    /// A bond.
    Bond,
    /// A fund that is not traded on an exchange.
    Fund,
    /// A fund that is traded on an exchange.
    Etf,
    /// A currency or a pair of them.
    Currency,
    /// A future.
    Future,
    /// An option.
    Option,
    /// An index.
    Index,
    /// A commodity.
    Commodity,
    /// A crypto-asset.
    Crypto,
    /// Any other.
    Other,
}

impl InstrumentType {
    /// Every type, in the order in which a refusal lists them.
    pub const ALL: [Self; 11] = [
        Self::Stock,
        Self::Bond,
        Self::Fund,
        Self::Etf,
        Self::Currency,
        Self::Future,
        Self::Option,
        Self::Index,
        Self::Commodity,
        Self::Crypto,
        Self::Other,
    ];

    /// Reads the name of a type, which is in lower case.
    ///
    /// # Errors
    /// [`Invalid`] for `type`, listing the names that are allowed.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::as_str).join(", ");
                Invalid::new("type", format!("must be one of {names}"))
            })
    }

    /// The name, as on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Bond => "bond",
            Self::Fund => "fund",
            Self::Etf => "etf",
            Self::Currency => "currency",
            Self::Future => "future",
            Self::Option => "option",
            Self::Index => "index",
            Self::Commodity => "commodity",
            Self::Crypto => "crypto",
            Self::Other => "other",
        }
    }
}

/// The fields of an instrument as a caller sends them, not yet looked at.
#[derive(Clone, Copy, Default)]
pub struct InstrumentInput<'a> {
    /// The ISIN (ISO 6166).
    pub isin: &'a str,
    /// The name of an [`InstrumentType`].
    pub r#type: &'a str,
    /// The symbol on the exchange.
    pub ticker: Option<&'a str>,
    /// The market (ISO 10383).
    pub mic: Option<&'a str>,
    /// The currency (ISO 4217).
    pub currency: Option<&'a str>,
    /// What people call it.
    pub name: Option<&'a str>,
}

/// An instrument. The stored form leaves out what is absent and is not checked against limits when read back, so that
/// a limit lowered later leaves nothing unreadable.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instrument {
    isin: Isin,
    #[serde(rename = "type")]
    kind: InstrumentType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticker: Option<Ticker>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mic: Option<Mic>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<CurrencyCode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<InstrumentName>,
}

opaque_debug!(Instrument);

impl std::fmt::Debug for InstrumentInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InstrumentInput")
    }
}

impl Instrument {
    /// Reads an instrument from its fields.
    ///
    /// # Errors
    /// [`Invalid`] for the first of `isin`, `type`, `ticker`, `mic`, `currency` and `name` that breaks its rule.
    pub fn parse(input: InstrumentInput<'_>, limits: &ItemLimits) -> Result<Self, Invalid> {
        Ok(Self {
            isin: Isin::parse(input.isin)?,
            kind: InstrumentType::parse(input.r#type)?,
            ticker: input
                .ticker
                .map(|text| Ticker::parse(text, limits))
                .transpose()?,
            mic: input.mic.map(Mic::parse).transpose()?,
            currency: input.currency.map(CurrencyCode::parse).transpose()?,
            name: input
                .name
                .map(|text| InstrumentName::parse(text, limits))
                .transpose()?,
        })
    }

    /// The ISIN, which is also the item's id.
    pub fn isin(&self) -> &Isin {
        &self.isin
    }

    /// What sort of instrument it is: `type` on the wire.
    pub fn kind(&self) -> InstrumentType {
        self.kind
    }

    /// The symbol on the exchange.
    pub fn ticker(&self) -> Option<&Ticker> {
        self.ticker.as_ref()
    }

    /// The market.
    pub fn mic(&self) -> Option<&Mic> {
        self.mic.as_ref()
    }

    /// The currency.
    pub fn currency(&self) -> Option<&CurrencyCode> {
        self.currency.as_ref()
    }

    /// What people call it.
    pub fn name(&self) -> Option<&InstrumentName> {
        self.name.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLE: InstrumentInput<'static> = InstrumentInput {
        isin: "us0378331005",
        r#type: "stock",
        ticker: Some("AAPL"),
        mic: Some("xnas"),
        currency: Some("usd"),
        name: Some("Apple Inc."),
    };

    fn parse(input: InstrumentInput<'_>) -> Result<Instrument, Invalid> {
        Instrument::parse(input, &ItemLimits::default())
    }

    #[test]
    fn all_fields_are_read_and_upper_cased_where_they_are_codes() {
        let apple = parse(APPLE).expect("valid");
        assert_eq!(
            (apple.isin().as_str(), apple.kind()),
            ("US0378331005", InstrumentType::Stock)
        );
        assert_eq!(apple.ticker().map(Ticker::as_str), Some("AAPL"));
        assert_eq!(apple.mic().map(Mic::as_str), Some("XNAS"));
        assert_eq!(apple.currency().map(CurrencyCode::as_str), Some("USD"));
        assert_eq!(apple.name().map(InstrumentName::as_str), Some("Apple Inc."));
    }

    #[test]
    fn only_isin_and_type_are_required() {
        let bare = parse(InstrumentInput {
            isin: APPLE.isin,
            r#type: "etf",
            ..InstrumentInput::default()
        });
        let bare = bare.expect("valid");
        assert!(
            bare.ticker().is_none()
                && bare.mic().is_none()
                && bare.currency().is_none()
                && bare.name().is_none()
        );
    }

    #[test]
    fn a_refusal_names_the_field() {
        let field = |input| parse(input).expect_err("this one is wrong").field;
        assert_eq!(field(InstrumentInput { isin: "", ..APPLE }), "isin");
        assert_eq!(
            field(InstrumentInput {
                r#type: "Stock",
                ..APPLE
            }),
            "type"
        );
        assert_eq!(
            field(InstrumentInput {
                ticker: Some(""),
                ..APPLE
            }),
            "ticker"
        );
        assert_eq!(
            field(InstrumentInput {
                mic: Some("X"),
                ..APPLE
            }),
            "mic"
        );
        assert_eq!(
            field(InstrumentInput {
                currency: Some("X"),
                ..APPLE
            }),
            "currency"
        );
        assert_eq!(
            field(InstrumentInput {
                name: Some("\n"),
                ..APPLE
            }),
            "name"
        );
    }

    #[test]
    fn every_type_has_a_name_of_its_own_that_reads_back() {
        for one in InstrumentType::ALL {
            assert_eq!(InstrumentType::parse(one.as_str()), Ok(one));
            assert_eq!(serde_json::to_value(one).expect("encodable"), one.as_str());
        }
        let reason = InstrumentType::parse("share")
            .expect_err("no such type")
            .reason;
        assert_eq!(
            reason,
            "must be one of stock, bond, fund, etf, currency, future, option, index, commodity, crypto, other"
        );
    }

    #[test]
    fn the_stored_form_reads_back_and_outlives_a_lowered_limit() {
        let apple = parse(InstrumentInput {
            ticker: None,
            ..APPLE
        })
        .expect("valid");
        let stored = serde_json::to_value(&apple).expect("encodable");
        assert_eq!(stored["type"], "stock");
        assert!(stored.get("ticker").is_none());
        assert_eq!(
            serde_json::from_value::<Instrument>(stored).expect("written here"),
            apple
        );
        assert!(serde_json::from_str::<Instrument>(r#"{"isin": 7, "type": "stock"}"#).is_err());
        assert_eq!(format!("{apple:?} {APPLE:?}"), "Instrument InstrumentInput");
    }
}
