//! What cannot be read, or breaks a rule: refused by name, and nothing is written.

use crate::harness::{ByHand, Caller, Reply, World, isin};
use async_nats::{HeaderMap, RequestErrorKind};
use futures::StreamExt as _;
use gofavorites::wire::Code;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An operation, a body, and how it is refused: the code, `details.field` (none if empty), and words of the message.
type Case = (
    &'static str,
    Vec<u8>,
    &'static str,
    &'static str,
    &'static str,
);

fn case(
    operation: &'static str,
    body: &Value,
    code: &'static str,
    field: &'static str,
    words: &'static str,
) -> Case {
    (operation, body.to_string().into_bytes(), code, field, words)
}

fn raw(
    operation: &'static str,
    body: &str,
    code: &'static str,
    field: &'static str,
    words: &'static str,
) -> Case {
    (operation, body.into(), code, field, words)
}

fn nested(depth: usize) -> String {
    format!(
        "{}{{}}{}",
        "{\"x\":".repeat(depth - 1),
        "}".repeat(depth - 1)
    )
}

fn unreadable() -> Vec<Case> {
    let mut cases = Vec::new();
    for operation in ["put", "get", "list", "delete", "version", "limits"] {
        cases.push(raw(operation, "{", "bad_request", "", "not JSON"));
        cases.push(raw(operation, "{}{}", "bad_request", "", "not JSON"));
        cases.push(raw(operation, "\u{feff}{}", "bad_request", "", "not JSON"));
        cases.push((operation, vec![0xff, 0xfe], "bad_request", "", "not JSON"));
        cases.push((
            operation,
            b"{\"kind\": \"\xff\"}".to_vec(),
            "bad_request",
            "",
            "not JSON",
        ));
        cases.push(raw(operation, "[]", "bad_request", "", "is a list"));
        cases.push(raw(operation, "7", "bad_request", "", "is a number"));
        cases.push(raw(operation, "\"{}\"", "bad_request", "", "is a text"));
        cases.push(raw(operation, "null", "bad_request", "", "is null"));
        cases.push((
            operation,
            nested(17).into(),
            "bad_request",
            "x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x",
            "nested",
        ));
        cases.push((
            operation,
            "[".repeat(100_000).into(),
            "bad_request",
            "",
            "nested",
        ));
        cases.push(raw(
            operation,
            r#"{"colour": 1}"#,
            "bad_request",
            "colour",
            "colour",
        ));
        cases.push((
            operation,
            format!("{{\"x\": \"{}\"}}", "a".repeat(300_000)).into(),
            "too_large",
            "",
            "",
        ));
    }
    // What lacks a field is told of that before it is told of one that nobody knows.
    cases.retain(|(operation, body, ..)| {
        !(body.starts_with(b"{\"colour") && ["put", "get", "delete"].contains(operation))
    });
    cases
}

