//! A security or another traded instrument that an owner marks as a favourite.

use super::{
    CurrencyCode, InstrumentName, Invalid, Isin, ItemId, ItemLimits, Mic, Ticker, opaque_debug,
};
use serde::{Deserialize, Serialize};

/// The type of an instrument.
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
    /// A currency or a currency pair.
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
    /// Any other type.
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

    /// Parses the name of a type, in lower case.
    ///
    /// # Errors
    /// [`Invalid`] for `type`, with the list of the allowed names.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::as_str).join(", ");

                Invalid::new("type", format!("must be one of {names}"))
            })
    }

    /// Returns the name on the wire.
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

/// The fields of an instrument as a caller sends them, not yet validated.
#[derive(Clone, Copy, Default)]
pub struct InstrumentInput<'a> {
    /// The ISIN (ISO 6166).
    pub isin: Option<&'a str>,
    /// The name of an [`InstrumentType`].
    pub r#type: &'a str,
    /// The symbol on the exchange.
    pub ticker: Option<&'a str>,
    /// The market (ISO 10383).
    pub mic: Option<&'a str>,
    /// The currency (ISO 4217, or the code of a minor unit).
    pub currency: Option<&'a str>,
    /// The common name.
    pub name: Option<&'a str>,
}

/// An instrument, identified by its ISIN, or, without one, by market and ticker together.
///
/// The stored form omits absent fields. It is not checked against the limits when it is read, so
/// that stored instruments stay readable after a limit is lowered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instrument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    isin: Option<Isin>,
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
    /// Parses an instrument from its fields.
    ///
    /// # Errors
    /// [`Invalid`] for the first of `isin`, `type`, `ticker`, `mic`, `currency` and `name` that
    /// breaks its rule; with an empty field if there is neither `isin` nor both `mic` and `ticker`.
    pub fn parse(input: InstrumentInput<'_>, limits: &ItemLimits) -> Result<Self, Invalid> {
        let instrument = Self {
            isin: input.isin.map(Isin::parse).transpose()?,
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
        };

        if instrument.id().is_none() {
            let reason = "an instrument needs its isin, or both mic and ticker";
            return Err(Invalid::new("", reason));
        }

        Ok(instrument)
    }

    /// Returns the id of the item: the ISIN, or `MIC:TICKER` without one.
    ///
    /// `None` only for a stored instrument that has neither, which [`parse`](Self::parse) refuses.
    pub fn id(&self) -> Option<ItemId> {
        match (&self.isin, &self.mic, &self.ticker) {
            (Some(isin), ..) => Some(ItemId::of_isin(isin)),
            (None, Some(mic), Some(ticker)) => Some(ItemId::of_listing(mic, ticker)),
            (None, ..) => None,
        }
    }

    /// Returns the ISIN.
    pub fn isin(&self) -> Option<&Isin> {
        self.isin.as_ref()
    }

    /// Returns the type of the instrument: `type` on the wire.
    pub fn kind(&self) -> InstrumentType {
        self.kind
    }

    /// Returns the symbol on the exchange.
    pub fn ticker(&self) -> Option<&Ticker> {
        self.ticker.as_ref()
    }

    /// Returns the code of the market.
    pub fn mic(&self) -> Option<&Mic> {
        self.mic.as_ref()
    }

    /// Returns the code of the currency.
    pub fn currency(&self) -> Option<&CurrencyCode> {
        self.currency.as_ref()
    }

    /// Returns the common name.
    pub fn name(&self) -> Option<&InstrumentName> {
        self.name.as_ref()
    }

    /// Fills in the fields that are absent. Those that are present stay as they are.
    pub fn fill_in(
        &mut self,
        ticker: Option<Ticker>,
        mic: Option<Mic>,
        currency: Option<CurrencyCode>,
        name: Option<InstrumentName>,
    ) {
        // Market, ticker and currency are those of one listing.
        let is_same_listing = agrees(&self.mic, &mic)
            && agrees(&self.ticker, &ticker)
            && agrees(&self.currency, &currency);
        if is_same_listing {
            self.ticker = self.ticker.take().or(ticker);
            self.currency = self.currency.take().or(currency);
            self.mic = self.mic.take().or(mic);
        }
        self.name = self.name.take().or(name);
    }
}

