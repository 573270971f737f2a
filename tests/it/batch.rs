//! Batches: several puts and deletes in one request.

use crate::harness::{Caller, World, isin};
use serde_json::{Value, json};

fn put(id: &str, text: &str) -> Value {
    json!({"op": "put", "kind": "text", "id": id, "data": {"text": text}})
}

fn put_stock(isin: &str) -> Value {
    json!({"op": "put", "kind": "instrument", "data": {"isin": isin, "type": "stock"}})
}

fn delete(id: &str) -> Value {
    json!({"op": "delete", "kind": "text", "id": id})
}

fn batch(mode: &str, ops: &[Value]) -> Value {
    json!({"mode": mode, "ops": ops})
}

async fn ids(caller: &Caller, shard: &str) -> Vec<String> {
    let list = caller
        .done(&format!("{shard}.list"), &json!({"consistency": "strong"}))
        .await;
    let items = list["items"].as_array().expect("a list");

    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// Sends a batch in mode `each` with a request id, and returns the reply's body.
async fn ask_each(caller: &Caller, shard: &str, request_id: &str, ops: &[Value]) -> Value {
    caller
        .ask_once(&format!("{shard}.batch"), request_id, &batch("each", ops))
        .await
        .body
}

/// Asserts that a retry got the reply of the first request.
#[track_caller]
fn assert_same_reply(retry: &Value, first: &Value, place: &str) {
    assert_eq!(retry["results"], first["results"], "{place}");
    assert_eq!(retry["owner_version"], first["owner_version"], "{place}");
}

/// Goal: an atomic batch is written in the order of its operations, without gaps.
///
/// Method: one caller sends a batch to each of two shards, and lists the items on the other shard.
#[tokio::test(flavor = "multi_thread")]
async fn an_atomic_batch_is_written_completely_and_in_order() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let unnamed = json!({"op": "put", "kind": "text", "data": {"text": "no id"}});
    let mut stock = put_stock(&isin(1));
    stock["tags"] = json!(["t"]);
    let ops = [put("one", "1"), stock, unnamed, put("two", "2")];

    let first = alice.done("a.batch", &batch("atomic", &ops)).await;

    let results = first["results"].as_array().expect("results");
    let versions: Vec<u64> = results
        .iter()
        .map(|one| one["item"]["version"].as_u64().expect("a version"))
        .collect();
    assert!(
        versions.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{versions:?}"
    );
    assert_eq!(first["owner_version"], versions[3]);
    assert_eq!(results[1]["item"]["id"], isin(1));
    assert_eq!(results[1]["item"]["tags"], json!(["t"]));
    let generated = results[2]["item"]["id"].as_str().expect("an id");
    assert_eq!(
        ids(&alice, "b").await,
        ["one", &isin(1), generated, "two"],
        "in the order of the batch"
    );

    let ops = [delete("one"), put("two", "2b"), put("three", "3")];
    let second = alice.done("b.batch", &batch("atomic", &ops)).await;

    assert_eq!(second["results"][0]["item"]["deleted"], true);
    assert_eq!(
        ids(&alice, "a").await,
        [&isin(1), generated, "two", "three"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_operation_refuses_the_atomic_batch() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "there", "x").await;
    let before = world.records().await;
    let conflict =
        json!({"op": "put", "kind": "text", "id": "there", "data": {"text": "y"}, "if_version": 1});
    let no_data = json!({"op": "put", "kind": "text", "id": "new"});
    let wrong_isin = put_stock("US0378331006");

    for (bad, code) in [
        (delete("absent"), "not_found"),
        (conflict, "version_conflict"),
        (no_data, "invalid_item"),
        (wrong_isin, "invalid_item"),
    ] {
        let ops = [put("one", "1"), bad, put("two", "2")];
        let reply = alice.ask("a.batch", &batch("atomic", &ops)).await;

        assert_eq!(
            reply.refusal(code)["details"]["op"],
            1,
            "the refusal names the operation: {}",
            reply.body
        );
    }

    let condition = json!({"mode": "atomic", "ops": [put("one", "1")], "if_owner_version": 1});
    alice
        .ask("a.batch", &condition)
        .await
        .refusal("version_conflict");
    assert_eq!(world.records().await, before, "nothing was written");
}

/// Goal: mode `each` does what it can, names the reason for every other operation, and repeats
/// both in the reply to a retry.
///
/// Method: one caller sends a batch with three operations that must fail, changes the items
/// that the batch showed, and retries on both shards.
#[tokio::test(flavor = "multi_thread")]
async fn mode_each_does_what_it_can_and_refuses_the_rest() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "there", "x").await;
    let ops = [
        put("one", "1"),
        delete("absent"),
        put_stock("US0378331006"),
        json!({"op": "delete", "kind": "text", "id": "there", "if_version": 1}),
        put("two", "2"),
    ];

    let done = ask_each(&alice, "a", "each-1", &ops).await;

    let results = &done["results"];
    assert_eq!(results[1]["error"]["code"], "not_found");
    assert_eq!(results[2]["error"]["code"], "invalid_item");
    assert_eq!(
        results[2]["error"]["details"]["field"], "ops[2].data.isin",
        "the path in the request"
    );
    assert_eq!(results[3]["error"]["code"], "version_conflict");
    assert_eq!(
        results[3]["error"]["details"]["item"]["data"]["text"], "x",
        "the current item"
    );
    assert!(
        results[0]["item"]["version"].as_u64() < results[4]["item"]["version"].as_u64(),
        "{results}"
    );
    assert_eq!(ids(&alice, "b").await, ["there", "one", "two"]);

    // The refusals are stored with the write, so a retry gets them although the items changed.
    alice
        .done("a.delete", &json!({"kind": "text", "id": "there"}))
        .await;

    for number in 0..10 {
        alice.put_text("a", "two", &format!("later {number}")).await;
    }

    for shard in ["a", "b"] {
        let again = ask_each(&alice, shard, "each-1", &ops).await;
        assert_same_reply(&again, &done, shard);
    }

    alice
        .ask_once("a.batch", "each-1", &batch("each", &ops[..2]))
        .await
        .refusal("request_id_reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_each_without_a_possible_operation_writes_nothing() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "there", "x").await;
    let before = world.records().await;

    let ops = [delete("absent"), delete("nowhere")];
    let none = alice.done("b.batch", &batch("each", &ops)).await;

    let results = none["results"].as_array().expect("results");
    assert!(
        results
            .iter()
            .all(|one| one["error"]["code"] == "not_found"),
        "{results:?}"
    );
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(none["owner_version"], list["owner_version"]);
    assert_eq!(world.records().await, before);
}

