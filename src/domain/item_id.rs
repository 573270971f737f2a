//! The id of an item.

use super::{Invalid, Isin, ItemLimits, Kind, KindName, Mic, Ticker, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// The id of an item, unique among the owner's items of one kind.
///
/// It is UTF-8 without control characters. The id of an instrument is its ISIN, or `MIC:TICKER` if
/// it has none. The stored form is the bare text and is not validated again when it is read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(String);

opaque_debug!(ItemId);

impl ItemId {
    /// Parses an id of 1 to [`ItemLimits::id_bytes`] bytes.
    ///
    /// The id of an instrument with a colon is a MIC and a ticker; any other is an ISIN. ISIN and
    /// MIC are converted to upper case.
    ///
    /// # Errors
    /// [`Invalid`] for `id`.
    pub fn parse(kind: Kind, text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::plain(text, limits.id_bytes, "id")?;

        match kind {
            Kind::Text | Kind::Otp | Kind::Codes => Ok(Self(text.to_owned())),
            #[cfg(feature = "next")]
            Kind::Basket => Ok(Self(text.to_owned())),
            Kind::Instrument => Self::parse_instrument(text, limits).map_err(|invalid| {
                let reason =
                    format!("the id of an instrument is its ISIN or MIC:TICKER; {invalid}");

                Invalid::new("id", reason)
            }),
        }
    }

    fn parse_instrument(text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        // A MIC has no colon. A ticker may have one.
        match text.split_once(':') {
            Some((mic, ticker)) => {
                let mic = Mic::parse(mic)?;
                // An item that was put under a higher limit has to stay within reach.
                let limits = ItemLimits {
                    ticker_bytes: limits.id_bytes,
                    ..limits.clone()
                };
                let ticker = Ticker::parse(ticker, &limits)?;

                Ok(Self::of_listing(&mic, &ticker))
            }
            None => Isin::parse(text).map(|isin| Self::of_isin(&isin)),
        }
    }

    /// Returns the id of the instrument with this ISIN.
    pub(super) fn of_isin(isin: &Isin) -> Self {
        Self(isin.as_str().to_owned())
    }

    /// Parses an id of any kind. This version does not know the rule of an unknown kind, and checks
    /// only the length and that there are no control characters.
    ///
    /// # Errors
    /// [`Invalid`] for `id`.
    pub fn parse_any(kind: &KindName, text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        match kind {
            KindName::Known(kind) => Self::parse(*kind, text, limits),
            KindName::Unknown(_) => {
                rules::plain(text, limits.id_bytes, "id")?;
                Ok(Self(text.to_owned()))
            }
        }
    }

    /// Returns the id of the instrument without an ISIN that has this ticker on this market.
    pub(super) fn of_listing(mic: &Mic, ticker: &Ticker) -> Self {
        Self(format!("{}:{}", mic.as_str(), ticker.as_str()))
    }

    /// Returns the id as text.
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
        let isin = Isin::parse("US0378331005").expect("valid");

        let id = parse(Kind::Instrument, "us0378331005").expect("valid");

        assert_eq!(id.as_str(), "US0378331005");
        assert_eq!(id, ItemId::of_isin(&isin));
    }

    #[test]
    fn an_instrument_without_an_isin_has_mic_and_ticker_as_id() {
        for (text, expected) in [
            ("RTSX:SiZ6", "RTSX:SiZ6"),
            ("rtsx:SiZ6", "RTSX:SiZ6"),
            ("xnys:BRK B", "XNYS:BRK B"),
            ("XOFF:A:B", "XOFF:A:B"),
            // The ticker has the form of an ISIN.
            ("XXXX:us0378331005", "XXXX:us0378331005"),
        ] {
            let id = parse(Kind::Instrument, text);
            assert_eq!(id.as_ref().map(ItemId::as_str), Ok(expected));
        }
    }

    #[test]
    fn another_id_of_an_instrument_is_refused_with_the_wrong_part() {
        for (text, part) in [
            ("x", "isin: must be 12 characters, is 1"),
            ("US0378331006", "isin: the check digit is 6, expected 5; "),
            (":SiZ6", "mic: must be 4 characters, is 0"),
            ("RTS:SiZ6", "mic: must be 4 characters, is 3"),
            ("US0378331005:AAPL", "mic: must be 4 characters, is 12"),
            ("RTSX:", "ticker: must not be empty"),
            ("RTSX: SiZ6", "ticker: must not begin or end with a space"),
            ("RTSX:Si\u{200b}Z6", "ticker: character 3 is U+200B; "),
        ] {
            let invalid = parse(Kind::Instrument, text).expect_err("this one is wrong");

            let reason = format!("the id of an instrument is its ISIN or MIC:TICKER; {part}");
            assert_eq!(invalid.field, "id");
            assert!(invalid.reason.starts_with(&reason), "{}", invalid.reason);
        }
    }

    #[test]
    fn the_id_of_a_text_is_bounded_and_unchanged() {
        let id = parse(Kind::Text, "Überblick 1").expect("valid");

        assert_eq!(id.as_str(), "Überblick 1");
        assert!(parse(Kind::Text, &"x".repeat(256)).is_ok());
        for text in ["", "a\0", &"x".repeat(257)] {
            let invalid = parse(Kind::Text, text).expect_err("this one is wrong");
            assert_eq!(invalid.field, "id");
        }
    }

    #[test]
    fn an_id_is_stored_as_text_and_not_printed() {
        let id = parse(Kind::Text, "note").expect("valid");

        assert_eq!(serde_json::to_value(&id).expect("encodable"), "note");
        assert_eq!(format!("{id:?}"), "ItemId");
    }
}
