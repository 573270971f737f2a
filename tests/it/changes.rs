//! What is new since a version, and the bell that rings when there is something.

use crate::harness::{Caller, World};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// All changes since a version, page by page, and the owner's version in the end.
async fn all_since(caller: &Caller, shard: &str, mut since: u64, limit: u64) -> (Vec<Value>, u64) {
    let mut items = Vec::new();
    loop {
        let page = caller.done(&format!("{shard}.changes"), &json!({"since": since, "limit": limit})).await;
        let new = page["items"].as_array().expect("a list").clone();
        assert!(new.len() as u64 <= limit);
        items.extend(new);
        if page["more"] == false {
            return (items, page["owner_version"].as_u64().expect("a version"));
        }
        since = items.last().expect("a page is never empty where more follows")["version"].as_u64().expect("a version");
    }
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_comes_once_as_it_is_now_deletions_included() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let nothing = alice.done("b.changes", &json!({"since": 0})).await;
    assert_eq!(
        (&nothing["items"], &nothing["owner_version"], &nothing["more"]),
        (&json!([]), &json!(0), &json!(false))
    );
    for id in ["one", "two", "three", "one"] {
        alice.put_text("a", id, "x").await;
    }
    alice.done("a.delete", &json!({"kind": "text", "id": "two"})).await;
    for shard in ["a", "b"] {
        for limit in [1, 2, 500] {
            let (items, owner_version) = all_since(&alice, shard, 0, limit).await;
            assert_eq!(ids(&items), ["three", "one", "two"], "by rising version");
            assert_eq!((&items[2]["deleted"], &items[2]["version"]), (&json!(true), &json!(owner_version)));
            assert_eq!(all_since(&alice, shard, owner_version, limit).await.0, Vec::<Value>::new());
        }
        let since = alice.done(&format!("{shard}.get"), &json!({"kind": "text", "id": "three"})).await;
        let since = since["item"]["version"].as_u64().expect("a version");
        assert_eq!(ids(&all_since(&alice, shard, since, 50).await.0), ["one", "two"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_since_that_never_was_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let version = alice.put_text("a", "one", "x").await["owner_version"].as_u64().expect("a version");
    alice.done("b.list", &json!({})).await;
    // One that another shard has made meanwhile is asked for, and not refused.
    let newer = alice.put_text("a", "two", "x").await["owner_version"].as_u64().expect("a version");
    assert_eq!(all_since(&alice, "b", newer, 50).await, (vec![], newer));
    let reply = alice.ask("b.changes", &json!({"since": newer + 1})).await;
    let details = &reply.refusal("bad_request")["details"];
    assert_eq!((&details["field"], &details["owner_version"]), (&json!("since"), &json!(newer)));
    assert!(version < newer);
    for (body, field) in [
        (json!({}), "since"),
        (json!({"since": -1}), "since"),
        (json!({"since": 0, "limit": 0}), "limit"),
        (json!({"since": 0, "limit": 501}), "limit"),
        (json!({"since": 0, "kind": "text"}), "kind"),
    ] {
        assert_eq!(alice.ask("a.changes", &body).await.refusal("bad_request")["details"]["field"], field);
    }
    let writer = alice.with_token(&world.token("alice", "favorites:write", Duration::from_secs(60)));
    writer.ask("a.changes", &json!({"since": 0})).await.refusal("forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_neither_skips_nor_repeats_while_writes_go_on() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for number in 0..30 {
        alice.put_text("a", &format!("n-{number}"), "0").await;
    }
    let writing = tokio::spawn({
        let alice = alice.clone();
        async move {
            for number in 0..150 {
                alice.put_text("a", &format!("n-{}", number * 7 % 40), &number.to_string()).await;
            }
        }
    });
    // Whoever follows the changes holds, in the end, what is there.
    let (mut copy, mut since, mut seen) = (BTreeMap::new(), 0, 0);
    loop {
        let over = writing.is_finished();
        let page = alice.done("b.changes", &json!({"since": since, "limit": 7})).await;
        for item in page["items"].as_array().expect("a list") {
            let version = item["version"].as_u64().expect("a version");
            assert!(version > since, "by rising version");
            since = version;
            copy.insert(item["id"].as_str().expect("an id").to_owned(), item.clone());
            seen += 1;
        }
        if page["more"] == false {
            since = page["owner_version"].as_u64().expect("a version");
            if over {
                break;
            }
        }
    }
    writing.await.expect("no panic");
    let listed = alice.done("a.list", &json!({"limit": 500, "consistency": "strong"})).await;
    let listed: BTreeMap<String, Value> = listed["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| (item["id"].as_str().expect("an id").to_owned(), item.clone()))
        .collect();
    assert_eq!(copy, listed);
    assert!(seen >= listed.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bell_rings_for_the_owners_changes_without_saying_what() {
    let (world, _a, _b) = World::with_two_shards().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let said = alice.done("a.changes", &json!({"since": 0})).await;
    let subject = said["notify"].as_str().expect("a subject").to_owned();
    let gateway = world.connect("gateway2").await;
    let mut bell = gateway.subscribe(subject.clone()).await.expect("a subscription");
    gateway.flush().await.expect("subscribed");
    bob.put_text("a", "bobs", "x").await;
    let body = json!({"mode": "atomic", "ops": [
        {"op": "put", "kind": "text", "id": "one", "data": {"text": "a-favourite-text"}},
        {"op": "put", "kind": "text", "id": "two", "data": {"text": "a-favourite-text"}},
    ]});
    let version = alice.done("b.batch", &body).await["owner_version"].as_u64().expect("a version");
    let mut rung = Vec::new();
    for _ in 0..3 {
        let message = tokio::time::timeout(Duration::from_secs(2), bell.next()).await.expect("it rings").expect("open");
        assert!(message.payload.is_empty(), "headers only");
        let headers = message.headers.expect("headers");
        rung.push(headers.get("Nats-Sequence").expect("a sequence").as_str().parse::<u64>().expect("a number"));
    }
    assert_eq!(rung, [version - 2, version - 1, version], "the key and both items; nothing of bob's");
    let (items, _) = all_since(&alice, "a", 0, 50).await;
    assert_eq!(ids(&items), ["one", "two"]);
}
