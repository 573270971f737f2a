//! The answer of `GetFavorites` of the T-Invest API, in JSON.

use super::new_item::{InstrumentFields, NewItem};
use super::parsed::{Parsed, parse_entries, parse_json, text};
use crate::domain::ItemLimits;
use serde_json::Value;

/// The boards of Moscow Exchange (`classCode`), by the market that they are on (ISO 10383): `MISX`
/// is that of shares, bonds, funds and currencies, and `RTSX` that of derivatives.
const BOARDS: [(&str, &[&str]); 2] = [
    (
        "MISX",
        &[
            "TQBR", "TQBD", "TQPI", "FQBR", // shares
            "TQTF", "TQTD", "TQTE", "TQTY", "TQIF", // funds
            "TQOB", "TQCB", "TQOD", "TQOE", "TQOY", "TQIR", "TQRD", // bonds
            "CETS", // currencies
        ],
    ),
    ("RTSX", &["SPBFUT", "SPBOPT"]),
];

/// The names of the API that become metadata.
const IDS: [&str; 2] = ["figi", "uid"];

/// Parses an answer.
pub(super) fn parse(file: &str, limits: &ItemLimits) -> Result<Parsed, String> {
    let answer = parse_json(file)?;
    let entries = answer["favoriteInstruments"]
        .as_array()
        .ok_or("the file has no list favoriteInstruments: it is no answer of GetFavorites")?;

    Ok(parse_entries(entries, |entry| parse_entry(entry, limits)))
}

fn parse_entry(entry: &Value, limits: &ItemLimits) -> Result<NewItem, String> {
    let isin = text(entry, "isin")?;
    let ticker = text(entry, "ticker")?;
    let board = text(entry, "classCode")?;
    let mic = market_of(board);
    if isin.is_empty() && mic.is_none() {
        return Err(
            "it has no ISIN, and the market of its classCode is not known here: import it as csv, \
             with mic and ticker"
                .to_owned(),
        );
    }

    let fields = InstrumentFields {
        isin,
        r#type: type_of(text(entry, "instrumentType")?),
        // A ticker belongs to a market.
        ticker: mic.map(|_| ticker).unwrap_or_default(),
        mic: mic.unwrap_or_default(),
        currency: "",
        name: text(entry, "name")?,
    };
    let mut item = NewItem::instrument(&fields, limits)?;

    for name in IDS {
        let id = text(entry, name)?;
        if !id.is_empty() {
            item.meta.insert(name.to_owned(), id.to_owned());
        }
    }
    Ok(item)
}

fn market_of(board: &str) -> Option<&'static str> {
    BOARDS
        .iter()
        .find(|(_, boards)| boards.contains(&board))
        .map(|(mic, _)| *mic)
}

/// Returns the type of an instrument by its name in the API.
fn type_of(name: &str) -> &'static str {
    match name {
        "share" => "stock",
        "bond" => "bond",
        "etf" => "etf",
        "currency" => "currency",
        "futures" => "future",
        "option" => "option",
        "index" => "index",
        "commodity" => "commodity",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Returns the operation that stores an entry with these fields, or why there is none.
    fn operation(fields: Value) -> Result<Value, String> {
        let file = json!({"favoriteInstruments": [fields], "groupId": "x"}).to_string();
        let parsed = parse(&file, &ItemLimits::default()).expect("an answer");

        let found = parsed.entries.into_iter().next().expect("an entry");
        found.item.map(|item| item.operation(0))
    }

    #[test]
    fn a_share_is_kept_by_its_isin() {
        let operation = operation(json!({
            "figi": "BBG004730N88", "ticker": "SBER", "classCode": "TQBR", "isin": "RU0009029540",
            "instrumentType": "share", "name": "Сбер Банк", "uid": "e6123145", "otcFlag": false,
            "apiTradeAvailableFlag": true, "instrumentKind": "INSTRUMENT_TYPE_SHARE",
        }))
        .expect("valid");

        assert_eq!(operation["id"], "RU0009029540");
        assert_eq!(
            operation["data"],
            json!({"isin": "RU0009029540", "type": "stock", "ticker": "SBER", "mic": "MISX",
                   "name": "Сбер Банк"})
        );
        assert_eq!(
            operation["meta"],
            json!({"figi": "BBG004730N88", "uid": "e6123145"})
        );
    }

    #[test]
    fn without_an_isin_market_and_ticker_are_the_id() {
        for (board, r#type, ticker, id) in [
            ("CETS", "currency", "USD000UTSTOM", "MISX:USD000UTSTOM"),
            ("SPBFUT", "futures", "SiZ6", "RTSX:SiZ6"),
        ] {
            let operation = operation(json!({
                "ticker": ticker, "classCode": board, "isin": "", "instrumentType": r#type,
            }))
            .expect("valid");

            assert_eq!(operation["id"], id);
            assert_eq!(operation["data"].get("isin"), None);
            assert_eq!(operation["meta"], json!({}));
        }
    }

    #[test]
    fn an_unknown_board_needs_an_isin() {
        let of = |isin: &str| json!({"ticker": "AAPL", "classCode": "SPBXM", "isin": isin});

        let with_isin = operation(of("US0378331005")).expect("valid");
        let without = operation(of("")).expect_err("no identity");

        assert_eq!(
            with_isin["data"],
            json!({"isin": "US0378331005", "type": "other"})
        );
        assert!(without.contains("classCode"), "{without}");
    }

    #[test]
    fn another_file_is_refused() {
        for file in ["{}", r#"{"favoriteInstruments": 7}"#, "[]", "x"] {
            assert!(parse(file, &ItemLimits::default()).is_err(), "{file}");
        }
    }
}
