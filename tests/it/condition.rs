//! Preconditions: a write happens at the version that its caller names, or not at all.

use crate::harness::World;
use serde_json::{Value, json};

fn text(id: &str, if_version: Option<u64>) -> Value {
    let mut body = json!({"kind": "text", "id": id, "data": {"text": "x"}});
    if let Some(version) = if_version {
        body["if_version"] = json!(version);
    }

    body
}

fn version(reply: &Value) -> u64 {
    reply["item"]["version"]
        .as_u64()
        .unwrap_or_else(|| panic!("no version: {reply}"))
}

fn owner_version(reply: &Value) -> u64 {
    reply["owner_version"]
        .as_u64()
        .unwrap_or_else(|| panic!("no owner version: {reply}"))
}

/// Goal: `if_version` lets a write through at the item's current version only, on every shard.
///
/// Method: one caller creates, changes and deletes an item on two shards, and after each step
/// tries versions that are not the current one.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_changed_only_at_the_named_version() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let first = version(&alice.done("a.put", &text("n", Some(0))).await);
    let exists = alice.ask("a.put", &text("n", Some(0))).await;
    let details = &exists.refusal("version_conflict")["details"];
    assert_eq!(details["item"]["id"], "n");
    assert_eq!(details["item"]["version"], first);
    assert_eq!(details["owner_version"], first);

    let second = version(&alice.done("b.put", &text("n", Some(first))).await);

    for wrong in [first, second + 1, 1 << 53] {
        let delete = json!({"kind": "text", "id": "n", "if_version": wrong});

        for shard in ["a", "b"] {
            let put = alice
                .ask(&format!("{shard}.put"), &text("n", Some(wrong)))
                .await;
            let deletion = alice.ask(&format!("{shard}.delete"), &delete).await;

            let details = &put.refusal("version_conflict")["details"];
            assert_eq!(details["item"]["version"], second);
            deletion.refusal("version_conflict");
        }
    }

    let absent = alice.ask("a.put", &text("none", Some(first))).await;
    let details = &absent.refusal("version_conflict")["details"];
    assert_eq!(details["item"], Value::Null, "an absent item is a conflict");

    let delete = json!({"kind": "text", "id": "n", "if_version": second});
    alice.done("a.delete", &delete).await;
    let deleted = alice.ask("a.put", &text("n", Some(second))).await;
    let details = &deleted.refusal("version_conflict")["details"];
    assert_eq!(details["item"], Value::Null, "a deleted item is a conflict");
    alice.done("a.put", &text("n", Some(0))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_changed_only_at_the_named_version() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let put = |id: &str, version: u64| {
        let data = json!({"text": "x"});
        json!({"kind": "text", "id": id, "data": data, "if_owner_version": version})
    };

    let early = alice.ask("a.put", &put("one", 5)).await;
    early.refusal("version_conflict");
    let first = owner_version(&alice.done("a.put", &put("one", 0)).await);

    let outdated = alice.ask("b.put", &put("two", 0)).await;
    let details = &outdated.refusal("version_conflict")["details"];
    assert_eq!(details["owner_version"], first);
    let second = owner_version(&alice.done("b.put", &put("two", first)).await);

    let outdated = alice.ask("a.put", &put("three", first)).await;
    outdated.refusal("version_conflict");
    let delete = json!({"kind": "text", "id": "one", "if_owner_version": second});
    alice.done("a.delete", &delete).await;
}

/// Goal: of two writes with the same condition exactly one is done, and the other sees its version.
///
/// Method: in sixty rounds, one caller sends the same conditional put to two shards at once.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_conditional_writes_on_two_shards_one_wins() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let mut current = version(&alice.done("a.put", &text("n", None)).await);
    for round in 0..60 {
        let body = text("n", Some(current));
        let (one, two) = tokio::join!(alice.ask("a.put", &body), alice.ask("b.put", &body));

        let winners: Vec<_> = [&one, &two]
            .into_iter()
            .filter(|reply| reply.body["item"]["version"].is_u64())
            .collect();
        assert_eq!(
            winners.len(),
            1,
            "round {round}: {} and {}",
            one.body,
            two.body
        );
        current = version(&winners[0].body);

        let loser = if one.body["error"].is_object() {
            &one
        } else {
            &two
        };
        let details = &loser.refusal("version_conflict")["details"];
        assert_eq!(details["item"]["version"], current, "round {round}");
    }
}

/// Goal: a write without a condition is done or answered with `overloaded`, never with a conflict.
///
/// Method: eight tasks of one caller write the same five items at once, half of them on each of
/// two shards. Every version that they get must be different.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_a_condition_never_gets_a_conflict() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "n", "x").await;

    let writers = (0..8).map(|writer| {
        let alice = alice.clone();
        let put = if writer % 2 == 0 { "a.put" } else { "b.put" };
        async move {
            let mut versions = Vec::new();
            for number in 0..25 {
                let body = text(&format!("n{}", number % 5), None);
                let reply = alice.ask(put, &body).await;
                match reply.body["item"]["version"].as_u64() {
                    Some(version) => versions.push(version),
                    None => drop(reply.refusal("overloaded").clone()),
                }
            }

            versions
        }
    });
    let mut versions: Vec<u64> = futures::future::join_all(writers).await.concat();

    let written = versions.len();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(
        versions.len(),
        written,
        "each write has a version of its own"
    );
    println!("{written} of 200 written, the rest refused as overloaded");
    assert!(written > 150);
    let list = alice
        .done("a.list", &json!({"consistency": "strong"}))
        .await;
    assert_eq!(list["owner_version"], *versions.last().expect("some"));
}

/// Goal: a worker decides about a condition with the bucket's current state, not with its copy.
///
/// Method: shard b reads the owner, shard a then changes and adds items, and shard b gets a put
/// with the old version, and a deletion of an item that it has not seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_based_on_the_current_state_of_the_bucket() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let old = version(&alice.done("a.put", &text("n", None)).await);
    alice.done("b.list", &json!({})).await;
    let new = version(&alice.done("a.put", &text("n", None)).await);
    alice.done("a.put", &text("m", None)).await;

    let reply = alice.ask("b.put", &text("n", Some(old))).await;

    let details = &reply.refusal("version_conflict")["details"];
    assert_eq!(
        details["item"]["version"], new,
        "the current version, not the one in b's copy"
    );
    alice.done("a.put", &text("k", None)).await;
    alice
        .done("b.delete", &json!({"kind": "text", "id": "k"}))
        .await;
}
