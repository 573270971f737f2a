//! The check whether an instrument is real: known ones are completed, unknown ones are refused, and
//! the settings decide what happens while the reference service does not answer.

use crate::harness::{Caller, ReferenceService, Worker, World, exclusive, isin};
use crate::pages::{blocks, section, text};
use async_nats::{Client, HeaderMap, Subscriber};
use futures::StreamExt as _;
use futures::future::join_all;
use gofavorites::config::Settings;
use gofavorites::dev::reference_service::{REFERENCE_GROUP, REFERENCE_SUBJECT};
use gofavorites::reference::OnSilence;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const APPLE: &str = "US0378331005";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Returns a worker of shard a that asks the reference service.
async fn worker_that_asks(world: &World, change: impl FnOnce(&mut Settings)) -> Worker {
    let mut settings = world.settings("a");
    settings.reference.subject = REFERENCE_SUBJECT.into();
    settings.reference.timeout_ms = 2_000;
    change(&mut settings);

    world.worker_with(settings).await
}

/// Answers as a reference service that knows one instrument.
fn only_apple(question: &Value) -> Option<String> {
    let answer = if question["isin"] == APPLE {
        json!({
            "found": true,
            "name": "Apple Inc.",
            "ticker": "AAPL",
            "mic": "XNAS",
            "currency": "USD",
        })
    } else {
        json!({"found": false})
    };

    Some(answer.to_string())
}

/// Answers as a reference service that knows every instrument and nothing about it.
fn everything(_: &Value) -> Option<String> {
    Some(json!({"found": true}).to_string())
}

fn put(isin: &str) -> Value {
    json!({"kind": "instrument", "data": {"isin": isin, "type": "stock"}})
}

fn put_in_batch(isin: &str) -> Value {
    let mut put = put(isin);
    put["op"] = json!("put");
    put
}

/// Asserts that the owner has so many items.
async fn assert_items(caller: &Caller, count: usize) {
    let list = caller
        .done("a.list", &json!({"consistency": "strong"}))
        .await;

    assert_eq!(list["items"].as_array().map(Vec::len), Some(count));
}

