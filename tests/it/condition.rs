//! Preconditions: a write meets the state that its caller knows, or nothing is written.

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

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_changed_only_at_the_version_that_is_named() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let first = version(&alice.done("a.put", &text("n", Some(0))).await);
    let exists = alice.ask("a.put", &text("n", Some(0))).await;
    let details = &exists.refusal("version_conflict")["details"];
    assert_eq!(
        (&details["item"]["id"], &details["item"]["version"]),
        (&json!("n"), &json!(first))
    );
    assert_eq!(details["owner_version"], first);
    let second = version(&alice.done("b.put", &text("n", Some(first))).await);
    for wrong in [first, second + 1, 1 << 53] {
        for shard in ["a", "b"] {
            let reply = alice
                .ask(&format!("{shard}.put"), &text("n", Some(wrong)))
                .await;
            assert_eq!(
                reply.refusal("version_conflict")["details"]["item"]["version"],
                second
            );
            let gone = json!({"kind": "text", "id": "n", "if_version": wrong});
            alice
                .ask(&format!("{shard}.delete"), &gone)
                .await
                .refusal("version_conflict");
        }
    }
    let absent = alice.ask("a.put", &text("none", Some(first))).await;
    assert_eq!(
        absent.refusal("version_conflict")["details"]["item"],
        Value::Null,
        "an absent item is a conflict"
    );
    alice
        .done(
            "a.delete",
            &json!({"kind": "text", "id": "n", "if_version": second}),
        )
        .await;
    let deleted = alice.ask("a.put", &text("n", Some(second))).await;
    assert_eq!(
        deleted.refusal("version_conflict")["details"]["item"],
        Value::Null
    );
    alice.done("a.put", &text("n", Some(0))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_changed_only_at_the_version_that_is_named() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let put = |id: &str, version: u64| json!({"kind": "text", "id": id, "data": {"text": "x"}, "if_owner_version": version});
    alice
        .ask("a.put", &put("one", 5))
        .await
        .refusal("version_conflict");
    let first = alice.done("a.put", &put("one", 0)).await["owner_version"]
        .as_u64()
        .expect("a version");
    let reply = alice.ask("b.put", &put("two", 0)).await;
    assert_eq!(
        reply.refusal("version_conflict")["details"]["owner_version"],
        first
    );
    let second = alice.done("b.put", &put("two", first)).await["owner_version"]
        .as_u64()
        .expect("a version");
    alice
        .ask("a.put", &put("three", first))
        .await
        .refusal("version_conflict");
    let gone = json!({"kind": "text", "id": "one", "if_owner_version": second});
    alice.done("a.delete", &gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_name_the_same_version_on_two_shards_one_is_taken() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let mut at = version(&alice.done("a.put", &text("n", None)).await);
    for round in 0..60 {
        let body = text("n", Some(at));
        let (one, two) = tokio::join!(alice.ask("a.put", &body), alice.ask("b.put", &body));
        let taken: Vec<_> = [&one, &two]
            .into_iter()
            .filter(|reply| reply.body["item"]["version"].is_u64())
            .collect();
        assert_eq!(
            taken.len(),
            1,
            "round {round}: {} and {}",
            one.body,
            two.body
        );
        at = version(&taken[0].body);
        let refused = if one.body["error"].is_object() {
            &one
        } else {
            &two
        };
        assert_eq!(
            refused.refusal("version_conflict")["details"]["item"]["version"],
            at
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_condition_is_never_told_of_a_conflict() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "n", "x").await;
    let writers = (0..8).map(|writer| {
        let alice = alice.clone();
        async move {
            let mut versions = Vec::new();
            for number in 0..25 {
                let shard = if writer % 2 == 0 { "a" } else { "b" };
                let reply = alice
                    .ask(
                        &format!("{shard}.put"),
                        &text(&format!("n{}", number % 5), None),
                    )
                    .await;
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
    println!("{written} of 200 written, the rest told to ask again");
    assert!(written > 150);
    let list = alice
        .done("a.list", &json!({"consistency": "strong"}))
        .await;
    assert_eq!(list["owner_version"], *versions.last().expect("some"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_decided_on_what_the_truth_holds_now() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let old = version(&alice.done("a.put", &text("n", None)).await);
    alice.done("b.list", &json!({})).await; // b has a copy from now on
    let new = version(&alice.done("a.put", &text("n", None)).await);
    alice.done("a.put", &text("m", None)).await;
    let reply = alice.ask("b.put", &text("n", Some(old))).await;
    assert_eq!(
        reply.refusal("version_conflict")["details"]["item"]["version"],
        new,
        "not what b remembers"
    );
    alice.done("a.put", &text("k", None)).await;
    alice
        .done("b.delete", &json!({"kind": "text", "id": "k"}))
        .await;
}
