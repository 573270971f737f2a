//! Instruments with an ISIN and without one: what identifies them, what markets write, and numbers
//! in any spelling.

use crate::harness::{Caller, World, isin};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Numbers that are in use, most with a prefix that is no country's code.
const ISINS_IN_USE: [&str; 20] = [
    "XF000BTC0017",
    "XF000ETH0019",
    "XF0000C14922",
    "XTV15WLZJMF0",
    "XC000A2YY6Q6",
    "EU000A1G0AA6",
    "EU0009652759",
    "EZR9HY1361L7",
    "XS2689917198",
    "QS0000003564",
    "AN8068571086",
    "RU000A1038V6",
    "RU000A107T19",
    "GG00BPFJTF46",
    "JE00B4T3BW64",
    "BMG3602E1084",
    "CNE100000296",
    "IL0010811243",
    "ZAE000066692",
    "US912810SM18",
];

/// A put of an instrument with these data, which need no `type`.
fn put(data: Value) -> Value {
    let mut fields = json!({"type": "other"});
    let data = data.as_object().expect("an object").clone();
    fields.as_object_mut().expect("an object").extend(data);

    json!({"kind": "instrument", "data": fields})
}

/// A put of an instrument without an ISIN that has this ticker.
fn pair(ticker: &str) -> Value {
    put(json!({"mic": "XOFF", "ticker": ticker}))
}

/// A put of an instrument with this currency.
fn priced_in(currency: &str) -> Value {
    put(json!({"isin": isin(1), "currency": currency}))
}

/// Returns the ids that `list` returns, in its order.
async fn ids(alice: &Caller, shard: &str) -> Vec<String> {
    let body = json!({"consistency": "strong", "limit": 500});
    let list = alice.done(&format!("{shard}.list"), &body).await;
    let items = list["items"].as_array().expect("items");

    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// Sends a request in CBOR, and returns the reply.
async fn ask_in_cbor(alice: &Caller, operation: &str, request_id: &str, body: Vec<u8>) -> Value {
    let mut headers = alice.headers();
    headers.insert("Content-Type", "application/cbor");
    headers.insert("Nats-Msg-Id", request_id);

    let subject = format!("favorites.v1.shard.a.{operation}");
    let reply = alice
        .client
        .request_with_headers(subject, headers, body.into())
        .await
        .expect("a reply");

    ciborium::from_reader(&reply.payload[..]).expect("CBOR")
}

/// A put of a text in CBOR, with these bytes as the value of `if_version`.
fn conditional_put(if_version: &[u8]) -> Vec<u8> {
    let start = b"\xa4\x64kind\x64text\x62id\x64note\x64data\xa1\x64text\x61x\x6aif_version";

    [&start[..], if_version].concat()
}

/// The number as a float of 32 bits in CBOR.
fn single(number: u64) -> Vec<u8> {
    [&[0xfa][..], &(number as f32).to_be_bytes()].concat()
}

/// The number as a float of 64 bits in CBOR.
fn double(number: u64) -> Vec<u8> {
    [&[0xfb][..], &(number as f64).to_be_bytes()].concat()
}

/// Goal: an instrument without an ISIN has market and ticker as its id, for every operation.
///
/// Method: one caller puts a future, reads and lists it on the other shard, changes it, deletes it
/// and restores it, with the market of the id in lower case.
#[tokio::test(flavor = "multi_thread")]
async fn an_instrument_without_an_isin_has_a_complete_life() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let future = json!({"kind": "instrument", "tags": ["x"], "data": {
        "type": "future", "mic": "rtsx", "ticker": "SiZ6", "currency": "rub",
    }});
    let this = json!({"kind": "instrument", "id": "rtsx:SiZ6"});
    let strong = json!({"kind": "instrument", "id": "RTSX:SiZ6", "consistency": "strong"});

    let first = alice.done("a.put", &future).await["item"].clone();
    assert_eq!(first["id"], "RTSX:SiZ6");
    assert_eq!(
        first["data"],
        json!({"type": "future", "mic": "RTSX", "ticker": "SiZ6", "currency": "RUB"}),
        "an absent ISIN is left out"
    );
    assert_eq!(alice.done("b.get", &strong).await["item"], first);
    assert_eq!(ids(&alice, "b").await, ["RTSX:SiZ6"]);

    let retagged = json!({"kind": "instrument", "id": "rtsx:SiZ6", "tags": ["y"]});
    let second = alice.done("b.put", &retagged).await["item"].clone();
    assert_eq!(second["id"], "RTSX:SiZ6");
    assert_eq!(second["data"], first["data"], "a put without data keeps it");
    assert_eq!(second["created_at"], first["created_at"], "the same item");

    let deletion = alice.done("a.delete", &this).await;
    assert_eq!(deletion["item"]["id"], "RTSX:SiZ6");
    alice.ask("b.get", &strong).await.refusal("not_found");

    let mut restore = this.clone();
    restore["version"] = first["version"].clone();
    let restored = alice.done("b.restore", &restore).await["item"].clone();
    assert_eq!(restored["data"], first["data"]);
    assert_eq!(restored["tags"], json!(["x"]));

    let history = alice.done("b.history", &this).await;
    assert_eq!(history["versions"].as_array().map(Vec::len), Some(4));
}