/// A reference service that takes every question and answers none, not even whether it is there,
/// as long as both are kept.
async fn silent_service(world: &World) -> (Client, Subscriber) {
    let client = world.connect("reference_service").await;
    let questions = client
        .queue_subscribe(REFERENCE_SUBJECT, REFERENCE_GROUP.into())
        .await
        .expect("subscribed");
    client.flush().await.expect("sent");

    (client, questions)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_instrument_is_stored_with_what_was_left_out() {
    let world = World::start().await;
    let service = ReferenceService::start(&world, only_apple).await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let alice = world.caller("alice").await;
    let mut named = put(APPLE);
    named["data"]["name"] = json!("an apple");
    let mut headers = alice.headers();
    headers.insert("traceparent", TRACEPARENT);

    let bytes = named.to_string().into_bytes();
    let reply = alice.ask_with("a.put", headers, bytes).await.body;

    let expected = json!({
        "isin": APPLE,
        "type": "stock",
        "ticker": "AAPL",
        "mic": "XNAS",
        "currency": "USD",
        "name": "an apple",
    });
    assert_eq!(reply["item"]["data"], expected);
    let get = json!({"kind": "instrument", "id": APPLE});
    let got = alice.done("a.get", &get).await;
    assert_eq!(got["item"], reply["item"]);

    let questions = service.questions();
    assert_eq!(questions.len(), 1);
    assert_eq!(questions[0].body, json!({"isin": APPLE}), "and no more");
    assert_eq!(questions[0].traceparent.as_deref(), Some(TRACEPARENT));
}

/// Returns the JSON blocks of the section in docs/operations.md: two questions and an answer.
fn documented() -> [Value; 3] {
    let document = text("docs/operations.md");
    let section = section(&document, "What a reference service has to answer");

    let found: Vec<Value> = blocks(section)
        .into_iter()
        .map(|(_, block)| serde_json::from_str(&block).expect("JSON"))
        .collect();
    found.try_into().expect("three blocks")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_document_is_what_a_worker_asks_and_takes() {
    let world = World::start().await;
    let [question, _, answer] = documented();
    let documented_answer = answer.to_string();
    let service = ReferenceService::start(&world, move |_| Some(documented_answer.clone())).await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let alice = world.caller("alice").await;

    let reply = alice.done("a.put", &put(APPLE)).await;

    assert_eq!(service.questions()[0].body, question);
    for field in ["name", "ticker", "mic", "currency"] {
        assert_eq!(reply["item"]["data"][field], answer[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_instrument_is_refused() {
    let world = World::start().await;
    let _service = ReferenceService::start(&world, only_apple).await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let alice = world.caller("alice").await;

    let reply = alice.ask("a.put", &put(&isin(1))).await;

    let error = reply.refusal("unknown_instrument");
    assert_eq!(error["status"], 422);
    assert_eq!(error["details"]["field"], "data.isin");
    assert_items(&alice, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_put_of_an_instrument_with_data_asks() {
    let world = World::start().await;
    let service = ReferenceService::start(&world, only_apple).await;
    let _a = worker_that_asks(&world, |settings| settings.reference.found_ttl_s = 0).await;
    let alice = world.caller("alice").await;
    let first = alice.done("a.put", &put(APPLE)).await;
    let version = &first["item"]["version"];

    let tagged = json!({"kind": "instrument", "id": APPLE, "tags": ["x"]});
    let kept = alice.done("a.put", &tagged).await;
    let restore = json!({"kind": "instrument", "id": APPLE, "version": version});
    let restored = alice.done("a.restore", &restore).await;
    alice.put_text("a", "note", APPLE).await;
    let wrong = alice.ask("a.put", &put("US0378331006")).await;

    assert_eq!(kept["item"]["data"], first["item"]["data"]);
    assert_eq!(restored["item"]["data"], first["item"]["data"]);
    wrong.refusal("invalid_item");
    assert_eq!(service.questions().len(), 1);
}

/// Goal: an answer is asked for once while it is cached, and each kind of answer has its own time.
///
/// Method: a service counts the questions. Twenty callers put the same instrument at once, and
/// unknown ones are put again before and after the time of that answer.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_cached_each_for_its_time() {
    let world = World::start().await;
    let service = ReferenceService::start(&world, only_apple).await;
    let _a = worker_that_asks(&world, |settings| settings.reference.unknown_ttl_s = 2).await;
    let world = &world;
    let callers = (0..20).map(|number| async move {
        let caller = world.caller(&format!("caller-{number}")).await;
        caller.done("a.put", &put(APPLE)).await
    });

    for reply in join_all(callers).await {
        assert_eq!(reply["item"]["data"]["name"], "Apple Inc.");
    }
    assert_eq!(service.count_of(APPLE), 1);

    let alice = world.caller("alice").await;
    let unknown = isin(1);
    let asked = Instant::now();
    for _ in 0..3 {
        let reply = alice.ask("a.put", &put(&unknown)).await;
        reply.refusal("unknown_instrument");
    }
    if asked.elapsed() < Duration::from_secs(2) {
        assert_eq!(service.count_of(&unknown), 1);
    }

    let before = service.count_of(&unknown);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let reply = alice.ask("a.put", &put(&unknown)).await;
    reply.refusal("unknown_instrument");
    assert_eq!(service.count_of(&unknown), before + 1, "its time is over");
    alice.done("a.put", &put(APPLE)).await;
    assert_eq!(service.count_of(APPLE), 1);

    let data = world.stats(1).await[0]["data"]["reference"].clone();
    assert_eq!(data["asked"], service.questions().len());
    assert!(data["hits"].as_u64() >= Some(1), "{data}");
    assert_eq!(data["silent"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_answers_an_instrument_is_accepted_as_it_is() {
    let world = World::start().await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let alice = world.caller("alice").await;

    let reply = alice.done("a.put", &put(APPLE)).await;

    let expected = json!({"isin": APPLE, "type": "stock"});
    assert_eq!(reply["item"]["data"], expected);
    let data = world.stats(1).await[0]["data"].clone();
    assert_eq!(data["reference"]["silent"], 1, "{data}");
    assert_eq!(data["state"], "healthy", "{data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_answers_an_instrument_is_refused_if_the_settings_say_so() {
    let world = World::start().await;
    let refuse = |settings: &mut Settings| settings.reference.on_silence = OnSilence::Refuse;
    let _a = worker_that_asks(&world, refuse).await;
    let alice = world.caller("alice").await;
    let mixed = json!({"mode": "each", "ops": [
        {"op": "put", "kind": "text", "id": "note", "data": {"text": "x"}},
        put_in_batch(APPLE)]});

    let reply = alice.ask("a.put", &put(APPLE)).await;
    let batch = alice.ask("a.batch", &mixed).await;

    let error = reply.refusal("reference_unavailable");
    assert_eq!(error["status"], 503);
    assert!(error["details"]["retry_after_ms"].is_u64(), "{error}");
    // A refusal that passes by itself is not stored with the write of the other operation.
    let error = batch.refusal("reference_unavailable");
    assert_eq!(error["details"]["op"], 1);
    assert!(error["details"]["retry_after_ms"].is_u64(), "{error}");
    assert_items(&alice, 0).await;

    // The worker notices by itself that the service is there.
    let _service = ReferenceService::start(&world, only_apple).await;
    let back = Instant::now();
    while alice.ask("a.put", &put(APPLE)).await.body["item"].is_null() {
        assert!(back.elapsed() < Duration::from_secs(5), "still refused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_items(&alice, 1).await;
}

/// Goal: a reference service that hangs costs one put the time limit, and those after it nothing.
///
/// Method: a service takes every question and answers none. The first put shows the worker that;
/// the next ones are timed.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_costs_nothing_once_it_is_known() {
    let _permit = exclusive().await;
    let world = World::start().await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let _service = silent_service(&world).await;
    let alice = world.caller("alice").await;
    alice.done("a.put", &put(&isin(0))).await;

    let start = Instant::now();
    for number in 1..6 {
        alice.done("a.put", &put(&isin(number))).await;
    }
    let took = start.elapsed();

    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// Goal: an answer that cannot be used counts as none: the instrument is neither refused as unknown
/// nor completed.
///
/// Method: a service gives such answers one after the other about the same instrument.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_used_is_no_answer() {
    let world = World::start().await;
    let answer = Arc::new(Mutex::new(String::new()));
    let given = answer.clone();
    let _service = ReferenceService::start(&world, move |_| {
        Some(given.lock().expect("no panic").clone())
    })
    .await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let alice = world.caller("alice").await;
    let too_long = json!({"found": false, "more": "x".repeat(100_000)}).to_string();

    for unusable in [
        "",
        "no json",
        "[]",
        "{}",
        r#"{"found": "no"}"#,
        r#"{"error": {"code": "overloaded"}}"#,
        too_long.as_str(),
    ] {
        *answer.lock().expect("no panic") = unusable.into();

        let reply = alice.done("a.put", &put(APPLE)).await;

        let expected = json!({"isin": APPLE, "type": "stock"});
        assert_eq!(reply["item"]["data"], expected, "{unusable:.40}");
    }

    let strange = json!({"found": true, "ticker": 7, "mic": "XNASDAQ", "name": "Apple Inc."});
    *answer.lock().expect("no panic") = strange.to_string();
    let reply = alice.done("a.put", &put(APPLE)).await;
    let expected = json!({"isin": APPLE, "type": "stock", "name": "Apple Inc."});
    assert_eq!(reply["item"]["data"], expected, "the fields that are right");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_service_is_no_answer() {
    let world = World::start().await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let (client, mut questions) = silent_service(&world).await;
    let refusing = tokio::spawn(async move {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error-Code", "500");
        headers.insert("Nats-Service-Error", "not today");
        while let Some(question) = questions.next().await {
            let reply = question.reply.expect("a reply subject");
            let body = json!({"found": false}).to_string();
            client
                .publish_with_headers(reply, headers.clone(), body.into())
                .await
                .expect("sent");
        }
    });
    let alice = world.caller("alice").await;

    let reply = alice.done("a.put", &put(APPLE)).await;

    assert_eq!(reply["item"]["id"], APPLE);
    refusing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_instrument_refuses_the_atomic_batch() {
    let world = World::start().await;
    let _service = ReferenceService::start(&world, only_apple).await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let alice = world.caller("alice").await;
    let ops = [put_in_batch(APPLE), put_in_batch(&isin(1))];

    let batch = json!({"mode": "atomic", "ops": ops});
    let reply = alice.ask("a.batch", &batch).await;

    let details = &reply.refusal("unknown_instrument")["details"];
    assert_eq!(details["op"], 1);
    assert_eq!(details["field"], "ops[1].data.isin");
    assert_items(&alice, 0).await;

    let batch = json!({"mode": "atomic", "ops": ops[..1]});
    let reply = alice.done("a.batch", &batch).await;
    let data = &reply["results"][0]["item"]["data"];
    assert_eq!(data["name"], "Apple Inc.");
}

/// Goal: in mode `each` an unknown instrument is the refusal of its operation, and each instrument
/// is asked for once.
///
/// Method: a batch of forty instruments, of which one is known. It is sent twice with one request
/// id.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_instrument_is_refused_among_the_others_of_a_batch() {
    let world = World::start().await;
    let service = ReferenceService::start(&world, only_apple).await;
    let _a = worker_that_asks(&world, |_| {}).await;
    let alice = world.caller("alice").await;
    let unknown = (0..39).map(|number| put_in_batch(&isin(number)));
    let ops: Vec<_> = unknown.chain([put_in_batch(APPLE)]).collect();
    let batch = json!({"mode": "each", "ops": ops});

    let first = alice.ask_once("a.batch", "import-1", &batch).await.body;
    let second = alice.ask_once("a.batch", "import-1", &batch).await.body;

    let results = first["results"].as_array().expect("results");
    for (number, result) in results[..39].iter().enumerate() {
        let field = format!("ops[{number}].data.isin");
        assert_eq!(result["error"]["code"], "unknown_instrument", "{result}");
        assert_eq!(result["error"]["details"]["field"], field);
    }
    assert_eq!(results[39]["item"]["data"]["name"], "Apple Inc.");
    assert_eq!(service.questions().len(), 40);
    assert_eq!(second["results"], first["results"]);
    assert_items(&alice, 1).await;
}

/// Goal: a put waits for a silent reference service only as long as its caller does, although the
/// worker itself would wait a minute.
///
/// Method: a service takes the worker's question and does not answer; the caller allows 300 ms, and
/// the time until the refusal is measured.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_reference_service_costs_no_more_than_the_callers_time() {
    let _permit = exclusive().await;
    let world = World::start().await;
    let patient = |settings: &mut Settings| settings.reference.timeout_ms = 60_000;
    let _a = worker_that_asks(&world, patient).await;
    let _service = silent_service(&world).await;
    let alice = world.caller("alice").await;
    let batch = json!({"mode": "each", "ops": [put_in_batch(APPLE)]});

    for (operation, body) in [("a.put", put(APPLE)), ("a.batch", batch)] {
        let mut headers = alice.headers();
        headers.insert("Request-Timeout-Ms", "300");
        let bytes = body.to_string().into_bytes();

        let start = Instant::now();
        let reply = alice.ask_with(operation, headers, bytes).await;
        let took = start.elapsed();

        reply.refusal("deadline_exceeded");
        assert!(took < Duration::from_secs(3), "{operation}: {took:?}");
    }
    assert_items(&alice, 0).await;
}

/// Goal: a repeated write is answered as it was the first time, whatever the reference service has
/// learned since.
///
/// Method: the service knows an instrument at the first put and no longer at the second, which has
/// the same request id. Nothing is cached.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_put_is_answered_as_the_first_time() {
    let world = World::start().await;
    let is_known = Arc::new(Mutex::new(true));
    let known = is_known.clone();
    let _service = ReferenceService::start(&world, move |question| {
        if *known.lock().expect("no panic") {
            everything(question)
        } else {
            Some(json!({"found": false}).to_string())
        }
    })
    .await;
    let _a = worker_that_asks(&world, |settings| settings.reference.found_ttl_s = 0).await;
    let alice = world.caller("alice").await;

    let first = alice.ask_once("a.put", "put-1", &put(APPLE)).await.body;
    *is_known.lock().expect("no panic") = false;
    let second = alice.ask_once("a.put", "put-1", &put(APPLE)).await.body;
    let another = alice.ask_once("a.put", "put-2", &put(APPLE)).await;

    assert!(first["item"].is_object(), "{first}");
    assert_eq!(second["item"], first["item"]);
    assert_eq!(second["owner_version"], first["owner_version"]);
    another.refusal("unknown_instrument");
}
