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
    assert_eq!(item["id"], "US0378331005", "the id is the ISIN, and may be left out");
    assert_eq!(item["tags"], json!(["core", "tech"]), "tags are a set, given back sorted");
    assert_eq!(item["meta"], json!({"broker": "x"}));
    assert_eq!(
        item["data"],
        json!({"isin": "US0378331005", "type": "stock", "ticker": "AAPL", "mic": "XNAS", "currency": "USD",
               "name": "Apple Inc."})
    );
    assert_eq!(item["version"], put["owner_version"]);
    assert_eq!(item["created_at"], item["updated_at"]);
    let fields: Vec<_> = item.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(fields.len(), 8, "{fields:?}");
    let got = alice.done("b.get", &json!({"kind": "instrument", "id": "us0378331005", "consistency": "strong"})).await;
    assert_eq!(&got["item"], item);
    assert_eq!(got["owner_version"], put["owner_version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_replaces_the_item_and_keeps_its_beginning() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let first = alice.done("a.put", &apple()).await["item"].clone();
    let second = alice
        .done("a.put", &json!({"kind": "instrument", "id": isin(1), "data": {"isin": isin(1), "type": "etf"}}))
        .await;
    let again = alice.done("a.put", &json!({"kind": "instrument", "id": "US0378331005"})).await["item"].clone();
    assert_eq!(again["data"], first["data"], "data left out of a living item stays");
    assert_eq!((&again["tags"], &again["meta"]), (&json!([]), &json!({})), "tags and meta left out are empty");
    assert_eq!(again["created_at"], first["created_at"]);
    assert!(again["version"].as_u64() > second["item"]["version"].as_u64(), "a version even when nothing differs");
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["items"][0]["id"], "US0378331005", "its place stays");
}