fn wrong_fields() -> Vec<Case> {
    let text = |more: Value| {
        let mut body = json!({"kind": "text", "id": "x", "data": {"text": "y"}});
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        body
    };
    let mut cases = vec![
        raw("put", "", "bad_request", "kind", "missing"),
        raw("get", "", "bad_request", "kind", "missing"),
        raw("delete", "", "bad_request", "kind", "missing"),
        case(
            "get",
            &json!({"kind": "text"}),
            "bad_request",
            "id",
            "missing",
        ),
        raw(
            "put",
            r#"{"kind": "text", "kind": "text"}"#,
            "bad_request",
            "kind",
            "twice",
        ),
        raw(
            "put",
            r#"{"kind": "text", "data": {"text": "a", "text": "b"}}"#,
            "bad_request",
            "data.text",
            "twice",
        ),
        case(
            "put",
            &text(json!({"colour": 1})),
            "bad_request",
            "colour",
            "unknown field",
        ),
        case(
            "put",
            &text(json!({"version": 1})),
            "bad_request",
            "version",
            "unknown field",
        ),
        case(
            "put",
            &text(json!({"owner": "bob"})),
            "bad_request",
            "owner",
            "unknown field",
        ),
        case(
            "put",
            &text(json!({"data": {"text": "y", "b": 1}})),
            "bad_request",
            "data.b",
            "unknown field",
        ),
        case(
            "put",
            &text(json!({"data": {}})),
            "bad_request",
            "data.text",
            "missing",
        ),
        case(
            "put",
            &text(json!({"data": "y"})),
            "bad_request",
            "data",
            "must be an object",
        ),
        case(
            "put",
            &text(json!({"data": null})),
            "bad_request",
            "data",
            "is null",
        ),
        case(
            "put",
            &text(json!({"data": {"text": 1}})),
            "bad_request",
            "data.text",
            "must be a text",
        ),
        case(
            "put",
            &text(json!({"id": null})),
            "bad_request",
            "id",
            "is null",
        ),
        case(
            "put",
            &text(json!({"id": 5})),
            "bad_request",
            "id",
            "must be a text",
        ),
        case(
            "put",
            &text(json!({"meta": []})),
            "bad_request",
            "meta",
            "must be an object",
        ),
        case(
            "put",
            &text(json!({"meta": {"a": 1}})),
            "bad_request",
            "meta.a",
            "must be a text",
        ),
        case(
            "put",
            &text(json!({"tags": "a"})),
            "bad_request",
            "tags",
            "must be a list",
        ),
        case(
            "put",
            &text(json!({"tags": ["a", null]})),
            "bad_request",
            "tags[1]",
            "is null",
        ),
        case(
            "put",
            &text(json!({"kind": 1})),
            "bad_request",
            "kind",
            "must be a text",
        ),
        case(
            "put",
            &text(json!({"kind": "note"})),
            "invalid_item",
            "kind",
            "instrument, text",
        ),
        case(
            "put",
            &text(json!({"kind": "Text"})),
            "invalid_item",
            "kind",
            "instrument, text",
        ),
        case(
            "put",
            &json!({"kind": "instrument", "data": {"text": "y"}}),
            "bad_request",
            "data.isin",
            "missing",
        ),
        case(
            "put",
            &text(json!({"data": {"isin": isin(1), "type": "stock"}})),
            "bad_request",
            "data.text",
            "missing",
        ),
        case(
            "put",
            &text(json!({"data": {"text": ""}})),
            "invalid_item",
            "data.text",
            "",
        ),
        case(
            "put",
            &text(json!({"data": {"text": "a".repeat(65_537)}})),
            "invalid_item",
            "data.text",
            "65",
        ),
        case("put", &text(json!({"id": ""})), "invalid_item", "id", ""),
        case(
            "put",
            &text(json!({"id": "a\nb"})),
            "invalid_item",
            "id",
            "",
        ),
        case(
            "put",
            &text(json!({"id": "a".repeat(257)})),
            "invalid_item",
            "id",
            "256",
        ),
        case("list", &json!({"limit": 0}), "bad_request", "limit", "500"),
        case(
            "list",
            &json!({"limit": 501}),
            "bad_request",
            "limit",
            "500",
        ),
        case(
            "list",
            &json!({"limit": "5"}),
            "bad_request",
            "limit",
            "integer",
        ),
        case(
            "list",
            &json!({"cursor": "made-up"}),
            "bad_request",
            "cursor",
            "",
        ),
        case("list", &json!({"cursor": ""}), "bad_request", "cursor", ""),
        case(
            "list",
            &json!({"consistency": "sure"}),
            "bad_request",
            "consistency",
            "strong",
        ),
        case(
            "list",
            &json!({"min_version": 1u64 << 53}),
            "bad_request",
            "min_version",
            "never",
        ),
        case(
            "list",
            &json!({"reveal": true}),
            "bad_request",
            "reveal",
            "unknown field",
        ),
        case(
            "get",
            &json!({"kind": "text", "id": "x", "reveal": "yes"}),
            "bad_request",
            "reveal",
            "boolean",
        ),
        case(
            "version",
            &json!({"x": null}),
            "bad_request",
            "x",
            "unknown field",
        ),
    ];
    for version in [
        json!(-1),
        json!(1.5),
        json!(1.0),
        json!((1u64 << 53) + 1),
        json!(1e300),
        json!("1"),
        json!(null),
    ] {
        cases.push(case(
            "put",
            &text(json!({"if_version": version})),
            "bad_request",
            "if_version",
            "2^53",
        ));
        let delete = json!({"kind": "text", "id": "x", "if_owner_version": version});
        cases.push(case(
            "delete",
            &delete,
            "bad_request",
            "if_owner_version",
            "2^53",
        ));
    }
    let instrument =
        |isin: &str| json!({"kind": "instrument", "data": {"isin": isin, "type": "stock"}});
    cases.push(case(
        "put",
        &instrument("US0378331006"),
        "invalid_item",
        "data.isin",
        "check digit is 6, expected 5",
    ));
    cases.push(case(
        "put",
        &instrument("US037833100"),
        "invalid_item",
        "data.isin",
        "12 characters",
    ));
    cases.push(case(
        "put",
        &instrument("U10378331005"),
        "invalid_item",
        "data.isin",
        "character 2",
    ));
    let other =
        json!({"kind": "instrument", "id": isin(2), "data": {"isin": isin(1), "type": "stock"}});
    cases.push(case("put", &other, "invalid_item", "id", "ISIN"));
    let no_type = json!({"kind": "instrument", "data": {"isin": isin(1), "type": "sock"}});
    cases.push(case("put", &no_type, "invalid_item", "data.type", ""));
    cases
}

