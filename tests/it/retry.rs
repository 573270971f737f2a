//! Request ids: a repeated write is not done again, and gets the reply of the first one.

use crate::harness::{Caller, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn text(id: &str, text: &str) -> Value {
    json!({"kind": "text", "id": id, "data": {"text": text}, "tags": ["b", "a"]})
}

/// Sends a write with a request id, and returns the reply's body.
async fn once(caller: &Caller, operation: &str, request_id: &str, body: &Value) -> Value {
    caller.ask_once(operation, request_id, body).await.body
}

async fn change_ten_times(alice: &Caller, id: &str) {
    for number in 0..10 {
        let body = text(id, &format!("later {number}"));
        alice.done("a.put", &body).await;
    }
}

/// Goal: a retry gets the first reply, whichever worker receives it and whatever has changed.
///
/// Method: one caller repeats a put at once, after ten changes, on another shard, after the
/// item's deletion, and on a worker that has restarted.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_reply_from_every_worker() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let body = text("note", "first");
    alice.put_text("a", "before", "x").await;

    let first = once(&alice, "a.put", "request-1", &body).await;
    let at_once = once(&alice, "a.put", "request-1", &body).await;
    assert_eq!(first["item"]["data"]["text"], "first");
    assert_eq!(at_once, first, "at once");

    change_ten_times(&alice, "note").await;
    let same_worker = once(&alice, "a.put", "request-1", &body).await;
    let other_shard = once(&alice, "b.put", "request-1", &body).await;
    assert_eq!(same_worker, first, "the same worker, after ten changes");
    assert_eq!(
        other_shard, first,
        "a shard that has never served the owner"
    );

    let note = json!({"kind": "text", "id": "note"});
    alice.done("a.delete", &note).await;
    let deleted = once(&alice, "b.put", "request-1", &body).await;
    assert_eq!(deleted, first, "after the item's deletion");

    a.stop().await.expect("stopped in order");
    let _a = world.worker("a").await;
    let restarted = once(&alice, "a.put", "request-1", &body).await;
    assert_eq!(restarted, first, "a new worker");
}

/// Goal: also a put without an id and a deletion are repeated with the first reply.
///
/// Method: one caller lets the service choose an id, changes and deletes that item, puts it
/// again, and repeats the first put and the deletion on two shards.
#[tokio::test(flavor = "multi_thread")]
async fn retries_without_an_id_and_of_deletions_get_their_reply() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let unnamed = json!({"kind": "text", "data": {"text": "x"}});

    let first = once(&alice, "a.put", "unnamed", &unnamed).await;
    let id = first["item"]["id"].as_str().expect("an id");
    let at_once = once(&alice, "a.put", "unnamed", &unnamed).await;
    change_ten_times(&alice, id).await;
    let later = once(&alice, "b.put", "unnamed", &unnamed).await;
    assert_eq!(at_once, first);
    assert_eq!(later, first, "the same item, as it was");

    let this = json!({"kind": "text", "id": id});
    let deletion = once(&alice, "a.delete", "gone", &this).await;
    assert_eq!(deletion["item"]["deleted"], true);
    alice.done("a.put", &text(id, "again")).await;

    for operation in ["a.delete", "b.delete"] {
        let repeated = once(&alice, operation, "gone", &this).await;
        assert_eq!(repeated, deletion, "{operation}");
    }

    let current = alice.done("a.get", &this).await;
    assert_eq!(
        current["item"]["data"]["text"], "again",
        "nothing was deleted again"
    );
}

/// Goal: a request id stands for one request of one owner, in any order of fields and encoding.
///
/// Method: alice repeats a put with reordered fields on shard b, then in CBOR, and uses its id for
/// three other requests. Bob uses the same id for a put of his own.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_stands_for_one_request_of_one_owner() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;

    let first = once(&alice, "a.put", "id", &text("note", "x")).await;
    let mut headers = alice.headers();
    headers.insert("Nats-Msg-Id", "id");

    let body = r#"{"tags":["b","a"],"data":{"text":"x"},"id":"note","kind":"text"}"#;
    let reordered = alice.ask_with("b.put", headers.clone(), body.into()).await;
    assert_eq!(reordered.body, first);

    headers.insert("Content-Type", "application/cbor");
    let mut body = Vec::new();
    ciborium::into_writer(&text("note", "x"), &mut body).expect("CBOR");
    let reply = alice
        .client
        .request_with_headers("favorites.v1.shard.a.put", headers, body.into())
        .await
        .expect("a reply");
    let in_cbor: Value = ciborium::from_reader(&reply.payload[..]).expect("CBOR");
    assert_eq!(in_cbor, first);

    for (operation, body) in [
        ("a.put", text("note", "y")),
        ("a.put", text("other", "x")),
        ("a.delete", json!({"kind": "text", "id": "note"})),
    ] {
        let reply = alice.ask_once(operation, "id", &body).await;
        reply.refusal("request_id_reused");
    }

    let of_bob = once(&bob, "a.put", "id", &text("note", "bob's")).await;
    assert_eq!(of_bob["item"]["data"]["text"], "bob's");
}

/// Goal: simultaneous requests with one id are one write.
///
/// Method: in ten rounds, one caller sends the same put ten times at once, half on each of two
/// shards. All replies must show one version, and Postgres must have one row per request id.
#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_requests_with_one_id_are_one_write() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "before", "x").await;

    for round in 0..10 {
        let id = format!("request-{round}");
        let body = text(&format!("note-{round}"), "x");
        let requests = ["a.put", "b.put"]
            .repeat(5)
            .into_iter()
            .map(|operation| alice.ask_once(operation, &id, &body));

        let versions: BTreeSet<u64> = futures::future::join_all(requests)
            .await
            .into_iter()
            .map(|reply| {
                reply.body["item"]["version"]
                    .as_u64()
                    .unwrap_or_else(|| panic!("refused: {}", reply.body))
            })
            .collect();

        assert_eq!(versions.len(), 1, "round {round}");
    }

    alice.put_text("a", "after", "x").await;
    let query = "select count(*), count(distinct request_id) from item_version \
                 where request_id is not null";
    assert_eq!(world.query("a", query), "10|10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_remembered() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let put = alice.put_text("a", "note", "x").await;
    let version = put["owner_version"].as_u64().expect("a version");
    let without_condition = text("other", "x");
    let mut with_condition = without_condition.clone();
    with_condition["if_owner_version"] = json!(version + 3);

    let refused = alice.ask_once("a.put", "id", &with_condition).await;
    let done = alice.ask_once("a.put", "id", &without_condition).await;

    refused.refusal("version_conflict");
    assert!(done.body["item"].is_object(), "{}", done.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_of_another_form_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let body = text("note", "x");
    let too_long = "x".repeat(129);
    let longest = "x".repeat(128);

    for id in ["", too_long.as_str(), "é"] {
        let reply = alice.ask_once("a.put", id, &body).await;
        let details = &reply.refusal("bad_request")["details"];
        assert_eq!(details["field"], "Nats-Msg-Id");
    }

    let reply = alice.ask_once("a.put", &longest, &body).await;
    assert!(reply.body["item"].is_object(), "{}", reply.body);
}