/// The bytes of all item rows of the shard, superseded versions included.
fn stored_bytes(world: &World, shard: &str) -> u64 {
    let sum = |table| format!("select coalesce(sum(length(sealed)), 0) from {table}");

    ["item", "item_version"]
        .map(|table| {
            world
                .query(shard, &sum(table))
                .parse::<u64>()
                .expect("a number")
        })
        .iter()
        .sum()
}

/// Checks that a retry shows the refused item as it was, and shows none once that version is gone.
async fn assert_refused_item_is_recalled(
    world: &World,
    alice: &Caller,
    ops: &[Value],
    first: &Value,
) {
    alice.put_text("b", "two", "later").await;

    for shard in ["a", "b"] {
        let again = ask_each(alice, shard, "each-3", ops).await;
        assert_same_reply(&again, first, shard);
    }

    // More versions than the bucket keeps of a key, and a read that refreshes the copies in memory.
    for number in 0..16 {
        alice.put_text("b", "two", &format!("later {number}")).await;
    }

    alice.done("a.list", &json!({})).await;
    let shown = &first["results"][2]["error"]["details"]["item"]["version"];
    let forget = format!("delete from item_version where version = {shown}");
    let mut without_item = first["results"].clone();
    without_item[2]["error"]["details"]
        .as_object_mut()
        .expect("details")
        .remove("item");

    for shard in ["a", "b"] {
        world.query(shard, &forget);
        let again = ask_each(alice, shard, "each-3", ops).await;

        let item = &again["results"][2]["error"]["details"]["item"];
        assert!(item.is_null(), "{shard}");
        assert_eq!(again["results"], without_item, "{shard}");
    }
}

