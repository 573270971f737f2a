//! The life of an item: put, read, changed, deleted, and what the replies show of it.

use crate::harness::{World, isin};
use serde_json::{Value, json};

fn apple() -> Value {
    json!({
        "kind": "instrument", "tags": ["tech", "core", "tech"], "meta": {"broker": "x"},
        "data": {
            "isin": "us0378331005", "type": "stock", "ticker": "AAPL", "mic": "xnas",
            "currency": "usd", "name": "Apple Inc.",
        },
    })
}

/// Goal: an instrument has the form of the contract, and another shard returns it unchanged.
///
/// Method: one caller puts it on shard a, with letters in the wrong case and a tag twice, and
/// reads it on shard b with a strong read.
#[tokio::test(flavor = "multi_thread")]
async fn an_instrument_has_the_form_of_the_contract_on_all_shards() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let get = json!({"kind": "instrument", "id": "us0378331005", "consistency": "strong"});

    let put = alice.done("a.put", &apple()).await;
    let got = alice.done("b.get", &get).await;

    let item = &put["item"];
    assert_eq!(item["id"], "US0378331005", "the ISIN, if no id is given");
    assert_eq!(item["tags"], json!(["core", "tech"]), "a sorted set");
    assert_eq!(item["meta"], json!({"broker": "x"}));
    assert_eq!(
        item["data"],
        json!({
            "isin": "US0378331005", "type": "stock", "ticker": "AAPL", "mic": "XNAS",
            "currency": "USD", "name": "Apple Inc.",
        })
    );
    assert_eq!(item["version"], put["owner_version"]);
    assert_eq!(item["created_at"], item["updated_at"]);
    let fields: Vec<_> = item
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    assert_eq!(fields.len(), 9, "{fields:?}");
    assert_eq!(&got["item"], item);
    assert_eq!(got["owner_version"], put["owner_version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_replaces_the_item_and_keeps_its_creation_time() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let etf =
        json!({"kind": "instrument", "id": isin(1), "data": {"isin": isin(1), "type": "etf"}});
    let only_id = json!({"kind": "instrument", "id": "US0378331005"});

    let first = alice.done("a.put", &apple()).await["item"].clone();
    let other = alice.done("a.put", &etf).await["item"].clone();
    let replaced = alice.done("a.put", &only_id).await["item"].clone();
    let list = alice.done("a.list", &json!({})).await;

    assert_eq!(
        replaced["data"], first["data"],
        "a put without data keeps the data of a live item"
    );
    assert_eq!(replaced["tags"], json!([]), "a put without tags has none");
    assert_eq!(replaced["meta"], json!({}), "a put without meta has none");
    assert_eq!(replaced["created_at"], first["created_at"]);
    assert!(
        replaced["version"].as_u64() > other["version"].as_u64(),
        "every put is a new version"
    );
    assert_eq!(
        list["items"][0]["id"], "US0378331005",
        "the item keeps its position"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_gets_a_generated_id_and_an_instrument_its_isin() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let text = json!({"kind": "text", "data": {"text": "x"}});
    let text = alice.done("a.put", &text).await;
    let id: uuid::Uuid = text["item"]["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("a UUID");
    assert_eq!(id.get_version_num(), 7);

    let other_id =
        json!({"kind": "instrument", "id": isin(1), "data": {"isin": isin(2), "type": "fund"}});
    let reply = alice.ask("a.put", &other_id).await;
    assert_eq!(reply.refusal("invalid_item")["details"]["field"], "id");

    let required_only = json!({"kind": "instrument", "data": {"isin": isin(1), "type": "other"}});
    let item = alice.done("a.put", &required_only).await;
    assert_eq!(
        item["item"]["data"],
        json!({"isin": isin(1), "type": "other"}),
        "absent fields are left out"
    );

    // Ids are unique per kind only: a text may have an ISIN as its id.
    alice.put_text("a", &isin(1), "y").await;
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
}

/// Goal: a deletion has a version, hides the item on both shards, and a later put is a new item.
///
/// Method: one caller deletes an item on shard a, tries to read and to delete it again, puts it
/// once more, and lists the items on shard b.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_a_version_and_the_next_put_a_new_item() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let first = alice.put_text("a", "note", "x").await;
    alice.put_text("a", "other", "x").await;
    let note = json!({"kind": "text", "id": "note"});

    let deletion = alice.done("a.delete", &note).await;
    let item = deletion["item"].as_object().expect("an object");
    assert_eq!(
        item.keys().collect::<Vec<_>>(),
        ["deleted", "id", "kind", "updated_at", "version"]
    );
    assert_eq!(item["deleted"], true);
    assert_eq!(item["version"], deletion["owner_version"]);

    for operation in ["a.get", "a.delete"] {
        for condition in [json!(null), json!(0), json!(1)] {
            let mut body = note.clone();
            if operation == "a.delete" && !condition.is_null() {
                body["if_version"] = condition;
            }
            let reply = alice.ask(operation, &body).await;

            let details = &reply.refusal("not_found")["details"];
            assert_eq!(details["owner_version"], deletion["owner_version"]);
        }
    }

    let without_data = json!({"kind": "text", "id": "note", "tags": ["x"]});
    let reply = alice.ask("a.put", &without_data).await;
    assert_eq!(reply.refusal("invalid_item")["details"]["field"], "data");

    let again = alice.put_text("a", "note", "y").await;
    assert!(again["item"]["version"].as_u64() > deletion["item"]["version"].as_u64());
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
    assert_eq!(ids, ["other", "note"], "the position of a new item");
}

#[tokio::test(flavor = "multi_thread")]
async fn cbor_and_json_return_the_same_item() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let put = alice.put_text("a", "note", "x").await;
    let mut headers = alice.headers();
    headers.insert("Content-Type", "application/cbor");
    let mut body = Vec::new();
    ciborium::into_writer(&json!({"kind": "text", "id": "note"}), &mut body).expect("CBOR");

    let reply = alice
        .client
        .request_with_headers("favorites.v1.shard.a.get", headers, body.into())
        .await
        .expect("a reply");

    let headers = reply.headers.expect("headers");
    let content_type = headers.get("Content-Type").expect("a content type");
    assert_eq!(content_type.as_str(), "application/cbor");
    let got: Value = ciborium::from_reader(&reply.payload[..]).expect("CBOR");
    assert_eq!(got["item"], put["item"]);
}

/// Goal: an owner cannot list, read or delete another owner's item, and their ids do not collide.
///
/// Method: alice puts an item; bob tries each operation on it on two shards, then puts an item
/// with the same id.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sees_and_changes_only_own_items() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;

    alice.put_text("a", "note", "x").await;
    let note = json!({"kind": "text", "id": "note"});

    let list = bob.done("a.list", &json!({})).await;
    let get = bob.ask("a.get", &note).await;
    let deletion = bob.ask("b.delete", &note).await;
    bob.put_text("a", "note", "of bob").await;

    assert_eq!(list["items"], json!([]));
    assert_eq!(get.refusal("not_found")["details"]["owner_version"], 0);
    deletion.refusal("not_found");
    let unchanged = alice.done("a.get", &note).await;
    assert_eq!(unchanged["item"]["data"]["text"], "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_beyond_a_quota_is_refused_with_both_counts() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.items = 3;
    settings.limits.keys = 4;
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;

    let put = |id: &str| json!({"kind": "text", "id": id, "data": {"text": "x"}});
    let delete = |id: &str| json!({"kind": "text", "id": id});

    for number in 1..=3 {
        alice.put_text("a", &format!("n{number}"), "x").await;
    }

    let reply = alice.ask("a.put", &put("n4")).await;
    let details = &reply.refusal("quota_exceeded")["details"];
    assert_eq!(details["used"], 3);
    assert_eq!(details["limit"], 3);
    assert_eq!(details["items"], 3);
    assert_eq!(details["keys"], 3);
    assert!(details["retry_after_ms"].is_u64());

    alice.done("a.put", &put("n1")).await;
    alice.done("a.delete", &delete("n1")).await;
    alice.done("a.put", &put("n4")).await;
    alice.done("a.delete", &delete("n2")).await;
    let reply = alice.ask("a.put", &put("n5")).await;
    let details = &reply.refusal("quota_exceeded")["details"];
    assert_eq!(details["used"], 4, "remembered deletions count as keys");
    assert_eq!(details["limit"], 4);

    alice.done("a.put", &put("n2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_reply_would_not_fit_is_not_done() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.reply_bytes = 100_000;
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;

    // A reply in JSON takes six bytes for each of these characters, the request in CBOR takes one.
    let body = json!({"kind": "text", "id": "note", "data": {"text": "\u{1}".repeat(20_000)}});
    let mut bytes = Vec::new();
    ciborium::into_writer(&body, &mut bytes).expect("CBOR");
    let mut headers = alice.headers();
    headers.insert("Content-Type", "application/cbor");

    let reply = alice
        .client
        .request_with_headers("favorites.v1.shard.a.put", headers, bytes.into())
        .await
        .expect("a reply");

    let reply: Value = ciborium::from_reader(&reply.payload[..]).expect("CBOR");
    assert_eq!(reply["error"]["code"], "too_large");
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["owner_version"], 0, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_missing_field_or_the_limit() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let large = json!({"kind": "text", "data": {"text": "x".repeat(300_000)}});

    let no_data = alice.ask("a.put", &json!({"kind": "instrument"})).await;
    let too_large = alice.ask("a.put", &large).await;

    assert_eq!(no_data.refusal("invalid_item")["details"]["field"], "data");
    let details = &too_large.refusal("too_large")["details"];
    assert!(
        details["field"].is_null(),
        "the complete body is no field: {details}"
    );
    assert_eq!(details["limit"], 262_144);
}
