//! Requests that cannot be read or that break a rule: each is refused, the refusal names the
//! field, and nothing is written.

use crate::harness::{ByHand, Caller, Reply, Worker, World, isin};
use async_nats::{HeaderMap, Message, RequestErrorKind};
use futures::StreamExt as _;
use gofavorites::wire::Code;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An operation, a body, and the expected refusal: its code, `details.field` (not checked if
/// empty), and words of its message.
type Case = (
    &'static str,
    Vec<u8>,
    &'static str,
    &'static str,
    &'static str,
);

/// A body of these bytes, which is a bad request.
fn raw(
    operation: &'static str,
    body: impl Into<Vec<u8>>,
    field: &'static str,
    words: &'static str,
) -> Case {
    (operation, body.into(), "bad_request", field, words)
}

/// A body in JSON, which is a bad request.
fn bad_request(
    operation: &'static str,
    body: Value,
    field: &'static str,
    words: &'static str,
) -> Case {
    raw(operation, body.to_string(), field, words)
}

/// A put with this body, which is an invalid item.
fn invalid_item(body: Value, field: &'static str, words: &'static str) -> Case {
    let body = body.to_string().into_bytes();

    ("put", body, "invalid_item", field, words)
}

/// A put of a text with these fields added or replaced, which is a bad request.
fn bad_text(fields: Value, field: &'static str, words: &'static str) -> Case {
    bad_request("put", text_with(fields), field, words)
}

/// A put of a text with these fields added or replaced, which is an invalid item.
fn invalid_text(fields: Value, field: &'static str, words: &'static str) -> Case {
    invalid_item(text_with(fields), field, words)
}

/// The body of a valid put of a text, with these fields added or replaced.
fn text_with(fields: Value) -> Value {
    let mut body = json!({"kind": "text", "id": "x", "data": {"text": "y"}});
    let fields = fields.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);

    body
}

/// Objects nested to this depth.
fn nested(depth: usize) -> String {
    let open = "{\"x\":".repeat(depth - 1);
    let close = "}".repeat(depth - 1);

    format!("{open}{{}}{close}")
}