/// Goal: a stored refusal holds the version of the item that it shows, not a copy of the item.
///
/// Method: one caller sends ten batches with three conflicts of 60 KB each to shard a, and the
/// bytes in Postgres and in the bucket are compared. The caller then retries on both shards,
/// before and after the shown version is gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_shown_by_a_refusal_is_not_stored_again() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let text = "x".repeat(60_000);
    let mut ops = vec![put("small", "1")];

    for id in ["one", "two", "three"] {
        alice.put_text("a", id, &text).await;
        ops.push(json!({"op": "delete", "kind": "text", "id": id, "if_version": 1}));
    }

    let last = alice.put_text("a", "small", "0").await;
    world.until_projected("a", &last).await;
    let postgres_before = stored_bytes(&world, "a");
    let bucket_before = world.bucket_bytes().await;

    let mut replies = Vec::new();
    for number in 0..10 {
        let done = ask_each(&alice, "a", &format!("each-{number}"), &ops).await;
        let shown = &done["results"][2]["error"]["details"]["item"];
        assert_eq!(shown["id"], "two");
        assert!(shown["data"]["text"] == text, "the complete current item");
        replies.push(done);
    }

    world.until_projected("a", &replies[9]).await;
    let postgres = stored_bytes(&world, "a") - postgres_before;
    let bucket = world.bucket_bytes().await - bucket_before;
    println!(
        "10 batches with 3 conflicts of 60 KB each: \
         {postgres} bytes in Postgres, {bucket} in the bucket"
    );
    assert!(postgres < 40_000, "{postgres} bytes in Postgres");
    assert!(bucket < 40_000, "{bucket} bytes in the bucket");
    assert_refused_item_is_recalled(&world, &alice, &ops, &replies[3]).await;

    // A request without an id cannot be retried, so its refusals are not stored.
    let before = world.bucket_bytes().await;
    alice.done("a.batch", &batch("each", &ops[..1])).await;
    let without_refusals = world.bucket_bytes().await - before;
    alice.done("a.batch", &batch("each", &ops)).await;
    let with_refusals = world.bucket_bytes().await - before - without_refusals;
    assert!(
        with_refusals.abs_diff(without_refusals) < 100,
        "{with_refusals} bytes with refusals, {without_refusals} without"
    );
}

/// Goal: a batch with a request id is done once, also where the service chose the item's id.
///
/// Method: one caller sends a batch and repeats it on both shards, at once and after ten further
/// versions of its items.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_is_not_done_again() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    // The owner's very first write, so it also holds the owner's key.
    let unnamed = json!({"op": "put", "kind": "text", "data": {"text": "no id"}});
    let ops = [put("one", "1"), unnamed.clone(), put("two", "2")];
    let body = batch("atomic", &ops);

    let first = alice.ask_once("a.batch", "once", &body).await.body;
    let at_once = alice.ask_once("a.batch", "once", &body).await.body;

    for number in 0..10 {
        alice.put_text("a", "two", &format!("later {number}")).await;
        alice.put_text("a", "one", &format!("later {number}")).await;
    }

    let later = alice.ask_once("b.batch", "once", &body).await.body;

    assert_same_reply(&at_once, &first, "at once");
    assert_same_reply(&later, &first, "later, on the other shard");

    let body = batch("atomic", &[unnamed.clone(), unnamed]);
    let first = alice.ask_once("a.batch", "chosen", &body).await.body;
    let again = alice.ask_once("b.batch", "chosen", &body).await.body;

    assert_same_reply(&again, &first, "with chosen ids");
}

