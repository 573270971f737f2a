//! The history of an item, and `restore`, which writes an old version again.

use crate::harness::{Caller, World};
use serde_json::{Value, json};
use std::time::Duration;

/// Returns the texts of versions, with "-" for a deletion.
fn texts(versions: &Value) -> Vec<&str> {
    let versions = versions.as_array().expect("a list");

    versions
        .iter()
        .map(|version| version["data"]["text"].as_str().unwrap_or("-"))
        .collect()
}

/// Reads the history of the item `note` in pages of one version.
async fn history_in_pages(caller: &Caller, operation: &str) -> Vec<Value> {
    let mut body = json!({"kind": "text", "id": "note", "limit": 1});
    let mut versions: Vec<Value> = Vec::new();

    loop {
        let page = caller.done(operation, &body).await;
        versions.extend(page["versions"].as_array().expect("a list").clone());
        if page["more"] == false {
            return versions;
        }

        let last = versions.last().expect("a version");
        body["before"] = json!(last["version"].as_u64().expect("a version"));
    }
}

/// Goal: every shard returns an item's history newest first, with its deletions, in one page or in
/// several.
///
/// Method: one owner puts an item twice on shard a, deletes it and puts it again. The history is
/// read on shard a, and on shard b, which has not seen the owner before.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_newest_first_and_has_deletions() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let note = json!({"kind": "text", "id": "note"});

    let before = alice.ask("a.history", &note).await;
    before.refusal("not_found");
    for text in ["1", "2"] {
        alice.put_text("a", "note", text).await;
    }
    alice.done("a.delete", &note).await;
    let last = alice.put_text("a", "note", "3").await;
    alice.put_text("a", "other", "x").await;

    for shard in ["a", "b"] {
        let operation = format!("{shard}.history");

        let history = alice.done(&operation, &note).await;
        let pages = history_in_pages(&alice, &operation).await;

        let versions = &history["versions"];
        assert_eq!(texts(versions), ["3", "-", "2", "1"], "on shard {shard}");
        assert_eq!(history["more"], false);
        assert_eq!(history["complete"], true);
        assert_eq!(versions[0], last["item"], "as the put returned it");
        assert_eq!(versions[1]["deleted"], true);
        assert_eq!(json!(pages), *versions);
    }
}

/// Goal: a shard that has seen a version keeps it longer than the bucket, and can restore it.
///
/// Method: one owner puts an item thirty times on shard a; the bucket keeps sixteen records of it.
/// The first version is then restored on shard b, which never saw it, and on shard a.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_keeps_versions_longer_than_the_bucket() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let note = json!({"kind": "text", "id": "note"});

    let first = alice.put_text("a", "note", "0").await["item"].clone();
    for number in 1..30 {
        alice.put_text("a", "note", &number.to_string()).await;
    }
    let restore = json!({"kind": "text", "id": "note", "version": first["version"]});

    let on_a = alice.done("a.history", &note).await;
    let on_b = alice.done("b.history", &note).await;
    let restored_on_b = alice.ask("b.restore", &restore).await;
    let restored_on_a = alice.done("a.restore", &restore).await;

    assert_eq!(texts(&on_a["versions"]).len(), 30);
    assert_eq!(on_a["complete"], true);
    assert_eq!(texts(&on_b["versions"]).len(), 16);
    assert_eq!(on_b["complete"], false);
    restored_on_b.refusal("not_found");
    assert_eq!(restored_on_a["item"]["data"], first["data"]);
}

/// Goal: `restore` writes an old version of an item as a new version, once for each request id, and
/// under the caller's condition.
///
/// Method: one owner puts an item with labels and replaces it on shard a. The first version is
/// restored on shard b, and the same request is repeated on shard a, with and without the id.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_writes_an_old_version_again() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let token = world.token("alice", "favorites:read", Duration::from_secs(60));
    let reader = alice.with_token(&token);
    let put = json!({
        "kind": "text", "id": "note", "data": {"text": "1"}, "meta": {"m": "1"}, "tags": ["t"],
    });

    let first = alice.done("a.put", &put).await["item"].clone();
    let second = alice.put_text("a", "note", "2").await["item"].clone();
    let restore = json!({
        "kind": "text", "id": "note",
        "version": first["version"], "if_version": second["version"],
    });

    let restored = alice.ask_once("b.restore", "back", &restore).await.body;
    for field in ["data", "meta", "tags", "created_at"] {
        assert_eq!(restored["item"][field], first[field], "{field}");
    }
    assert!(restored["item"]["version"].as_u64() > second["version"].as_u64());

    let repeated = alice.ask_once("a.restore", "back", &restore).await.body;
    assert_eq!(repeated["item"], restored["item"], "executed once");

    let conflict = alice.ask("a.restore", &restore).await;
    conflict.refusal("version_conflict");
    let without_scope = reader.ask("a.restore", &restore).await;
    without_scope.refusal("forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_after_a_deletion_creates_a_new_item() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let note = json!({"kind": "text", "id": "note"});
    let put = json!({"kind": "text", "id": "note", "data": {"text": "1"}, "meta": {"m": "1"}});

    let first = alice.done("a.put", &put).await["item"].clone();
    let deletion = alice.done("a.delete", &note).await["item"].clone();
    let of_deletion = json!({"kind": "text", "id": "note", "version": deletion["version"]});
    let of_first = json!({
        "kind": "text", "id": "note", "version": first["version"], "if_version": 0,
    });

    let refused = alice.ask("a.restore", &of_deletion).await;
    let restored = alice.done("b.restore", &of_first).await["item"].clone();

    let details = &refused.refusal("invalid_item")["details"];
    assert_eq!(details["field"], "version", "a deletion has no content");
    assert_eq!(restored["data"], first["data"]);
    assert_eq!(restored["meta"], first["meta"]);
    assert_ne!(restored["created_at"], first["created_at"], "a new item");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_item_never_had_is_not_restored() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    let of_other_item = alice.put_text("a", "other", "x").await["item"]["version"].clone();

    for version in [of_other_item, json!(0), json!(1_u64 << 40)] {
        let body = json!({"kind": "text", "id": "note", "version": version});
        let reply = alice.ask("a.restore", &body).await;

        let message = reply.refusal("not_found")["message"].as_str();
        let message = message.expect("a text");
        assert!(
            message.starts_with("the item has no such version"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owners_history_is_hidden_from_other_owners() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let version = alice.put_text("a", "note", "x").await["item"]["version"].clone();
    bob.put_text("a", "mine", "x").await;
    let note = json!({"kind": "text", "id": "note"});
    let restore = json!({"kind": "text", "id": "note", "version": version});

    let history = bob.ask("a.history", &note).await;
    let restored = bob.ask("a.restore", &restore).await;
    let changes = bob.done("b.changes", &json!({"since": 0})).await;

    history.refusal("not_found");
    restored.refusal("not_found");
    assert_eq!(changes["items"].as_array().map(Vec::len), Some(1));
}
