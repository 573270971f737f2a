//! An item's life: put, got, changed, deleted, and what the wire shows of it.

use crate::harness::{World, isin};
use serde_json::{Value, json};

fn apple() -> Value {
    json!({"kind": "instrument", "tags": ["tech", "core", "tech"], "meta": {"broker": "x"}, "data": {
        "isin": "us0378331005", "type": "stock", "ticker": "AAPL", "mic": "xnas", "currency": "usd",
        "name": "Apple Inc."}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instrument_is_read_back_on_another_shard_as_the_contract_shows_it() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let put = alice.done("a.put", &apple()).await;
    let item = &put["item"];
    assert_eq!(
        item["id"], "US0378331005",
        "the id is the ISIN, and may be left out"
    );
    assert_eq!(
        item["tags"],
        json!(["core", "tech"]),
        "tags are a set, given back sorted"
    );
    assert_eq!(item["meta"], json!({"broker": "x"}));
    assert_eq!(
        item["data"],
        json!({"isin": "US0378331005", "type": "stock", "ticker": "AAPL", "mic": "XNAS", "currency": "USD",
               "name": "Apple Inc."})
    );
    assert_eq!(item["version"], put["owner_version"]);
    assert_eq!(item["created_at"], item["updated_at"]);
    let fields: Vec<_> = item
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    assert_eq!(fields.len(), 8, "{fields:?}");
    let got = alice
        .done(
            "b.get",
            &json!({"kind": "instrument", "id": "us0378331005", "consistency": "strong"}),
        )
        .await;
    assert_eq!(&got["item"], item);
    assert_eq!(got["owner_version"], put["owner_version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_replaces_the_item_and_keeps_its_beginning() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let first = alice.done("a.put", &apple()).await["item"].clone();
    let second = alice
        .done(
            "a.put",
            &json!({"kind": "instrument", "id": isin(1), "data": {"isin": isin(1), "type": "etf"}}),
        )
        .await;
    let again = alice
        .done(
            "a.put",
            &json!({"kind": "instrument", "id": "US0378331005"}),
        )
        .await["item"]
        .clone();
    assert_eq!(
        again["data"], first["data"],
        "data left out of a living item stays"
    );
    assert_eq!(
        (&again["tags"], &again["meta"]),
        (&json!([]), &json!({})),
        "tags and meta left out are empty"
    );
    assert_eq!(again["created_at"], first["created_at"]);
    assert!(
        again["version"].as_u64() > second["item"]["version"].as_u64(),
        "a version even when nothing differs"
    );
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["items"][0]["id"], "US0378331005", "its place stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_chosen_where_none_is_given_and_an_instruments_is_its_isin() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let text = alice
        .done("a.put", &json!({"kind": "text", "data": {"text": "x"}}))
        .await;
    let id: uuid::Uuid = text["item"]["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("a UUID");
    assert_eq!(id.get_version_num(), 7);
    let other =
        json!({"kind": "instrument", "id": isin(1), "data": {"isin": isin(2), "type": "fund"}});
    assert_eq!(
        alice.ask("a.put", &other).await.refusal("invalid_item")["details"]["field"],
        "id"
    );
    let least = json!({"kind": "instrument", "data": {"isin": isin(1), "type": "other"}});
    let item = alice.done("a.put", &least).await;
    assert_eq!(
        item["item"]["data"],
        json!({"isin": isin(1), "type": "other"}),
        "what is absent is left out"
    );
    // Kinds share nothing: a text may have an ISIN for its id.
    alice.put_text("a", &isin(1), "y").await;
    assert_eq!(
        alice.done("a.list", &json!({})).await["items"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_a_version_and_the_next_put_begins_a_new_life() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let first = alice.put_text("a", "note", "x").await;
    alice.put_text("a", "other", "x").await;
    let this = json!({"kind": "text", "id": "note"});
    let gone = alice.done("a.delete", &this).await;
    let item = gone["item"].as_object().expect("an object");
    assert_eq!(
        item.keys().collect::<Vec<_>>(),
        ["deleted", "id", "kind", "updated_at", "version"]
    );
    assert_eq!(
        (&item["deleted"], &item["version"]),
        (&json!(true), &gone["owner_version"])
    );
    for what in ["a.get", "a.delete"] {
        for condition in [json!(null), json!(0), json!(1)] {
            let mut body = this.clone();
            if what == "a.delete" && !condition.is_null() {
                body["if_version"] = condition;
            }
            let reply = alice.ask(what, &body).await;
            assert_eq!(
                reply.refusal("not_found")["details"]["owner_version"],
                gone["owner_version"]
            );
        }
    }
    let needs_data = json!({"kind": "text", "id": "note", "tags": ["x"]});
    assert_eq!(
        alice
            .ask("a.put", &needs_data)
            .await
            .refusal("invalid_item")["details"]["field"],
        "data"
    );
    let again = alice.put_text("a", "note", "y").await;
    assert!(again["item"]["version"].as_u64() > gone["item"]["version"].as_u64());
    assert!(again["item"]["created_at"].as_str() >= first["item"]["created_at"].as_str());
    assert_eq!(again["item"]["created_at"], again["item"]["updated_at"]);
    let list = alice
        .done("b.list", &json!({"consistency": "strong"}))
        .await;
    let ids: Vec<_> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["id"].clone())
        .collect();
    assert_eq!(ids, ["other", "note"], "its place is that of its new life");
}

#[tokio::test(flavor = "multi_thread")]
async fn cbor_says_the_same_as_json() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    let mut headers = alice.headers();
    headers.insert("Content-Type", "application/cbor");
    let mut body = Vec::new();
    ciborium::into_writer(&json!({"kind": "text", "id": "note"}), &mut body).expect("CBOR");
    let subject = "favorites.v1.shard.a.get";
    let reply = alice
        .client
        .request_with_headers(subject, headers, body.into())
        .await
        .expect("a reply");
    assert_eq!(
        reply
            .headers
            .expect("headers")
            .get("Content-Type")
            .expect("one")
            .as_str(),
        "application/cbor"
    );
    let got: Value = ciborium::from_reader(&reply.payload[..]).expect("CBOR");
    assert_eq!(got["item"], put["item"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_is_anothers() {
    let (world, _a, _b) = World::with_two_shards().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    alice.put_text("a", "note", "x").await;
    let this = json!({"kind": "text", "id": "note"});
    assert_eq!(bob.done("a.list", &json!({})).await["items"], json!([]));
    assert_eq!(
        bob.ask("a.get", &this).await.refusal("not_found")["details"]["owner_version"],
        0
    );
    bob.ask("b.delete", &this).await.refusal("not_found");
    bob.put_text("a", "note", "of bob").await;
    assert_eq!(
        alice.done("a.get", &this).await["item"]["data"]["text"],
        "x"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_with_both_counts() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    (settings.limits.items, settings.limits.keys) = (3, 4);
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    for number in 1..=3 {
        alice.put_text("a", &format!("n{number}"), "x").await;
    }
    let more = |id: &str| json!({"kind": "text", "id": id, "data": {"text": "x"}});
    let full = alice.ask("a.put", &more("n4")).await;
    let details = &full.refusal("quota_exceeded")["details"];
    assert_eq!(
        (&details["used"], &details["limit"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(
        (&details["items"], &details["keys"]),
        (&json!(3), &json!(3))
    );
    assert!(details["retry_after_ms"].is_u64());
    alice.done("a.put", &more("n1")).await;
    alice
        .done("a.delete", &json!({"kind": "text", "id": "n1"}))
        .await;
    alice.done("a.put", &more("n4")).await;
    alice
        .done("a.delete", &json!({"kind": "text", "id": "n2"}))
        .await;
    let full = alice.ask("a.put", &more("n5")).await;
    let details = &full.refusal("quota_exceeded")["details"];
    assert_eq!(
        (&details["used"], &details["limit"]),
        (&json!(4), &json!(4)),
        "kept deletions hold their keys"
    );
    alice.done("a.put", &more("n2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_reply_could_not_fit_is_refused_before_it_is_made() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.reply_bytes = 100_000;
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    // JSON writes each of these in six bytes; the request, in CBOR, holds one for each.
    let body = json!({"kind": "text", "id": "note", "data": {"text": "\u{1}".repeat(20_000)}});
    let mut bytes = Vec::new();
    ciborium::into_writer(&body, &mut bytes).expect("CBOR");
    let mut headers = alice.headers();
    headers.insert("Content-Type", "application/cbor");
    let subject = "favorites.v1.shard.a.put";
    let reply = alice
        .client
        .request_with_headers(subject, headers, bytes.into())
        .await
        .expect("a reply");
    let reply: Value = ciborium::from_reader(&reply.payload[..]).expect("CBOR");
    assert_eq!(reply["error"]["code"], "too_large");
    assert_eq!(
        alice.done("a.list", &json!({})).await["owner_version"],
        0,
        "nothing was written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_what_is_named() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let refused = alice.ask("a.put", &json!({"kind": "instrument"})).await;
    assert_eq!(refused.refusal("invalid_item")["details"]["field"], "data");
    let refused = alice
        .ask(
            "a.put",
            &json!({"kind": "text", "data": {"text": "x".repeat(300_000)}}),
        )
        .await;
    let details = &refused.refusal("too_large")["details"];
    assert!(
        details["field"].is_null() && details["limit"] == 262_144,
        "the body is no field: {details}"
    );
}