/// Goal: what a ticker names depends on its market, and case counts in a ticker.
///
/// Method: one caller puts the same ticker on two markets and in two cases, then one of them again
/// with another name, with and without its id.
#[tokio::test(flavor = "multi_thread")]
async fn two_listings_side_by_side_are_two_items() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for (mic, ticker) in [("XLON", "VOD"), ("XETR", "VOD"), ("XETR", "Vod")] {
        let body = put(json!({"mic": mic, "ticker": ticker}));
        alice.done("a.put", &body).await;
    }
    assert_eq!(ids(&alice, "b").await, ["XLON:VOD", "XETR:VOD", "XETR:Vod"]);

    let mut renamed = put(json!({"mic": "xlon", "ticker": "VOD", "name": "Vodafone"}));
    alice.done("a.put", &renamed).await;
    renamed["id"] = json!("xlon:VOD");
    let with_id = alice.done("b.put", &renamed).await;

    assert_eq!(with_id["item"]["data"]["name"], "Vodafone");
    assert_eq!(
        ids(&alice, "b").await,
        ["XLON:VOD", "XETR:VOD", "XETR:Vod"],
        "a change, not a new item"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_listing_of_the_same_isin_is_an_update() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let listed = |mic: &str| put(json!({"isin": isin(1), "mic": mic, "ticker": "VOD"}));

    let first = alice.done("a.put", &listed("XLON")).await["item"].clone();
    let second = alice.done("b.put", &listed("XETR")).await["item"].clone();
    let without_isin = put(json!({"mic": "XETR", "ticker": "VOD"}));
    alice.done("a.put", &without_isin).await;

    assert_eq!(first["id"], isin(1));
    assert_eq!(second["id"], isin(1));
    assert_eq!(second["data"]["mic"], "XETR");
    assert_eq!(second["created_at"], first["created_at"], "the same item");
    assert_eq!(
        ids(&alice, "b").await,
        [isin(1), "XETR:VOD".to_owned()],
        "the ISIN and the listing are two identities"
    );
}

/// Goal: an id that is not the instrument's own is refused, and nothing is written.
///
/// Method: one caller sends puts with wrong ids, then reads and deletes by ids of a wrong form.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_instrument_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let by_isin = json!({"isin": isin(1), "mic": "XLON", "ticker": "VOD"});
    let by_listing = json!({"mic": "XLON", "ticker": "VOD"});
    let table = [
        (&by_isin, isin(2), "is its ISIN"),
        (&by_isin, "XLON:VOD".to_owned(), "is its ISIN"),
        (&by_listing, isin(1), "MIC:TICKER"),
        (&by_listing, "XETR:VOD".to_owned(), "MIC:TICKER"),
        (&by_listing, "XLON:Vod".to_owned(), "MIC:TICKER"),
        (&by_listing, "VOD".to_owned(), "MIC:TICKER"),
        (&by_listing, "XLON:".to_owned(), "ticker: must not be empty"),
        (&by_listing, "LON:VOD".to_owned(), "mic: must be 4"),
    ];

    for (data, id, words) in table {
        let mut body = put(data.clone());
        body["id"] = json!(id);
        let reply = alice.ask("a.put", &body).await;

        let error = reply.refusal("invalid_item");
        let message = error["message"].as_str().expect("a text");
        assert_eq!(error["details"]["field"], "id", "{id}");
        assert!(message.contains(words), "{id}: {message}");
    }

    for id in [
        "VOD",
        "XLON: VOD",
        ":VOD",
        "XLON:V\u{200b}OD",
        "US0378331006",
    ] {
        for operation in ["a.get", "a.delete", "a.history"] {
            let body = json!({"kind": "instrument", "id": id});
            let reply = alice.ask(operation, &body).await;

            let details = &reply.refusal("invalid_item")["details"];
            assert_eq!(details["field"], "id", "{operation} {id:?}");
        }
    }

    assert!(world.records().await.is_empty(), "something was written");
}