/// Bodies that are no valid batch, and the field that each refusal names.
fn invalid_batches() -> Vec<(Value, &'static str)> {
    let many: Vec<Value> = (0..101)
        .map(|number| put(&format!("n-{number}"), "x"))
        .collect();
    let unknown_op = json!({"op": "move", "kind": "text", "id": "a"});
    let no_op = json!({"kind": "text", "id": "a"});
    let by_isin = put_stock(&isin(1));
    let by_id = json!({"op": "delete", "kind": "instrument", "id": isin(1).to_lowercase()});
    let empty_text = json!({"op": "put", "kind": "text", "id": "a", "data": {"text": ""}});
    let unknown_type =
        json!({"op": "put", "kind": "instrument", "data": {"isin": isin(1), "type": "house"}});
    let delete_with_data = json!({"op": "delete", "kind": "text", "id": "a", "data": {}});
    let delete_with_condition =
        json!({"op": "delete", "kind": "text", "id": "a", "if_owner_version": 3});
    let three = [put("a", "x"), put("b", "x"), delete("a")];

    vec![
        (json!({"ops": [put("a", "x")]}), "mode"),
        (json!({"mode": "some", "ops": [put("a", "x")]}), "mode"),
        (json!({"mode": "each"}), "ops"),
        (batch("each", &[]), "ops"),
        (batch("each", &many), "ops"),
        (batch("each", &[unknown_op]), "ops[0].op"),
        (batch("each", &[put("a", "x"), no_op]), "ops[1].op"),
        (batch("each", &three), "ops[2]"),
        (batch("atomic", &[by_isin, by_id.clone()]), "ops[1]"),
        // One item twice is refused even if one of the two operations could not be done.
        (batch("each", &[empty_text, delete("a")]), "ops[1]"),
        (batch("each", &[unknown_type, by_id]), "ops[1]"),
        (batch("each", &[delete_with_data]), "ops[0].data"),
        (
            batch("each", &[delete_with_condition]),
            "ops[0].if_owner_version",
        ),
        (
            json!({"mode": "each", "ops": [put("a", "x")], "extra": 1}),
            "extra",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_batch_is_refused_with_its_field() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for (body, field) in invalid_batches() {
        let reply = alice.ask("a.batch", &body).await;

        assert_eq!(
            reply.refusal("bad_request")["details"]["field"],
            field,
            "{}",
            reply.body
        );
    }

    assert!(world.records().await.is_empty(), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_and_the_reply_limit_hold_for_the_complete_batch() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.items = 3;
    settings.limits.keys = 5;
    settings.limits.reply_bytes = 20_000;
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;

    let four: Vec<Value> = ["1", "2", "3", "4"].map(|id| put(id, "x")).into();
    let atomic = alice.ask("a.batch", &batch("atomic", &four)).await;
    let each = alice.done("a.batch", &batch("each", &four)).await;

    assert_eq!(atomic.refusal("quota_exceeded")["details"]["op"], 3);
    assert_eq!(each["results"][3]["error"]["code"], "quota_exceeded");

    // A deletion frees quota for the operations after it.
    let replacing = [delete("1"), put("4", "x")];
    alice.done("a.batch", &batch("atomic", &replacing)).await;
    assert_eq!(ids(&alice, "a").await, ["2", "3", "4"]);

    let large = ["2", "3", "4"].map(|id| put(id, &"x".repeat(9_000)));

    for mode in ["atomic", "each"] {
        alice
            .ask("a.batch", &batch(mode, &large))
            .await
            .refusal("too_large");
    }
}

/// Goal: batches that race on two shards are each written completely or not at all.
///
/// Method: forty requests of one caller at once, half on each shard, give the same three items
/// a text of their own. In the end the three texts must be equal on both shards.
#[tokio::test(flavor = "multi_thread")]
async fn no_batch_is_torn_when_two_shards_race() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "begin", "x").await;

    let racing = (0..40).map(|number| {
        let alice = alice.clone();
        let shard = if number % 2 == 0 { "a" } else { "b" };
        let ops = ["left", "middle", "right"].map(|id| put(id, &number.to_string()));
        async move {
            alice
                .ask(&format!("{shard}.batch"), &batch("atomic", &ops))
                .await
                .body
        }
    });
    let replies = futures::future::join_all(racing).await;

    let done = replies
        .iter()
        .filter(|reply| reply["error"].is_null())
        .count();
    assert!(done > 0, "no batch was done");

    // So many at once may be more than a busy machine answers in time: then nothing is written.
    for reply in &replies {
        assert!(
            [
                &Value::Null,
                &json!("overloaded"),
                &json!("truth_unavailable")
            ]
            .contains(&&reply["error"]["code"]),
            "{reply}"
        );
    }

    for shard in ["a", "b"] {
        let list = alice
            .done(&format!("{shard}.list"), &json!({"consistency": "strong"}))
            .await;
        let texts: Vec<&Value> = (1..4)
            .map(|at| &list["items"][at]["data"]["text"])
            .collect();
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    }

    assert_eq!(
        world.records().await.values().max(),
        Some(&(done.min(16) as u64)),
        "each batch was written once"
    );
}