/// The refusal, which is told in its headers too.
fn refusal(reply: &Reply, code: &str, what: &str) -> Value {
    assert_eq!(reply.body["error"]["code"], code, "{what}: {}", reply.body);
    let error = reply.refusal(code).clone();
    let known = Code::ALL
        .into_iter()
        .find(|known| known.as_str() == code)
        .expect("a known code");
    assert_eq!(error["status"], known.status(), "{what}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{what}: {error}"
    );
    assert!(error["details"].is_object(), "{what}: {error}");
    assert_eq!(
        error.as_object().expect("an object").len(),
        4,
        "{what}: {error}"
    );
    assert!(
        reply
            .header("Nats-Service-Error")
            .starts_with(&format!("{code}: ")),
        "{what}: {:?}",
        reply.headers
    );
    assert_eq!(reply.header("Content-Type"), "application/json", "{what}");
    assert!(
        uuid::Uuid::parse_str(reply.header("Request-Id")).is_ok(),
        "{what}: {:?}",
        reply.headers
    );
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_by_name_and_writes_nothing() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "there", "y").await;
    let before = world.records().await;
    let cases: Vec<_> = unreadable().into_iter().chain(wrong_fields()).collect();
    println!("{} bodies", cases.len());
    for (operation, body, code, field, words) in cases {
        let what = format!(
            "{operation} {}",
            String::from_utf8_lossy(&body[..body.len().min(120)])
        );
        let reply = alice.ask_with(operation, alice.headers(), body).await;
        let error = refusal(&reply, code, &what);
        if !field.is_empty() {
            assert_eq!(error["details"]["field"], field, "{what}: {error}");
        }
        let message = error["message"].as_str().expect("a text");
        assert!(message.contains(words), "{what}: {message}");
    }
    assert_eq!(world.records().await, before, "something was written");
    let list = alice
        .done("a.list", &json!({"consistency": "strong"}))
        .await;
    assert_eq!(
        list["items"].as_array().expect("a list").len(),
        1,
        "and the worker goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_header_is_refused_by_name() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let long = "a".repeat(129);
    let table = [
        ("Content-Type", "text/plain", "unsupported_encoding"),
        ("Content-Type", "", "unsupported_encoding"),
        ("content-type", "application/jsonx", "unsupported_encoding"),
        ("Nats-Msg-Id", "", "bad_request"),
        ("nats-msg-id", &long, "bad_request"),
        ("Nats-Msg-Id", "é", "bad_request"),
        ("Request-Timeout-Ms", "-1", "bad_request"),
        ("Request-Timeout-Ms", "1.5", "bad_request"),
        ("request-timeout-ms", "soon", "bad_request"),
        (
            "Request-Timeout-Ms",
            "99999999999999999999999",
            "bad_request",
        ),
        ("Request-Timeout-Ms", "0", "deadline_exceeded"),
    ];
    let body = json!({"kind": "text", "id": "x", "data": {"text": "y"}});
    for (name, value, code) in table {
        let mut headers = alice.headers();
        headers.insert(name, value);
        let what = format!("{name}: {value}");
        let reply = alice
            .ask_with("a.put", headers, body.to_string().into_bytes())
            .await;
        let error = refusal(&reply, code, &what);
        if code != "deadline_exceeded" {
            assert!(
                error["details"]["field"]
                    .as_str()
                    .expect("a name")
                    .eq_ignore_ascii_case(name),
                "{error}"
            );
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
        let reply = alice
            .ask_with("a.put", twice, body.to_string().into_bytes())
            .await;
        refusal(&reply, "bad_request", name);
    }
    assert!(world.records().await.is_empty(), "something was written");
    for (name, value) in [
        ("Content-Type", "Application/JSON; charset=utf-8"),
        ("Other", "x"),
        ("traceparent", "x"),
    ] {
        let mut fine = alice.headers();
        fine.insert(name, value);
        let reply = alice
            .ask_with("a.put", fine, body.to_string().into_bytes())
            .await;
        assert!(
            reply.body["error"].is_null(),
            "{name}: {value}: {}",
            reply.body
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_operation_is_refused_and_an_unknown_shard_is_nobody() {
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
        let asked = alice
            .client
            .request_with_headers(subject, alice.headers(), "{}".into())
            .await;
        assert_eq!(
            asked.expect_err("nobody").kind(),
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

/// Objects that have the fields of requests, with values that are often right.
fn likely_body() -> impl Strategy<Value = Value> {
    let names = [
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
    ];
    let names = [
        &names[..],
        &["min_version", "consistency", "reveal", "other"],
    ]
    .concat();
    let data = any_value().prop_map(|value| json!({ "text": value }));
    let instrument = (0usize..50).prop_map(|n| json!({"isin": isin(n), "type": "stock"}));
    let kinds = select(vec!["text", "text", "instrument", "otp"]).prop_map(Value::from);
    let field = prop_oneof![3 => any_value(), 1 => data, 1 => instrument, 1 => (0u64..100).prop_map(Value::from)];
    let text = (kinds, any::<String>(), any::<String>());
    let whole =
        text.prop_map(|(kind, id, text)| json!({"kind": kind, "id": id, "data": {"text": text}}));
    let fields = prop::collection::btree_map(select(names), field, 0..4);
    (prop_oneof![Just(json!({})), whole], fields).prop_map(|(mut body, fields)| {
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
    match cbor {
        true => ciborium::from_reader(payload).expect("a reply in CBOR"),
        false => serde_json::from_slice(payload).expect("a reply in JSON"),
    }
}

/// The codes that a body alone may earn.
const EARNED: [&str; 6] = [
    "bad_request",
    "invalid_item",
    "not_found",
    "version_conflict",
    "quota_exceeded",
    "too_large",
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_is_answered_once_and_with_a_known_code() {
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
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let inbox = alice.client.new_inbox();
    let mut replies = alice
        .client
        .subscribe(format!("{inbox}.*"))
        .await
        .expect("a subscription");
    let (strategy, mut codes, mut sent) = (any_body(), BTreeMap::<String, usize>::new(), 0);
    for _ in 0..15 {
        let mut waiting = BTreeMap::new();
        for operation in [
            "put", "get", "list", "delete", "version", "limits", "put", "other",
        ] {
            for cbor in [false, true, false, true] {
                let body = strategy.new_tree(&mut runner).expect("a body").current();
                let place = format!("{inbox}.{sent}");
                let shown = send(&alice, operation, cbor, &body, &place).await;
                waiting.insert(place, (cbor, format!("{operation} {shown}")));
                sent += 1;
            }
        }
        while !waiting.is_empty() {
            let reply = tokio::time::timeout(Duration::from_secs(10), replies.next()).await;
            let reply = reply
                .unwrap_or_else(|_| panic!("no reply to {:?}", waiting.values()))
                .expect("open");
            let (cbor, what) = waiting
                .remove(reply.subject.as_str())
                .expect("each is answered once");
            assert!(
                reply.status.is_none() && !reply.payload.is_empty(),
                "{what}"
            );
            let body = decoded(&reply.payload, cbor);
            let code = body["error"]["code"].as_str().unwrap_or("done");
            assert!(code == "done" || EARNED.contains(&code), "{what}: {body}");
            assert!(
                !body["error"].is_null() || body.as_object().is_some_and(|body| !body.is_empty()),
                "{what}: {body}"
            );
            *codes.entry(code.to_owned()).or_default() += 1;
        }
    }
    println!("{sent} requests: {codes:?}");
    let list = alice
        .done("a.list", &json!({"consistency": "strong", "limit": 500}))
        .await;
    assert!(list["items"].is_array(), "the worker goes on: {list}");
    let counted = async {
        while worker.counters.answered() < sent + 1 {
            tokio::task::yield_now().await; // an answer is counted a moment after it has left
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted)
        .await
        .expect("as many answers");
    assert_eq!(
        worker.counters.answered(),
        sent + 1,
        "no request was answered twice"
    );
    assert!(
        codes.contains_key("done")
            && codes.contains_key("bad_request")
            && codes.contains_key("invalid_item")
    );
}

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
    let shown = format!("{bytes:?} {}", String::from_utf8_lossy(&bytes));
    let subject = format!("favorites.v1.shard.a.{operation}");
    let sending = alice.client.publish_with_reply_and_headers(
        subject,
        reply.to_owned(),
        headers,
        bytes.into(),
    );
    sending.await.expect("sent");
    shown
}

/// Header blocks: noise, and lines that look like headers, some of them good ones.
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
    let good = select(vec![
        "Bearer x",
        "application/json",
        "application/cbor",
        "500",
    ]);
    let value = prop_oneof![
        good.prop_map(|good| good.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..12)
    ];
    let line =
        (name, value).prop_map(|(name, value)| [name.as_bytes(), b": ", &value, b"\r\n"].concat());
    let lines = |lines: Vec<Vec<u8>>| [b"NATS/1.0\r\n", &lines.concat()[..], b"\r\n"].concat();
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 1..60), 3 => prop::collection::vec(line, 0..4).prop_map(lines)]
}

/// The last part of a subject: an operation, or bytes that the server takes for a part.
fn any_operation() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("a part of a subject", |byte| {
        *byte > b' ' && !b".*>\x7f".contains(byte)
    });
    let known = select(vec!["put", "get", "list", "delete", "version", "limits"]);
    prop_oneof![3 => known.prop_map(|name| name.as_bytes().to_vec()), 1 => prop::collection::vec(byte, 1..12)]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_headers_and_the_operation_are_the_reply_is_there_and_not_empty() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let mut stranger = ByHand::connect(&world, "gateway").await;
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let (headers, operation) = (any_headers(), any_operation());
    let mut codes = BTreeMap::<String, usize>::new();
    for _ in 0..300 {
        let headers = headers.new_tree(&mut runner).expect("headers").current();
        let operation = operation
            .new_tree(&mut runner)
            .expect("an operation")
            .current();
        let subject = [b"favorites.v1.shard.a.", &operation[..]].concat();
        stranger
            .publish(&subject, ByHand::INBOX.as_bytes(), &headers, b"{}")
            .await;
        let case = format!("{} {}", subject.escape_ascii(), headers.escape_ascii());
        let reply = stranger
            .reply()
            .await
            .unwrap_or_else(|| panic!("no reply: {case}"));
        let body = decoded(&reply, reply.first() != Some(&b'{'));
        assert!(
            body.as_object().is_some_and(|body| !body.is_empty()),
            "{case}: {body}"
        );
        let code = body["error"]["code"].as_str().unwrap_or("done");
        assert_ne!(code, "internal", "{case}");
        *codes.entry(code.to_owned()).or_default() += 1;
    }
    println!("{codes:?}");
    assert!(
        codes.contains_key("done")
            && codes.contains_key("bad_request")
            && codes.contains_key("unauthenticated")
    );
    assert_eq!(world.stats(1).await[0]["data"]["nats"]["connections"], 1);
}
