//! The bytes of one owner: what is refused above the limit, and what never is.

use crate::harness::samples::{codes, put_codes};
use crate::harness::{Caller, Reply, Worker, World};
use serde_json::{Value, json};

/// Starts a worker that permits an owner so many bytes.
async fn worker_with(world: &World, shard: &str, owner_bytes: usize) -> Worker {
    let mut settings = world.settings(shard);
    settings.limits.owner_bytes = owner_bytes;
    settings.limits.request_bytes = owner_bytes.min(settings.limits.request_bytes);

    world.worker_with(settings).await
}

fn text(id: &str, length: usize) -> Value {
    json!({"kind": "text", "id": id, "data": {"text": "x".repeat(length)}})
}

fn op(name: &str, mut item: Value) -> Value {
    item["op"] = name.into();
    item
}

/// The used bytes, and the limit.
async fn bytes(caller: &Caller, shard: &str) -> (u64, u64) {
    let body = json!({"consistency": "strong"});
    let usage = caller.done(&format!("{shard}.usage"), &body).await;
    let number = |name: &str| usage["bytes"][name].as_u64().expect("a number");

    (number("used"), number("limit"))
}

/// The details of a refusal, which must be about the bytes.
fn refused(reply: &Reply) -> &Value {
    let error = reply.refusal("quota_exceeded");
    let message = error["message"].as_str().expect("a message");

    assert!(message.contains("bytes are used"), "{message}");
    &error["details"]
}

/// Goal: an owner never has more bytes than permitted, and a refusal shows what is used.
///
/// Method: a worker permits 20,000 bytes. One caller puts small texts until one is refused. The
/// limit must be nearly used up, and `usage` and the refusal must agree.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_beyond_the_owners_bytes_is_refused() {
    let world = World::start().await;
    let _a = worker_with(&world, "a", 20_000).await;
    let alice = world.caller("alice").await;

    let mut last = None;
    for number in 0..60 {
        let reply = alice
            .ask("a.put", &text(&format!("n{number:02}"), 500))
            .await;
        if reply.body["error"].is_object() {
            last = Some((number, reply));
            break;
        }
    }

    let (number, reply) = last.expect("60 texts of 500 bytes do not fit");
    let (used, limit) = bytes(&alice, "a").await;
    let details = refused(&reply);
    assert_eq!(limit, 20_000);
    assert!(
        (19_000..=20_000).contains(&used),
        "{used} bytes, {number} items"
    );
    assert_eq!(details["used"], used);
    assert_eq!(details["limit"], limit);
    assert_eq!(details["bytes"], used);
    assert_eq!(details["bytes_limit"], limit);
    assert_eq!(details["items"], number);
    assert_eq!(details["keys"], number);
    assert!(details["retry_after_ms"].is_u64());
}

/// Goal: an owner above the limit can tidy up, and cannot grow.
///
/// Method: shard a permits anything, and shard b 6,000 bytes. One caller writes 12,000 bytes on a,
/// and then tries each operation on b.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_above_the_limit_can_only_become_smaller() {
    let world = World::start().await;
    let _a = worker_with(&world, "a", 1 << 20).await;
    let _b = worker_with(&world, "b", 6_000).await;
    let alice = world.caller("alice").await;
    for id in ["n1", "n2", "n3"] {
        let mut note = text(id, 4_000);
        note["tags"] = json!(["tag"]);
        alice.done("a.put", &note).await;
    }
    let list = put_codes("list", &codes(0..5));
    alice.done("a.put", &list).await;
    let name = |id: &str| json!({"kind": "text", "id": id});
    let (before, _) = bytes(&alice, "b").await;

    for (operation, body) in [
        ("b.put", text("n4", 1)),
        ("b.put", text("n1", 5_000)),
        ("b.tags.rename", json!({"from": "tag", "to": "longer"})),
        (
            "b.codes.add",
            json!({"id": "list", "codes": ["another-code"]}),
        ),
    ] {
        let reply = alice.ask(operation, &body).await;
        assert_eq!(refused(&reply)["used"], before, "{operation}");
    }
    assert_eq!(bytes(&alice, "b").await.0, before, "nothing was written");

    alice.done("b.codes.take", &json!({"id": "list"})).await;
    alice
        .done("b.tags.rename", &json!({"from": "tag", "to": "t"}))
        .await;
    alice.done("b.put", &text("n1", 2_000)).await;
    alice.done("b.delete", &name("n2")).await;
    let (after, limit) = bytes(&alice, "b").await;

    assert!(after > limit, "still above it: {after}");
    alice.done("b.delete", &name("n3")).await;
    alice.done("b.put", &text("n4", 1_000)).await;
}

/// Goal: a batch is checked operation by operation, and the refusals that it keeps do not count.
///
/// Method: a worker permits 20,000 bytes. A batch of each mode has one text too many, and one that
/// fits after a deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_checked_for_bytes_by_operation() {
    let world = World::start().await;
    let _a = worker_with(&world, "a", 20_000).await;
    let alice = world.caller("alice").await;
    alice.done("a.put", &text("n1", 10_000)).await;
    let ops: [Value; 4] = [
        op("put", text("n2", 9_000)),
        op("put", text("n3", 1_000)),
        op("delete", json!({"kind": "text", "id": "n1"})),
        op("put", text("n4", 7_000)),
    ];

    let atomic = json!({"mode": "atomic", "ops": ops});
    let reply = alice.ask("a.batch", &atomic).await;
    assert_eq!(refused(&reply)["op"], 1);

    let each = json!({"mode": "each", "ops": ops});
    let reply = alice.ask_once("a.batch", "batch-1", &each).await;
    let results = &reply.body["results"];
    assert_eq!(results[1]["error"]["code"], "quota_exceeded");
    for done in [0, 2, 3] {
        assert!(results[done]["item"].is_object(), "{results}");
    }

    let (kept, _) = bytes(&alice, "a").await;
    let again = json!({"mode": "atomic", "ops": [ops[0], ops[3]]});
    alice.done("a.batch", &again).await;
    let (plain, _) = bytes(&alice, "a").await;
    assert!(
        kept.abs_diff(plain) < 100,
        "{kept} with refusals, {plain} without"
    );
}