/// A put with data that break a rule, the field that the refusal names, and words of its message.
type Case = (Value, &'static str, &'static str);

fn invalid_identities() -> Vec<Case> {
    let check_digit = "can be kept by mic and ticker";
    let no_identity = "isin, or both mic and ticker";
    let with_isin = |isin: &str, words: &'static str| {
        let body = put(json!({"isin": isin, "mic": "XNAS", "ticker": "AAPL"}));
        (body, "data.isin", words)
    };

    vec![
        (put(json!({})), "data", no_identity),
        (put(json!({"mic": "XNAS"})), "data", no_identity),
        (put(json!({"ticker": "AAPL"})), "data", no_identity),
        with_isin("", "empty"),
        with_isin("XF000ETH0017", check_digit),
        with_isin("us0000000000", check_digit),
        with_isin("De0000000000", check_digit),
        with_isin("BBG000B9XRY4", check_digit),
        with_isin("BBG004730N88", check_digit),
        with_isin("US 0378331005", "character 3 is ' '"),
        with_isin(" US0378331005", "character 1 is ' '"),
        with_isin("US-0378331005", "character 3 is '-'"),
        with_isin("US0378331005\u{a0}", "character 13 is '\\u{a0}'"),
        with_isin("ＵＳ0378331005", "character 1 is 'Ｕ'"),
    ]
}

fn invalid_listings() -> Vec<Case> {
    let with_mic = |mic: &str| put(json!({"mic": mic, "ticker": "A"}));
    let with_ticker = |ticker: &str, words: &'static str| (pair(ticker), "data.ticker", words);

    vec![
        (with_mic("XOF"), "data.mic", "4 characters"),
        (with_mic("XO F"), "data.mic", "character 3"),
        (with_mic(""), "data.mic", "4 characters"),
        with_ticker("", "empty"),
        with_ticker(" EURUSD", "begin or end with a space"),
        with_ticker("EURUSD ", "begin or end with a space"),
        with_ticker("EUR\tUSD", "character 4 is U+0009"),
        with_ticker("EUR\u{a0}USD", "character 4 is U+00A0"),
        with_ticker("EUR\u{200b}USD", "character 4 is U+200B"),
        with_ticker("\u{202e}EURUSD", "character 1 is U+202E"),
        with_ticker("EURUSD\u{2029}", "character 7 is U+2029"),
        with_ticker(&"é".repeat(17), "32 bytes, is 34"),
    ]
}

