//! The stand-in reference service: it knows a few real instruments of several types.
//!
//! It speaks the protocol of a real reference service and is no substitute for one: it calls every
//! instrument unknown that is not in its table.

use super::connect;
use super::secrets::Secrets;
use crate::domain::InstrumentType::{
    self, Bond, Crypto, Currency, Etf, Fund, Future as FutureContract, Index, Stock,
};
use anyhow::Context as _;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::iter;
use tracing::{info, warn};

/// The subject of questions about instruments.
pub const REFERENCE_SUBJECT: &str = "reference.v1.instrument";

/// The queue group in which instances of the service share the questions.
pub const REFERENCE_GROUP: &str = "reference";

/// Its NATS user. The user `auth` is the workers', who ask it.
const USER: &str = "reference_service";

/// An instrument: type, ISIN, ticker, market, currency and name. An empty text: it has none.
type Row = (
    InstrumentType,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// The instruments that the service knows.
#[rustfmt::skip]
const INSTRUMENTS: [Row; 42] = [
    (Stock, "US0378331005", "AAPL", "XNAS", "USD", "Apple Inc."),
    (Stock, "US5949181045", "MSFT", "XNAS", "USD", "Microsoft Corporation"),
    (Stock, "US0231351067", "AMZN", "XNAS", "USD", "Amazon.com, Inc."),
    (Stock, "US67066G1040", "NVDA", "XNAS", "USD", "NVIDIA Corporation"),
    (Stock, "US02079K3059", "GOOGL", "XNAS", "USD", "Alphabet Inc. Class A"),
    (Stock, "US88160R1014", "TSLA", "XNAS", "USD", "Tesla, Inc."),
    (Stock, "US0846707026", "BRK.B", "XNYS", "USD", "Berkshire Hathaway Inc. Class B"),
    (Stock, "US4592001014", "IBM", "XNYS", "USD", "International Business Machines Corporation"),
    (Stock, "US1912161007", "KO", "XNYS", "USD", "The Coca-Cola Company"),
    (Stock, "CA7800871021", "RY", "XTSE", "CAD", "Royal Bank of Canada"),
    (Stock, "DE0007164600", "SAP", "XETR", "EUR", "SAP SE"),
    (Stock, "DE0008404005", "ALV", "XETR", "EUR", "Allianz SE"),
    (Stock, "DE0008430026", "MUV2", "XETR", "EUR", "Munich Re"),
    (Stock, "FR0000120271", "TTE", "XPAR", "EUR", "TotalEnergies SE"),
    (Stock, "FR0000121014", "MC", "XPAR", "EUR", "LVMH Moët Hennessy Louis Vuitton SE"),
    (Stock, "NL0010273215", "ASML", "XAMS", "EUR", "ASML Holding N.V."),
    (Stock, "CH0038863350", "NESN", "XSWX", "CHF", "Nestlé S.A."),
    (Stock, "CH0012005267", "NOVN", "XSWX", "CHF", "Novartis AG"),
    (Stock, "GB0005405286", "HSBA", "XLON", "GBX", "HSBC Holdings plc"),
    (Stock, "GB00BP6MXD84", "SHEL", "XLON", "GBX", "Shell plc"),
    (Stock, "DK0062498333", "NOVO B", "XCSE", "DKK", "Novo Nordisk A/S"),
    (Stock, "SE0000108656", "ERIC B", "XSTO", "SEK", "Telefonaktiebolaget LM Ericsson"),
    (Stock, "JP3633400001", "7203", "XTKS", "JPY", "Toyota Motor Corporation"),
    (Stock, "KR7005930003", "005930", "XKRX", "KRW", "Samsung Electronics Co., Ltd."),
    (Stock, "AU000000BHP4", "BHP", "XASX", "AUD", "BHP Group Limited"),
    (Stock, "RU0009029540", "SBER", "MISX", "RUB", "Sberbank of Russia"),
    (Bond, "DE0001102580", "", "XFRA", "EUR", "Bund 0% 15 Feb 2032"),
    (Bond, "FR0014007L00", "", "XPAR", "EUR", "OAT 0% 25 May 2032"),
    (Bond, "US912810TM09", "", "", "USD", "US Treasury 4% 15 Nov 2042"),
    (Fund, "LU0323578657", "", "", "EUR", "Flossbach von Storch Multiple Opportunities R"),
    (Etf, "IE00B4L5Y983", "EUNL", "XETR", "EUR", "iShares Core MSCI World UCITS ETF"),
    (Etf, "IE00B3RBWM25", "VWRL", "XAMS", "EUR", "Vanguard FTSE All-World UCITS ETF"),
    (Etf, "US78462F1030", "SPY", "ARCX", "USD", "SPDR S&P 500 ETF Trust"),
    (Etf, "US46090E1038", "QQQ", "XNAS", "USD", "Invesco QQQ Trust"),
    (Index, "DE0008469008", "DAX", "XETR", "EUR", "DAX Performance Index"),
    (Crypto, "XTV15WLZJMF0", "BTC", "", "USD", "Bitcoin"),
    (FutureContract, "", "ESZ6", "XCME", "USD", "E-mini S&P 500, December 2026"),
    (FutureContract, "", "CLZ6", "XNYM", "USD", "WTI crude oil, December 2026"),
    (FutureContract, "", "GCZ6", "XCEC", "USD", "Gold, December 2026"),
    (FutureContract, "", "SiZ6", "RTSX", "RUB", "US dollar to rouble, December 2026"),
    (Currency, "", "USD000UTSTOM", "MISX", "RUB", "US dollar to rouble, tomorrow"),
    (Currency, "", "CNYRUB_TOM", "MISX", "RUB", "Yuan to rouble, tomorrow"),
];

#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    isin: String,
    #[serde(default)]
    mic: String,
    #[serde(default)]
    ticker: String,
}