/// Returns whether a field that a caller sent may stand beside the one that is known.
fn agrees<T: PartialEq>(sent: &Option<T>, known: &Option<T>) -> bool {
    sent.is_none() || known.is_none() || sent == known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;

    const APPLE: InstrumentInput<'static> = InstrumentInput {
        isin: Some("us0378331005"),
        r#type: "stock",
        ticker: Some("AAPL"),
        mic: Some("xnas"),
        currency: Some("usd"),
        name: Some("Apple Inc."),
    };

    const FUTURE: InstrumentInput<'static> = InstrumentInput {
        isin: None,
        r#type: "future",
        ticker: Some("SiZ6"),
        mic: Some("rtsx"),
        currency: None,
        name: None,
    };

    fn parse(input: InstrumentInput<'_>) -> Result<Instrument, Invalid> {
        Instrument::parse(input, &ItemLimits::default())
    }

    #[test]
    fn all_fields_are_read_and_codes_are_upper_cased() {
        let apple = parse(APPLE).expect("valid");

        assert_eq!(apple.isin().map(Isin::as_str), Some("US0378331005"));
        assert_eq!(apple.kind(), InstrumentType::Stock);
        assert_eq!(apple.ticker().map(Ticker::as_str), Some("AAPL"));
        assert_eq!(apple.mic().map(Mic::as_str), Some("XNAS"));
        assert_eq!(apple.currency().map(CurrencyCode::as_str), Some("USD"));
        assert_eq!(apple.name().map(InstrumentName::as_str), Some("Apple Inc."));
    }

    #[test]
    fn the_isin_is_the_id_and_without_one_mic_and_ticker() {
        let apple = parse(APPLE).expect("valid").id();
        let future = parse(FUTURE).expect("valid").id();

        assert_eq!(apple.as_ref().map(ItemId::as_str), Some("US0378331005"));
        assert_eq!(future.as_ref().map(ItemId::as_str), Some("RTSX:SiZ6"));
    }

    #[test]
    fn the_id_parses_as_the_id_of_an_instrument() {
        for input in [APPLE, FUTURE] {
            let id = parse(input).expect("valid").id().expect("an id");

            let parsed = ItemId::parse(Kind::Instrument, id.as_str(), &ItemLimits::default());

            assert_eq!(parsed, Ok(id));
        }
    }

    #[test]
    fn an_instrument_without_any_identity_is_refused() {
        let only_type = InstrumentInput {
            r#type: "stock",
            ..InstrumentInput::default()
        };
        let only_mic = InstrumentInput {
            ticker: None,
            ..FUTURE
        };
        let only_ticker = InstrumentInput {
            mic: None,
            ..FUTURE
        };

        for input in [only_type, only_mic, only_ticker] {
            let reason = "an instrument needs its isin, or both mic and ticker";
            assert_eq!(parse(input), Err(Invalid::new("", reason)));
        }
    }

    #[test]
    fn only_type_and_an_identity_are_required() {
        let input = InstrumentInput {
            isin: APPLE.isin,
            r#type: "etf",
            ..InstrumentInput::default()
        };

        let bare = parse(input).expect("valid");

        assert!(bare.ticker().is_none());
        assert!(bare.mic().is_none());
        assert!(bare.currency().is_none());
        assert!(bare.name().is_none());
    }

    #[test]
    fn a_refusal_names_the_field() {
        let field_of = |change: fn(&mut InstrumentInput<'_>)| {
            let mut input = APPLE;
            change(&mut input);
            parse(input).expect_err("this one is wrong").field
        };

        assert_eq!(field_of(|input| input.isin = Some("")), "isin");
        assert_eq!(field_of(|input| input.r#type = "Stock"), "type");
        assert_eq!(field_of(|input| input.ticker = Some("")), "ticker");
        assert_eq!(field_of(|input| input.mic = Some("X")), "mic");
        assert_eq!(field_of(|input| input.currency = Some("X")), "currency");
        assert_eq!(field_of(|input| input.name = Some("\n")), "name");
    }

    #[test]
    fn every_type_parses_from_its_own_name() {
        for one in InstrumentType::ALL {
            assert_eq!(InstrumentType::parse(one.as_str()), Ok(one));
            assert_eq!(serde_json::to_value(one).expect("encodable"), one.as_str());
        }
    }

    #[test]
    fn the_refusal_of_an_unknown_type_lists_all_types() {
        let invalid = InstrumentType::parse("share").expect_err("no such type");

        assert_eq!(
            invalid.reason,
            "must be one of stock, bond, fund, etf, currency, future, option, index, commodity, \
             crypto, other"
        );
    }

    #[test]
    fn the_stored_form_omits_absent_fields_and_reads_back() {
        let input = InstrumentInput {
            ticker: None,
            ..APPLE
        };
        let apple = parse(input).expect("valid");

        let stored = serde_json::to_value(&apple).expect("encodable");

        assert_eq!(stored["type"], "stock");
        assert!(stored.get("ticker").is_none());
        assert_eq!(
            serde_json::from_value::<Instrument>(stored).expect("written here"),
            apple
        );
    }

    #[test]
    fn the_stored_form_without_an_isin_reads_back() {
        let future = parse(FUTURE).expect("valid");

        let stored = serde_json::to_string(&future).expect("encodable");

        assert_eq!(stored, r#"{"type":"future","ticker":"SiZ6","mic":"RTSX"}"#);
        assert_eq!(
            serde_json::from_str::<Instrument>(&stored).expect("written here"),
            future
        );
    }

    #[test]
    fn a_stored_field_of_the_wrong_type_is_refused() {
        assert!(serde_json::from_str::<Instrument>(r#"{"isin": 7, "type": "stock"}"#).is_err());
    }

    #[test]
    fn only_absent_fields_are_filled_in() {
        let input = InstrumentInput {
            mic: None,
            name: None,
            ..APPLE
        };
        let mut apple = parse(input).expect("valid");
        let limits = ItemLimits::default();
        let name = InstrumentName::parse("Apple", &limits).expect("valid");
        let ticker = |text| Some(Ticker::parse(text, &limits).expect("valid"));
        let mic = |text| Some(Mic::parse(text).expect("valid"));
        let currency = |text| Some(CurrencyCode::parse(text).expect("valid"));

        apple.fill_in(
            ticker("APC"),
            mic("XETR"),
            currency("EUR"),
            Some(name.clone()),
        );

        assert_eq!(apple.ticker().map(Ticker::as_str), Some("AAPL"));
        assert_eq!(apple.mic(), None, "another listing");
        assert_eq!(apple.currency().map(CurrencyCode::as_str), Some("USD"));
        assert_eq!(apple.name(), Some(&name));

        apple.fill_in(ticker("AAPL"), mic("XNAS"), currency("USD"), None);
        assert_eq!(apple.mic().map(Mic::as_str), Some("XNAS"));
        assert_eq!(apple.name(), Some(&name));
    }

    #[test]
    fn debug_prints_only_the_names_of_the_types() {
        let apple = parse(APPLE).expect("valid");

        assert_eq!(format!("{apple:?} {APPLE:?}"), "Instrument InstrumentInput");
    }
}
