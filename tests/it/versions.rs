//! An item as it was, and back to it.

use crate::harness::World;
use serde_json::{Value, json};

fn texts(versions: &Value) -> Vec<&str> {
    let versions = versions.as_array().expect("a list");
    versions
        .iter()
        .map(|one| one["data"]["text"].as_str().unwrap_or("-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_an_item_is_newest_first_with_its_deletions() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let this = json!({"kind": "text", "id": "note"});
    alice.ask("a.history", &this).await.refusal("not_found");
    for text in ["1", "2"] {
        alice.put_text("a", "note", text).await;
    }
    alice.done("a.delete", &this).await;
    let last = alice.put_text("a", "note", "3").await;
    alice.put_text("a", "other", "x").await;
    for shard in ["a", "b"] {
        let told = alice.done(&format!("{shard}.history"), &this).await;
        assert_eq!(
            texts(&told["versions"]),
            ["3", "-", "2", "1"],
            "on a shard that has never seen them as well"
        );
        assert_eq!(
            (&told["more"], &told["complete"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(told["versions"][0], last["item"], "as it was given");
        assert_eq!(told["versions"][1]["deleted"], true);
        let mut before = None;
        let mut paged = Vec::new();
        loop {
            let mut body = json!({"kind": "text", "id": "note", "limit": 1});
            if let Some(before) = before {
                body["before"] = json!(before);
            }
            let page = alice.done(&format!("{shard}.history"), &body).await;
            paged.extend(page["versions"].as_array().expect("a list").clone());
            before = paged
                .last()
                .map(|one: &Value| one["version"].as_u64().expect("a version"));
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(json!(paged), told["versions"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_keeps_no_more_is_kept_by_a_shard_that_saw_it() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let this = json!({"kind": "text", "id": "note"});
    let first = alice.put_text("a", "note", "0").await["item"].clone();
    for number in 1..30 {
        alice.put_text("a", "note", &number.to_string()).await;
    }
    let here = alice.done("a.history", &this).await;
    assert_eq!(
        (
            here["versions"].as_array().expect("a list").len(),
            &here["complete"]
        ),
        (30, &json!(true))
    );
    let elsewhere = alice.done("b.history", &this).await;
    assert_eq!(
        (
            elsewhere["versions"].as_array().expect("a list").len(),
            &elsewhere["complete"]
        ),
        (16, &json!(false))
    );
    // And can be put back there, and nowhere else.
    let back = json!({"kind": "text", "id": "note", "version": first["version"]});
    alice.ask("b.restore", &back).await.refusal("not_found");
    assert_eq!(
        alice.done("a.restore", &back).await["item"]["data"],
        first["data"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_put_back_as_it_was() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let body = json!({"kind": "text", "id": "note", "data": {"text": "1"}, "meta": {"m": "1"}, "tags": ["t"]});
    let first = alice.done("a.put", &body).await["item"].clone();
    let second = alice.put_text("a", "note", "2").await["item"].clone();
    let restore = json!({"kind": "text", "id": "note", "version": first["version"], "if_version": second["version"]});
    let back = alice.ask_once("b.restore", "back", &restore).await.body;
    for field in ["data", "meta", "tags", "created_at"] {
        assert_eq!(back["item"][field], first[field], "{field}");
    }
    assert!(back["item"]["version"].as_u64() > second["version"].as_u64());
    assert_eq!(
        alice.ask_once("a.restore", "back", &restore).await.body["item"],
        back["item"],
        "done once"
    );
    alice
        .ask("a.restore", &restore)
        .await
        .refusal("version_conflict");
    // Out of a deletion, into a new life.
    let gone = alice
        .done("a.delete", &json!({"kind": "text", "id": "note"}))
        .await["item"]
        .clone();
    let reply = alice
        .ask(
            "a.restore",
            &json!({"kind": "text", "id": "note", "version": gone["version"]}),
        )
        .await;
    assert_eq!(reply.refusal("invalid_item")["details"]["field"], "version");
    let again = alice
        .done(
            "b.restore",
            &json!({"kind": "text", "id": "note", "version": first["version"], "if_version": 0}),
        )
        .await;
    assert_eq!(
        (&again["item"]["data"], &again["item"]["meta"]),
        (&first["data"], &first["meta"])
    );
    assert_ne!(
        again["item"]["created_at"], first["created_at"],
        "a new life"
    );
    // No version of this item.
    let other = alice.put_text("a", "other", "x").await["item"]["version"].clone();
    for version in [other, json!(0), json!(1_u64 << 40)] {
        let body = json!({"kind": "text", "id": "note", "version": version});
        let reply = alice.ask("a.restore", &body).await;
        let message = reply.refusal("not_found")["message"]
            .as_str()
            .expect("a text");
        assert!(
            message.starts_with("the item has no such version"),
            "{message}"
        );
    }
    let reader = alice.with_token(&world.token(
        "alice",
        "favorites:read",
        std::time::Duration::from_secs(60),
    ));
    reader.ask("a.restore", &restore).await.refusal("forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_at_what_is_anothers() {
    let (world, _a, _b) = World::with_two_shards().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let version = alice.put_text("a", "note", "x").await["item"]["version"].clone();
    bob.put_text("a", "mine", "x").await;
    bob.ask("a.history", &json!({"kind": "text", "id": "note"}))
        .await
        .refusal("not_found");
    bob.ask(
        "a.restore",
        &json!({"kind": "text", "id": "note", "version": version}),
    )
    .await
    .refusal("not_found");
    let changes = bob.done("b.changes", &json!({"since": 0})).await;
    assert_eq!(changes["items"].as_array().expect("a list").len(), 1);
}
