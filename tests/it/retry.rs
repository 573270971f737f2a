//! A request id: the same write again is not made again, and gets the answer that it got.

use crate::harness::{Caller, World};
use serde_json::{Value, json};

fn text(id: &str, text: &str) -> Value {
    json!({"kind": "text", "id": id, "data": {"text": text}, "tags": ["b", "a"]})
}

async fn change_ten_times(alice: &Caller, id: &str) {
    for number in 0..10 {
        alice
            .done("a.put", &text(id, &format!("later {number}")))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_answer_whatever_has_changed_and_whoever_is_asked() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "before", "x").await;
    let first = alice
        .ask_once("a.put", "request-1", &text("note", "first"))
        .await
        .body;
    assert_eq!(first["item"]["data"]["text"], "first");
    assert_eq!(
        alice
            .ask_once("a.put", "request-1", &text("note", "first"))
            .await
            .body,
        first,
        "at once"
    );
    change_ten_times(&alice, "note").await;
    assert_eq!(
        alice
            .ask_once("a.put", "request-1", &text("note", "first"))
            .await
            .body,
        first,
        "the same worker"
    );
    let never_seen = alice
        .ask_once("b.put", "request-1", &text("note", "first"))
        .await
        .body;
    assert_eq!(never_seen, first, "a shard that has never seen the owner");
    alice
        .done("a.delete", &json!({"kind": "text", "id": "note"}))
        .await;
    assert_eq!(
        alice
            .ask_once("b.put", "request-1", &text("note", "first"))
            .await
            .body,
        first,
        "after its deletion"
    );
    a.stop().await.expect("stopped in order");
    let _a = world.worker("a").await;
    assert_eq!(
        alice
            .ask_once("a.put", "request-1", &text("note", "first"))
            .await
            .body,
        first,
        "a new worker"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_deletion_and_of_an_item_whose_id_was_chosen_gets_its_answer_too() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let unnamed = json!({"kind": "text", "data": {"text": "x"}});
    let chosen = alice.ask_once("a.put", "unnamed", &unnamed).await.body;
    let id = chosen["item"]["id"].as_str().expect("an id");
    assert_eq!(
        alice.ask_once("a.put", "unnamed", &unnamed).await.body,
        chosen
    );
    change_ten_times(&alice, id).await;
    assert_eq!(
        alice.ask_once("b.put", "unnamed", &unnamed).await.body,
        chosen,
        "the same item, as it was"
    );
    let this = json!({"kind": "text", "id": id});
    let gone = alice.ask_once("a.delete", "gone", &this).await.body;
    assert_eq!(gone["item"]["deleted"], true);
    alice.done("a.put", &text(id, "again")).await;
    for shard in ["a", "b"] {
        assert_eq!(
            alice
                .ask_once(&format!("{shard}.delete"), "gone", &this)
                .await
                .body,
            gone
        );
    }
    assert_eq!(
        alice.done("a.get", &this).await["item"]["data"]["text"],
        "again",
        "nothing was done again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_stands_for_one_request_in_whatever_order_and_encoding() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let first = alice.ask_once("a.put", "id", &text("note", "x")).await.body;
    let mut headers = alice.headers();
    headers.insert("Nats-Msg-Id", "id");
    let reordered = r#"{"tags":["b","a"],"data":{"text":"x"},"id":"note","kind":"text"}"#;
    let again = alice
        .ask_with("b.put", headers.clone(), reordered.into())
        .await;
    assert_eq!(again.body, first);
    headers.insert("Content-Type", "application/cbor");
    let mut cbor = Vec::new();
    ciborium::into_writer(&text("note", "x"), &mut cbor).expect("CBOR");
    let subject = "favorites.v1.shard.a.put";
    let again = alice
        .client
        .request_with_headers(subject, headers, cbor.into())
        .await
        .expect("a reply");
    let again: Value = ciborium::from_reader(&again.payload[..]).expect("CBOR");
    assert_eq!(again, first);
    for (what, body) in [
        ("a.put", text("note", "y")),
        ("a.put", text("other", "x")),
        ("a.delete", json!({"kind": "text", "id": "note"})),
    ] {
        alice
            .ask_once(what, "id", &body)
            .await
            .refusal("request_id_reused");
    }
    // Another owner's ids are theirs.
    let bob = world.caller("bob").await;
    assert_eq!(
        bob.ask_once("a.put", "id", &text("note", "bob's"))
            .await
            .body["item"]["data"]["text"],
        "bob's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_with_one_id_are_one_write() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "before", "x").await;
    for round in 0..10 {
        let id = format!("request-{round}");
        let body = text(&format!("note-{round}"), "x");
        let shards = ["a.put", "b.put"].repeat(5);
        let replies = shards
            .into_iter()
            .map(|what| alice.ask_once(what, &id, &body));
        let versions: std::collections::BTreeSet<u64> = futures::future::join_all(replies)
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
    let query = "select count(*), count(distinct request_id) from item_version where request_id is not null";
    alice.put_text("a", "after", "x").await;
    assert_eq!(world.query("a", query), "10|10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_remembered() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    let mut body = text("other", "x");
    body["if_owner_version"] = json!(put["owner_version"].as_u64().expect("a version") + 3);
    alice
        .ask_once("a.put", "id", &body)
        .await
        .refusal("version_conflict");
    body.as_object_mut()
        .expect("an object")
        .remove("if_owner_version");
    assert!(alice.ask_once("a.put", "id", &body).await.body["item"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_form_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let long = "x".repeat(129);
    for id in ["", long.as_str(), "é"] {
        let reply = alice.ask_once("a.put", id, &text("note", "x")).await;
        assert_eq!(
            reply.refusal("bad_request")["details"]["field"],
            "Nats-Msg-Id"
        );
    }
    assert!(
        alice
            .ask_once("a.put", &"x".repeat(128), &text("note", "x"))
            .await
            .body["item"]
            .is_object()
    );
}