fn unreadable() -> Vec<Case> {
    let invalid_utf8 = b"{\"kind\": \"\xff\"}".to_vec();
    let deep_path = "x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x";
    let large = format!("{{\"x\": \"{}\"}}", "a".repeat(300_000));
    let mut cases = Vec::new();

    for operation in ["put", "get", "list", "delete", "version", "limits"] {
        cases.extend([
            raw(operation, "{", "", "not JSON"),
            raw(operation, "{}{}", "", "not JSON"),
            raw(operation, "\u{feff}{}", "", "not JSON"),
            raw(operation, vec![0xff_u8, 0xfe], "", "not JSON"),
            raw(operation, invalid_utf8.clone(), "", "not JSON"),
            raw(operation, "[]", "", "is a list"),
            raw(operation, "7", "", "is a number"),
            raw(operation, "\"{}\"", "", "is a text"),
            raw(operation, "null", "", "is null"),
            raw(operation, nested(17), deep_path, "nested"),
            raw(operation, "[".repeat(100_000), "", "nested"),
            (operation, large.clone().into(), "too_large", "", ""),
        ]);

        // These three lack a required field, which is reported before an unknown one.
        if !["put", "get", "delete"].contains(&operation) {
            cases.push(raw(operation, r#"{"colour": 1}"#, "colour", "colour"));
        }
    }

    cases
}

fn missing_and_repeated_fields() -> Vec<Case> {
    let kind_twice = r#"{"kind": "text", "kind": "text"}"#;
    let text_twice = r#"{"kind": "text", "data": {"text": "a", "text": "b"}}"#;
    let no_type = json!({"kind": "instrument", "data": {"text": "y"}});
    let no_text = json!({"data": {"isin": isin(1), "type": "stock"}});

    vec![
        raw("put", "", "kind", "missing"),
        raw("get", "", "kind", "missing"),
        raw("delete", "", "kind", "missing"),
        bad_request("get", json!({"kind": "text"}), "id", "missing"),
        raw("put", kind_twice, "kind", "duplicate"),
        raw("put", text_twice, "data.text", "duplicate"),
        bad_text(json!({"data": {}}), "data.text", "missing"),
        bad_request("put", no_type, "data.type", "missing"),
        bad_text(no_text, "data.text", "missing"),
    ]
}

fn unknown_fields() -> Vec<Case> {
    let in_data = json!({"data": {"text": "y", "b": 1}});

    vec![
        bad_text(json!({"colour": 1}), "colour", "unknown field"),
        bad_text(json!({"version": 1}), "version", "unknown field"),
        bad_text(json!({"owner": "bob"}), "owner", "unknown field"),
        bad_text(json!({"kind": "note"}), "kind", "instrument, text"),
        bad_text(in_data, "data.b", "unknown field"),
        bad_request("list", json!({"reveal": true}), "reveal", "unknown field"),
        bad_request("version", json!({"x": null}), "x", "unknown field"),
    ]
}

fn wrong_types() -> Vec<Case> {
    let reveal = json!({"kind": "text", "id": "x", "reveal": "yes"});

    vec![
        bad_text(json!({"data": "y"}), "data", "must be an object"),
        bad_text(json!({"data": null}), "data", "is null"),
        bad_text(json!({"data": {"text": 1}}), "data.text", "must be a text"),
        bad_text(json!({"id": null}), "id", "is null"),
        bad_text(json!({"id": 5}), "id", "must be a text"),
        bad_text(json!({"meta": []}), "meta", "must be an object"),
        bad_text(json!({"meta": {"a": 1}}), "meta.a", "must be a text"),
        bad_text(json!({"tags": "a"}), "tags", "must be a list"),
        bad_text(json!({"tags": ["a", null]}), "tags[1]", "is null"),
        bad_text(json!({"kind": 1}), "kind", "must be a text"),
        bad_request("get", reveal, "reveal", "boolean"),
    ]
}

fn invalid_list_parameters() -> Vec<Case> {
    let future = json!({"min_version": 1u64 << 53});

    vec![
        bad_request("list", json!({"limit": 0}), "limit", "500"),
        bad_request("list", json!({"limit": 501}), "limit", "500"),
        bad_request("list", json!({"limit": "5"}), "limit", "integer"),
        bad_request("list", json!({"cursor": "made-up"}), "cursor", ""),
        bad_request("list", json!({"cursor": ""}), "cursor", ""),
        bad_request(
            "list",
            json!({"consistency": "sure"}),
            "consistency",
            "strong",
        ),
        bad_request("list", future, "min_version", "lower"),
    ]
}

fn invalid_versions() -> Vec<Case> {
    let versions = [
        json!(-1),
        json!(1.5),
        json!(-1.0),
        json!(1e-1),
        json!((1u64 << 53) + 1),
        json!(((1u64 << 53) + 2) as f64),
        json!(1e300),
        json!("1"),
        json!(null),
    ];
    let mut cases = Vec::new();

    for version in versions {
        let delete = json!({"kind": "text", "id": "x", "if_owner_version": version});
        cases.push(bad_text(
            json!({"if_version": version}),
            "if_version",
            "2^53",
        ));
        cases.push(bad_request("delete", delete, "if_owner_version", "2^53"));
    }

    cases
}

fn invalid_texts() -> Vec<Case> {
    let long_text = json!({"data": {"text": "a".repeat(65_537)}});
    let long_id = json!({"id": "a".repeat(257)});

    vec![
        invalid_text(json!({"kind": "Text"}), "kind", "instrument, text"),
        invalid_text(json!({"data": {"text": ""}}), "data.text", ""),
        invalid_text(long_text, "data.text", "65"),
        invalid_text(json!({"id": ""}), "id", ""),
        invalid_text(json!({"id": "a\nb"}), "id", ""),
        invalid_text(long_id, "id", "256"),
    ]
}

fn invalid_instruments() -> Vec<Case> {
    let instrument =
        |isin: &str| json!({"kind": "instrument", "data": {"isin": isin, "type": "stock"}});
    let wrong_digit = instrument("US0378331006");
    let too_short = instrument("US037833100");
    let wrong_letter = instrument("U10378331005");
    let other_id =
        json!({"kind": "instrument", "id": isin(2), "data": {"isin": isin(1), "type": "stock"}});
    let unknown_type = json!({"kind": "instrument", "data": {"isin": isin(1), "type": "sock"}});
    let no_identity = json!({"kind": "instrument", "data": {"type": "future"}});
    let no_data = json!({"kind": "instrument"});

    vec![
        invalid_item(wrong_digit, "data.isin", "check digit is 6, expected 5"),
        invalid_item(too_short, "data.isin", "12 characters"),
        invalid_item(wrong_letter, "data.isin", "character 2"),
        invalid_item(other_id, "id", "ISIN"),
        invalid_item(unknown_type, "data.type", ""),
        invalid_item(instrument(""), "data.isin", "empty"),
        invalid_item(no_identity, "data", "isin, or both mic and ticker"),
        invalid_item(no_data, "data", "isin, or mic and ticker"),
    ]
}

/// Returns the refusal, after checking that body and headers agree and nothing is missing.
fn refusal(reply: &Reply, code: &str, request: &str) -> Value {
    assert_eq!(
        reply.body["error"]["code"], code,
        "{request}: {}",
        reply.body
    );

    let error = reply.refusal(code).clone();
    let expected = Code::ALL
        .into_iter()
        .find(|known| known.as_str() == code)
        .expect("a known code");

    assert_eq!(error["status"], expected.status(), "{request}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{request}: {error}"
    );
    assert!(error["details"].is_object(), "{request}: {error}");

    assert_eq!(
        error.as_object().expect("an object").len(),
        4,
        "{request}: {error}"
    );

    assert!(
        reply
            .header("Nats-Service-Error")
            .starts_with(&format!("{code}: ")),
        "{request}: {:?}",
        reply.headers
    );
    assert_eq!(
        reply.header("Content-Type"),
        "application/json",
        "{request}"
    );
    assert!(
        uuid::Uuid::parse_str(reply.header("Request-Id")).is_ok(),
        "{request}: {:?}",
        reply.headers
    );

    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_body_is_refused_with_its_field_and_writes_nothing() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "there", "y").await;
    let before = world.records().await;

    let cases = [
        unreadable(),
        missing_and_repeated_fields(),
        unknown_fields(),
        wrong_types(),
        invalid_list_parameters(),
        invalid_versions(),
        invalid_texts(),
        invalid_instruments(),
    ]
    .concat();

    println!("{} bodies", cases.len());

    for (operation, body, code, field, words) in cases {
        let start = String::from_utf8_lossy(&body[..body.len().min(120)]);
        let request = format!("{operation} {start}");
        let reply = alice.ask_with(operation, alice.headers(), body).await;

        let error = refusal(&reply, code, &request);

        if !field.is_empty() {
            assert_eq!(error["details"]["field"], field, "{request}: {error}");
        }

        let message = error["message"].as_str().expect("a text");
        assert!(message.contains(words), "{request}: {message}");
    }

    assert_eq!(world.records().await, before, "something was written");
    let list = alice
        .done("a.list", &json!({"consistency": "strong"}))
        .await;
    assert_eq!(
        list["items"].as_array().expect("a list").len(),
        1,
        "the worker still serves requests"
    );
}

/// Headers with a wrong value, and the code with which each is refused.
fn wrong_headers(long: &str) -> [(&str, &str, &str); 11] {
    let huge = "99999999999999999999999";

    [
        ("Content-Type", "text/plain", "unsupported_encoding"),
        ("Content-Type", "", "unsupported_encoding"),
        ("content-type", "application/jsonx", "unsupported_encoding"),
        ("Nats-Msg-Id", "", "bad_request"),
        ("nats-msg-id", long, "bad_request"),
        ("Nats-Msg-Id", "é", "bad_request"),
        ("Request-Timeout-Ms", "-1", "bad_request"),
        ("Request-Timeout-Ms", "1.5", "bad_request"),
        ("request-timeout-ms", "soon", "bad_request"),
        ("Request-Timeout-Ms", huge, "bad_request"),
        ("Request-Timeout-Ms", "0", "deadline_exceeded"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_repeated_header_is_refused_with_its_name() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    let body = json!({"kind": "text", "id": "x", "data": {"text": "y"}});
    let body = body.to_string().into_bytes();

    for (name, value, code) in wrong_headers(&"a".repeat(129)) {
        let mut headers = alice.headers();
        headers.insert(name, value);
        let reply = alice.ask_with("a.put", headers, body.clone()).await;

        let error = refusal(&reply, code, &format!("{name}: {value}"));

        if code != "deadline_exceeded" {
            let field = error["details"]["field"].as_str().expect("a name");
            assert!(field.eq_ignore_ascii_case(name), "{error}");
        }
    }

    for (name, value) in [
        ("Nats-Msg-Id", "one"),
        ("Content-Type", "application/json"),
        ("Request-Timeout-Ms", "9"),
    ] {
        let mut twice = alice.headers();
        twice.append(name, value);
        twice.append(name, value);
        let reply = alice.ask_with("a.put", twice, body.clone()).await;

        refusal(&reply, "bad_request", name);
    }

    assert!(world.records().await.is_empty(), "something was written");

    for (name, value) in [
        ("Content-Type", "Application/JSON; charset=utf-8"),
        ("Other", "x"),
        ("traceparent", "x"),
    ] {
        let mut accepted = alice.headers();
        accepted.insert(name, value);
        let reply = alice.ask_with("a.put", accepted, body.clone()).await;

        assert!(
            reply.body["error"].is_null(),
            "{name}: {value}: {}",
            reply.body
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_operations_are_refused_and_unknown_shards_silent() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    for name in ["nonsense", "Put", "shard", "a.nonsense", "a.shard", "put_"] {
        refusal(&alice.ask(name, &json!({})).await, "bad_request", name);
    }

    for subject in [
        "favorites.v1.shard.b.put",
        "favorites.v1.shard.a",
        "favorites.v1.put.x",
        "favorites.v1.shard.a.put.x",
    ] {
        let result = alice
            .client
            .request_with_headers(subject, alice.headers(), "{}".into())
            .await;

        assert_eq!(
            result.expect_err("no worker listens there").kind(),
            RequestErrorKind::NoResponders,
            "{subject}"
        );
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        select(vec!["text", "instrument", "x", "", "strong", "eventual"]).prop_map(Value::from),
    ];

    leaf.prop_recursive(5, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The fields that requests have, and one that no request has.
const FIELDS: [&str; 14] = [
    "kind",
    "id",
    "data",
    "meta",
    "tags",
    "if_version",
    "if_owner_version",
    "limit",
    "cursor",
    "tag",
    "min_version",
    "consistency",
    "reveal",
    "other",
];

/// Objects that have the fields of requests, with values that are often right.
fn likely_body() -> impl Strategy<Value = Value> {
    let data = any_value().prop_map(|value| json!({ "text": value }));
    let instrument = (0usize..50).prop_map(|n| json!({"isin": isin(n), "type": "stock"}));
    let number = (0u64..100).prop_map(Value::from);
    let field = prop_oneof![3 => any_value(), 1 => data, 1 => instrument, 1 => number];
    let fields = prop::collection::btree_map(select(FIELDS.to_vec()), field, 0..4);

    let kinds = select(vec!["text", "text", "instrument", "otp"]).prop_map(Value::from);
    let complete = (kinds, any::<String>(), any::<String>())
        .prop_map(|(kind, id, text)| json!({"kind": kind, "id": id, "data": {"text": text}}));
    let base = prop_oneof![Just(json!({})), complete];

    (base, fields).prop_map(|(mut body, fields)| {
        for (name, value) in fields {
            body[name] = value;
        }

        body
    })
}

#[derive(Debug)]
enum Body {
    Bytes(Vec<u8>),
    Value(Value),
}

fn any_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Body::Bytes),
        any_value().prop_map(Body::Value),
        likely_body().prop_map(Body::Value),
        likely_body().prop_map(Body::Value),
    ]
}

fn decoded(payload: &[u8], cbor: bool) -> Value {
    if cbor {
        ciborium::from_reader(payload).expect("a reply in CBOR")
    } else {
        serde_json::from_slice(payload).expect("a reply in JSON")
    }
}

/// The only refusals that a body, whatever it holds, can lead to.
const BODY_REFUSALS: [&str; 6] = [
    "bad_request",
    "invalid_item",
    "not_found",
    "version_conflict",
    "quota_exceeded",
    "too_large",
];

/// A generator whose seed is `SEED`, or the time; prints the seed.
fn seeded_runner() -> TestRunner {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos() as u64,
    };
    println!("SEED={seed}");

    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);

    TestRunner::new_with_rng(Config::default(), rng)
}

/// Each operation, in JSON and in CBOR, twice; puts twice as often.
fn operations_and_encodings() -> impl Iterator<Item = (&'static str, bool)> {
    let operations = [
        "put", "get", "list", "delete", "version", "limits", "put", "other",
    ];

    operations.into_iter().flat_map(|operation| {
        let encodings = [false, true, false, true];
        encodings.into_iter().map(move |cbor| (operation, cbor))
    })
}

/// Sends one request, and returns its bytes in a readable form.
async fn send(alice: &Caller, operation: &str, cbor: bool, body: &Body, reply: &str) -> String {
    let mut headers: HeaderMap = alice.headers();
    if cbor {
        headers.insert("Content-Type", "application/cbor");
    }

    let bytes = match body {
        Body::Bytes(bytes) => bytes.clone(),
        Body::Value(value) if cbor => {
            let mut bytes = Vec::new();
            ciborium::into_writer(value, &mut bytes).expect("CBOR");

            bytes
        }
        Body::Value(value) => value.to_string().into_bytes(),
    };

    let readable = format!("{bytes:?} {}", String::from_utf8_lossy(&bytes));
    let subject = format!("favorites.v1.shard.a.{operation}");
    let sending = alice.client.publish_with_reply_and_headers(
        subject,
        reply.to_owned(),
        headers,
        bytes.into(),
    );
    sending.await.expect("sent");

    readable
}

/// Returns the code of a reply, `done` if it is no refusal, after checking its form.
fn checked_code(reply: &Message, cbor: bool, request: &str) -> String {
    assert!(reply.status.is_none(), "{request}");
    assert!(!reply.payload.is_empty(), "{request}");

    let body = decoded(&reply.payload, cbor);
    let code = body["error"]["code"].as_str().unwrap_or("done");
    assert!(
        code == "done" || BODY_REFUSALS.contains(&code),
        "{request}: {body}"
    );

    assert!(
        !body["error"].is_null() || body.as_object().is_some_and(|body| !body.is_empty()),
        "{request}: {body}"
    );

    code.to_owned()
}

/// Waits until the worker has counted so many replies, and returns its count: it counts a reply a
/// moment after it has sent it.
async fn answered(worker: &Worker, at_least: u64) -> u64 {
    let counted = async {
        while worker.counters.answered() < at_least {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted)
        .await
        .expect("as many replies as requests");

    worker.counters.answered()
}

/// Goal: every request gets exactly one reply, and the reply has a code that a body can cause.
///
/// Method: one caller sends generated bodies to one worker, in JSON and in CBOR, each with a reply
/// subject of its own. The worker's own count of replies must be the number of requests.
#[tokio::test(flavor = "multi_thread")]
async fn any_body_is_answered_once_and_with_a_known_code() {
    let mut runner = seeded_runner();
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    let inbox = alice.client.new_inbox();
    let mut replies = alice
        .client
        .subscribe(format!("{inbox}.*"))
        .await
        .expect("a subscription");

    let strategy = any_body();
    let mut codes = BTreeMap::<String, usize>::new();
    let mut sent = 0;

    for _ in 0..15 {
        let mut waiting = BTreeMap::new();
        for (operation, cbor) in operations_and_encodings() {
            let body = strategy.new_tree(&mut runner).expect("a body").current();
            let reply_subject = format!("{inbox}.{sent}");
            let readable = send(&alice, operation, cbor, &body, &reply_subject).await;

            waiting.insert(reply_subject, (cbor, format!("{operation} {readable}")));
            sent += 1;
        }

        while !waiting.is_empty() {
            let reply = tokio::time::timeout(Duration::from_secs(10), replies.next()).await;
            let reply = reply
                .unwrap_or_else(|_| panic!("no reply to {:?}", waiting.values()))
                .expect("an open subscription");
            let (cbor, request) = waiting
                .remove(reply.subject.as_str())
                .expect("each request is answered once");

            let code = checked_code(&reply, cbor, &request);
            *codes.entry(code).or_default() += 1;
        }
    }

    println!("{sent} requests: {codes:?}");

    let list = alice
        .done("a.list", &json!({"consistency": "strong", "limit": 500}))
        .await;
    assert!(
        list["items"].is_array(),
        "the worker still serves requests: {list}"
    );

    assert_eq!(
        answered(&worker, sent + 1).await,
        sent + 1,
        "no request was answered twice"
    );

    assert!(codes.contains_key("done"));
    assert!(codes.contains_key("bad_request"));
    assert!(codes.contains_key("invalid_item"));
}

/// Header blocks: noise, and lines that look like headers, some of them valid.
fn any_headers() -> impl Strategy<Value = Vec<u8>> {
    let name = select(vec![
        "Authorization",
        "Content-Type",
        "Nats-Msg-Id",
        "Request-Timeout-Ms",
        "X",
        "a b",
        "",
    ]);

    let valid = select(vec![
        "Bearer x",
        "application/json",
        "application/cbor",
        "500",
    ]);
    let value = prop_oneof![
        valid.prop_map(|valid| valid.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..12)
    ];

    let noise = prop::collection::vec(any::<u8>(), 1..60);
    let line =
        (name, value).prop_map(|(name, value)| [name.as_bytes(), b": ", &value, b"\r\n"].concat());
    let block = |lines: Vec<Vec<u8>>| [b"NATS/1.0\r\n", &lines.concat()[..], b"\r\n"].concat();
    let lines = prop::collection::vec(line, 0..4).prop_map(block);

    prop_oneof![1 => noise, 3 => lines]
}

/// The last token of a subject: an operation, or bytes that the server accepts in a token.
fn any_operation() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("a byte of a subject token", |byte| {
        *byte > b' ' && !b".*>\x7f".contains(byte)
    });
    let noise = prop::collection::vec(byte, 1..12);

    let known = select(vec!["put", "get", "list", "delete", "version", "limits"])
        .prop_map(|name| name.as_bytes().to_vec());

    prop_oneof![3 => known, 1 => noise]
}

#[tokio::test(flavor = "multi_thread")]
async fn any_headers_and_any_operation_get_a_non_empty_reply() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let mut stranger = ByHand::connect(&world, "gateway").await;

    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );

    let all_headers = any_headers();
    let operations = any_operation();
    let mut codes = BTreeMap::<String, usize>::new();

    for _ in 0..300 {
        let headers = all_headers
            .new_tree(&mut runner)
            .expect("headers")
            .current();
        let operation = operations
            .new_tree(&mut runner)
            .expect("an operation")
            .current();

        let subject = [b"favorites.v1.shard.a.", &operation[..]].concat();
        let request = format!("{} {}", subject.escape_ascii(), headers.escape_ascii());

        stranger
            .publish(&subject, ByHand::INBOX.as_bytes(), &headers, b"{}")
            .await;
        let reply = stranger
            .reply()
            .await
            .unwrap_or_else(|| panic!("no reply: {request}"));

        let body = decoded(&reply, reply.first() != Some(&b'{'));
        assert!(
            body.as_object().is_some_and(|body| !body.is_empty()),
            "{request}: {body}"
        );

        let code = body["error"]["code"].as_str().unwrap_or("done");
        assert_ne!(code, "internal", "{request}");
        *codes.entry(code.to_owned()).or_default() += 1;
    }

    println!("{codes:?}");

    assert!(codes.contains_key("done"));
    assert!(codes.contains_key("bad_request"));
    assert!(codes.contains_key("unauthenticated"));
    let stats = &world.stats(1).await[0]["data"];
    assert_eq!(
        stats["nats"]["connections"], 1,
        "the worker never lost its connection"
    );
}