impl Question {
    /// Returns whether the question is about this instrument: by its ISIN, or else by market and
    /// ticker together.
    fn is_about(&self, (_, isin, ticker, mic, _, _): &Row) -> bool {
        if self.isin.is_empty() {
            let is_named = !self.mic.is_empty() && !self.ticker.is_empty();
            return is_named && self.mic == *mic && self.ticker == *ticker;
        }

        self.isin == *isin
    }
}

/// Returns the answer to a question.
///
/// # Errors
///
/// The body is no question.
pub fn answer(question: &[u8]) -> anyhow::Result<Value> {
    let question: Question =
        serde_json::from_slice(question).context("not a question about an instrument")?;
    let Some(found) = INSTRUMENTS.iter().find(|row| question.is_about(row)) else {
        return Ok(json!({"found": false}));
    };

    let (_, _, ticker, mic, currency, name) = *found;
    let fields = [
        ("ticker", ticker),
        ("mic", mic),
        ("currency", currency),
        ("name", name),
    ];
    let known = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(field, value)| (field.to_owned(), json!(value)));
    let found = iter::once(("found".to_owned(), json!(true)));

    Ok(Value::Object(found.chain(known).collect::<Map<_, _>>()))
}

/// Answers questions until `shutdown` completes.
pub async fn run(
    url: &str,
    secrets: &Secrets,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let client = connect::options(secrets, USER)?
        .name("gofavorites dev reference")
        .retry_on_initial_connect()
        .connect(url)
        .await?;
    let mut questions = client
        .queue_subscribe(REFERENCE_SUBJECT, REFERENCE_GROUP.into())
        .await?;
    client.flush().await?;

    warn!(
        "this is the STAND-IN reference service, for development: it knows {} instruments",
        INSTRUMENTS.len()
    );
    info!("ready");

    tokio::pin!(shutdown);
    loop {
        let question = tokio::select! {
            question = questions.next() => question.context("the subscription has ended")?,
            () = &mut shutdown => return Ok(()),
        };
        let Some(reply) = question.reply.clone() else {
            continue;
        };

        match answer(&question.payload) {
            Ok(answer) => client.publish(reply, answer.to_string().into()).await?,
            Err(error) => warn!(%error, "cannot answer a question"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CurrencyCode, InstrumentName, Isin, ItemLimits, Mic};
    use std::collections::BTreeSet;

    fn ask(question: &Value) -> Value {
        answer(question.to_string().as_bytes()).expect("a question")
    }

    #[test]
    fn the_table_has_well_formed_instruments_of_many_types() {
        let limits = ItemLimits::default();
        let mut types = BTreeSet::new();
        let mut identities = BTreeSet::new();

        for (kind, isin, ticker, mic, currency, name) in INSTRUMENTS {
            types.insert(kind.as_str());
            if isin.is_empty() {
                assert!(!mic.is_empty() && !ticker.is_empty(), "{name}");
                assert!(identities.insert([mic, ticker]), "{name}");
            } else {
                assert_eq!(Isin::parse(isin).expect(name).as_str(), isin);
                assert!(identities.insert(["", isin]), "{name}");
            }

            if !mic.is_empty() {
                assert_eq!(Mic::parse(mic).expect(name).as_str(), mic);
            }
            assert_eq!(
                CurrencyCode::parse(currency).expect(name).as_str(),
                currency
            );
            InstrumentName::parse(name, &limits).expect(name);
            assert!(
                ticker.len() <= limits.ticker_bytes && ticker.trim() == ticker,
                "{name}"
            );
        }

        assert!(types.len() >= 8, "{types:?}");
    }

    #[test]
    fn an_instrument_is_found_by_its_isin() {
        let apple = ask(&json!({"isin": "US0378331005"}));

        let expected = json!({
            "found": true,
            "name": "Apple Inc.",
            "ticker": "AAPL",
            "mic": "XNAS",
            "currency": "USD",
        });
        assert_eq!(apple, expected);
    }

    #[test]
    fn an_instrument_without_an_isin_is_found_by_market_and_ticker() {
        let future = ask(&json!({"mic": "RTSX", "ticker": "SiZ6"}));
        let elsewhere = ask(&json!({"mic": "XNAS", "ticker": "SiZ6"}));
        let other_month = ask(&json!({"mic": "RTSX", "ticker": "SiZ7"}));

        assert_eq!(future["found"], true);
        assert_eq!(future["currency"], "RUB");
        assert_eq!(elsewhere, json!({"found": false}));
        assert_eq!(other_month, json!({"found": false}));
    }

    #[test]
    fn what_is_not_in_the_table_is_unknown() {
        let unknown = [
            json!({"isin": "US0000000000"}),
            json!({"isin": ""}),
            json!({"mic": "XNAS"}),
            json!({"ticker": "AAPL"}),
            json!({}),
        ];

        for question in unknown {
            assert_eq!(ask(&question), json!({"found": false}), "{question}");
        }
        assert!(answer(b"no question").is_err());
    }
}