fn invalid_currencies() -> Vec<Case> {
    let table = [
        ("GBp", "write GBX"),
        ("ZAc", "write ZAC"),
        ("ILa", "write ILA"),
        ("Usd", "upper case"),
        ("gBP", "upper case"),
        ("US", "3 characters"),
        ("U5D", "character 2"),
        ("", "3 characters"),
    ];

    table
        .map(|(currency, words)| (priced_in(currency), "data.currency", words))
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_break_a_rule_are_refused_with_their_field() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let cases = [
        invalid_identities(),
        invalid_listings(),
        invalid_currencies(),
    ]
    .concat();

    for (body, field, words) in cases {
        let reply = alice.ask("a.put", &body).await;

        let error = reply.refusal("invalid_item");
        let message = error["message"].as_str().expect("a text");
        assert_eq!(error["details"]["field"], field, "{body}");
        assert!(message.contains(words), "{body}: {message}");
        assert!(error["details"]["reason"].is_string(), "{body}");
    }

    let null_isin = put(json!({"isin": null, "mic": "XNAS", "ticker": "AAPL"}));
    let reply = alice.ask("a.put", &null_isin).await;
    let details = &reply.refusal("bad_request")["details"];
    assert_eq!(details["field"], "data.isin", "null is no absent field");

    assert!(world.records().await.is_empty(), "something was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticker_is_kept_as_the_market_writes_it() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let longest = "é".repeat(16);
    let tickers = [
        "BRK B", "NOVO B", "A  B", "SiZ6", "brk.b", "7203", "EUR/USD", "^GSPC", "A:B", "СБЕР",
        &longest,
    ];

    for ticker in tickers {
        let item = alice.done("a.put", &pair(ticker)).await["item"].clone();
        let id = format!("XOFF:{ticker}");
        let get = json!({"kind": "instrument", "id": id, "consistency": "strong"});
        let got = alice.done("b.get", &get).await["item"].clone();

        assert_eq!(item["data"]["ticker"], ticker);
        assert_eq!(item["id"], id.as_str());
        assert_eq!(got, item);
    }

    assert_eq!(ids(&alice, "a").await.len(), tickers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn pence_never_become_pounds() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for (sent, expected) in [
        ("GBX", "GBX"),
        ("gbx", "GBX"),
        ("ZAC", "ZAC"),
        ("ILA", "ILA"),
        ("gbp", "GBP"),
    ] {
        let reply = alice.done("a.put", &priced_in(sent)).await;
        assert_eq!(reply["item"]["data"]["currency"], expected);
    }
}

/// Goal: every ISIN with a right check digit is accepted, whatever its prefix and its case.
///
/// Method: one caller puts all of them in one batch in lower case, and again in mixed case. The
/// second batch must change the items of the first.
#[tokio::test(flavor = "multi_thread")]
async fn an_isin_with_any_prefix_and_case_is_accepted() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let in_mixed_case = |isin: &str| -> String {
        isin.char_indices()
            .map(|(at, c)| {
                if at % 2 == 0 {
                    c
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let batch = |spelled: &dyn Fn(&str) -> String| {
        let ops = ISINS_IN_USE.map(|isin| {
            let data = json!({"isin": spelled(isin), "type": "other"});
            json!({"op": "put", "kind": "instrument", "data": data})
        });

        json!({"mode": "atomic", "ops": ops})
    };

    alice
        .done("a.batch", &batch(&str::to_ascii_lowercase))
        .await;
    assert_eq!(ids(&alice, "b").await, ISINS_IN_USE);

    alice.done("b.batch", &batch(&in_mixed_case)).await;
    assert_eq!(ids(&alice, "a").await, ISINS_IN_USE);
}

/// Goal: a batch knows an instrument by its market and ticker, with and without its id.
///
/// Method: one caller puts two instruments in one batch, and deletes one by its id. Batches that
/// name one instrument twice, in two spellings, must be refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_knows_an_instrument_by_market_and_ticker() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let op = |name: &str, mut body: Value| {
        body["op"] = json!(name);
        body
    };
    let batch = |ops: &[Value]| json!({"mode": "each", "ops": ops});
    let by_id = json!({"kind": "instrument", "id": "xoff:EUR/USD"});
    let other_case = put(json!({"mic": "xoff", "ticker": "EUR/USD"}));

    let two = [op("put", pair("EUR/USD")), op("put", pair("GBP/USD"))];
    let done = alice.done("a.batch", &batch(&two)).await;
    assert_eq!(done["results"][0]["item"]["id"], "XOFF:EUR/USD");
    assert_eq!(done["results"][1]["item"]["id"], "XOFF:GBP/USD");

    for second in [op("delete", by_id.clone()), op("put", other_case)] {
        let twice = batch(&[op("put", pair("EUR/USD")), second]);
        let reply = alice.ask("a.batch", &twice).await;

        let details = &reply.refusal("bad_request")["details"];
        assert_eq!(details["field"], "ops[1]", "the same item twice");
    }

    let no_identity = op("put", put(json!({"mic": "XOFF"})));
    let deleted = batch(&[op("delete", by_id), no_identity]);
    let results = alice.done("b.batch", &deleted).await["results"].clone();
    assert_eq!(results[0]["item"]["deleted"], true);
    assert_eq!(results[1]["error"]["code"], "invalid_item");
    assert_eq!(results[1]["error"]["details"]["field"], "ops[1].data");
    assert_eq!(ids(&alice, "a").await, ["XOFF:GBP/USD"]);
}

/// Goal: a version is taken in every spelling of its number, in JSON and in CBOR.
///
/// Method: one caller changes an item again and again, each time under a condition on its version
/// that is written in another way.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_may_be_written_as_any_whole_number() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let put = alice.put_text("a", "note", "x").await;
    let mut version = put["item"]["version"].as_u64().expect("a version");

    for spelled in ["{}", "{}.0", "{}e0", "{}0e-1"] {
        let number = spelled.replace("{}", &version.to_string());
        let body = format!(
            r#"{{"kind": "text", "id": "note", "data": {{"text": "x"}}, "if_version": {number}}}"#
        );
        let reply = alice.ask_with("a.put", alice.headers(), body.into()).await;
        let new = reply.body["item"]["version"].as_u64();

        assert!(new > Some(version), "{number}: {}", reply.body);
        version = new.expect("a version");
    }

    for (at, as_float) in [single, double].into_iter().enumerate() {
        let body = conditional_put(&as_float(version));
        let reply = ask_in_cbor(&alice, "put", &format!("float-{at}"), body).await;
        let new = reply["item"]["version"].as_u64();

        assert!(new > Some(version), "{reply}");
        version = new.expect("a version");
    }

    let min_version = format!(r#"{{"min_version": {version}.0, "consistency": "eventual"}}"#);
    let list = alice
        .ask_with("b.list", alice.headers(), min_version.into())
        .await;
    assert_eq!(list.body["owner_version"], version);
}

/// Goal: a number that is not whole, or that no version can be, is refused in both encodings.
///
/// Method: one caller sends fractions, infinities and whole numbers that are too large, and numbers
/// above 2^32 as doubles, which are understood as versions that never existed.
#[tokio::test(flavor = "multi_thread")]
async fn a_fraction_is_no_version() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "note", "x").await;
    let before = world.records().await;

    for number in ["1.5", "1e-1", "-1.0", "9007199254740994.0", "1e300"] {
        let body = format!(r#"{{"kind": "text", "id": "note", "if_version": {number}}}"#);
        let reply = alice
            .ask_with("a.delete", alice.headers(), body.into())
            .await;

        let details = &reply.refusal("bad_request")["details"];
        assert_eq!(details["field"], "if_version", "{number}");
    }

    let bits = |number: f64| [&[0xfb][..], &number.to_be_bytes()].concat();
    for number in [1.5, -1.0, f64::INFINITY, f64::NAN] {
        let reply = ask_in_cbor(&alice, "put", "fraction", conditional_put(&bits(number))).await;

        let error = &reply["error"];
        assert_eq!(error["code"], "bad_request", "{number}");
        assert_eq!(error["details"]["field"], "if_version", "{number}");
    }

    let never = double(5_000_000_000);
    let conflict = ask_in_cbor(&alice, "put", "never", conditional_put(&never)).await;
    assert_eq!(conflict["error"]["code"], "version_conflict");
    let since = r#"{"since": 5e9}"#.into();
    let never = alice.ask_with("a.changes", alice.headers(), since).await;
    let details = &never.refusal("bad_request")["details"];
    assert!(details["owner_version"].is_u64(), "{details}");

    assert_eq!(world.records().await, before, "something was written");
}

/// Goal: a request stays the same request when its number is written in another way.
///
/// Method: one caller puts a text that must not exist, with a request id, and repeats it with zero
/// in every spelling, in JSON and in CBOR. Every reply must be the first one.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_may_write_its_number_in_another_way() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let mut headers = alice.headers();
    headers.insert("Nats-Msg-Id", "once");
    let body = |zero: &str| {
        format!(
            r#"{{"kind": "text", "id": "note", "data": {{"text": "x"}}, "if_version": {zero}}}"#
        )
    };
    let mut replies = BTreeMap::new();

    for zero in ["0", "-0", "0.0", "-0.0", "0e5"] {
        let bytes = body(zero).into_bytes();
        let reply = alice.ask_with("a.put", headers.clone(), bytes).await;
        replies.insert(zero.to_owned(), reply.body);
    }
    for zero in [&b"\x00"[..], b"\xf9\x00\x00", b"\xf9\x80\x00", &double(0)] {
        let reply = ask_in_cbor(&alice, "put", "once", conditional_put(zero)).await;
        replies.insert(format!("{zero:x?}"), reply);
    }

    let first = &replies["0"]["item"];
    assert_eq!(first["id"], "note", "{replies:?}");
    for (zero, reply) in &replies {
        assert_eq!(&reply["item"], first, "{zero}");
    }
}
