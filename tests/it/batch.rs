//! Several puts and deletes in one go.

use crate::harness::{Caller, World, isin};
use serde_json::{Value, json};

fn put(id: &str, text: &str) -> Value {
    json!({"op": "put", "kind": "text", "id": id, "data": {"text": text}})
}

fn delete(id: &str) -> Value {
    json!({"op": "delete", "kind": "text", "id": id})
}

fn batch(mode: &str, ops: &[Value]) -> Value {
    json!({"mode": mode, "ops": ops})
}

async fn ids(caller: &Caller, shard: &str) -> Vec<String> {
    let listed = caller
        .done(&format!("{shard}.list"), &json!({"consistency": "strong"}))
        .await;
    let items = listed["items"].as_array().expect("a list");
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_batch_is_written_at_once_and_in_order() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let unnamed = json!({"op": "put", "kind": "text", "data": {"text": "no id"}});
    let stock = json!({"op": "put", "kind": "instrument", "data": {"isin": isin(1), "type": "stock"}, "tags": ["t"]});
    let first = alice
        .done(
            "a.batch",
            &batch(
                "atomic",
                &[put("one", "1"), stock, unnamed, put("two", "2")],
            ),
        )
        .await;
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
    assert_eq!(
        (&results[1]["item"]["id"], &results[1]["item"]["tags"]),
        (&json!(isin(1)), &json!(["t"]))
    );
    let chosen = results[2]["item"]["id"].as_str().expect("an id");
    assert_eq!(
        ids(&alice, "b").await,
        ["one", &isin(1), chosen, "two"],
        "in the order of the batch"
    );
    let second = batch(
        "atomic",
        &[delete("one"), put("two", "2b"), put("three", "3")],
    );
    let second = alice.done("b.batch", &second).await;
    assert_eq!(second["results"][0]["item"]["deleted"], true);
    assert_eq!(ids(&alice, "a").await, [&isin(1), chosen, "two", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refusal_refuses_all_of_an_atomic_batch_and_says_which() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "there", "x").await;
    let before = world.records().await;
    let refused = [
        (delete("absent"), "not_found"),
        (
            json!({"op": "put", "kind": "text", "id": "there", "data": {"text": "y"}, "if_version": 1}),
            "version_conflict",
        ),
        (
            json!({"op": "put", "kind": "text", "id": "new"}),
            "invalid_item",
        ),
        (
            json!({"op": "put", "kind": "instrument", "data": {"isin": "US0378331006", "type": "stock"}}),
            "invalid_item",
        ),
    ];
    for (bad, code) in refused {
        let reply = alice
            .ask(
                "a.batch",
                &batch("atomic", &[put("one", "1"), bad, put("two", "2")]),
            )
            .await;
        assert_eq!(reply.refusal(code)["details"]["op"], 1, "{}", reply.body);
    }
    let condition = json!({"mode": "atomic", "ops": [put("one", "1")], "if_owner_version": 1});
    alice
        .ask("a.batch", &condition)
        .await
        .refusal("version_conflict");
    assert_eq!(world.records().await, before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_that_can_be_done_is_done_and_each_other_is_told_why() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "there", "x").await;
    let ops = [
        put("one", "1"),
        delete("absent"),
        json!({"op": "put", "kind": "instrument", "data": {"isin": "US0378331006", "type": "stock"}}),
        json!({"op": "delete", "kind": "text", "id": "there", "if_version": 1}),
        put("two", "2"),
    ];
    let done = alice
        .ask_once("a.batch", "each-1", &batch("each", &ops))
        .await
        .body;
    let code = |at: usize| done["results"][at]["error"]["code"].as_str();
    assert_eq!(
        (code(1), code(2), code(3)),
        (
            Some("not_found"),
            Some("invalid_item"),
            Some("version_conflict")
        )
    );
    assert_eq!(
        done["results"][3]["error"]["details"]["item"]["data"]["text"], "x",
        "the current one"
    );
    assert!(
        done["results"][0]["item"]["version"].as_u64()
            < done["results"][4]["item"]["version"].as_u64()
    );
    assert_eq!(ids(&alice, "b").await, ["there", "one", "two"]);
    assert_eq!(
        done["results"][2]["error"]["details"]["field"], "ops[2].data.isin",
        "the path in the request"
    );
    // Its refusals are remembered with it.
    alice
        .done("a.delete", &json!({"kind": "text", "id": "there"}))
        .await;
    for number in 0..10 {
        alice.put_text("a", "two", &format!("later {number}")).await;
    }
    for shard in ["a", "b"] {
        let again = alice
            .ask_once(&format!("{shard}.batch"), "each-1", &batch("each", &ops))
            .await
            .body;
        assert_eq!(
            (&again["results"], &again["owner_version"]),
            (&done["results"], &done["owner_version"]),
            "{shard}"
        );
    }
    alice
        .ask_once("a.batch", "each-1", &batch("each", &ops[..2]))
        .await
        .refusal("request_id_reused");
    // Where nothing can be done nothing is written, and the reply says so all the same.
    let before = world.records().await;
    let none = alice
        .done(
            "b.batch",
            &batch("each", &[delete("absent"), delete("nowhere")]),
        )
        .await;
    assert!(
        none["results"]
            .as_array()
            .expect("results")
            .iter()
            .all(|one| one["error"]["code"] == "not_found")
    );
    assert_eq!(
        none["owner_version"],
        alice.done("a.list", &json!({})).await["owner_version"]
    );
    assert_eq!(world.records().await, before);
}

/// The bytes of the shard's rows of somebody's items, the versions that passed by among them.
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

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_shows_with_its_refusals_is_not_written_again() {
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
    let (before, in_bucket) = (stored_bytes(&world, "a"), world.bucket_bytes().await);
    let mut replies = Vec::new();
    for number in 0..10 {
        let done = alice
            .ask_once("a.batch", &format!("each-{number}"), &batch("each", &ops))
            .await
            .body;
        let shown = &done["results"][2]["error"]["details"]["item"];
        assert_eq!(
            (&shown["id"], shown["data"]["text"] == text),
            (&json!("two"), true),
            "the current one, whole"
        );
        replies.push(done);
    }
    world.until_projected("a", &replies[9]).await;
    let (grown, in_bucket) = (
        stored_bytes(&world, "a") - before,
        world.bucket_bytes().await - in_bucket,
    );
    println!(
        "10 batches, each with 3 conflicts of 60 KB: {grown} bytes in Postgres, {in_bucket} in the bucket"
    );
    assert!(grown < 40_000 && in_bucket < 40_000, "{grown} {in_bucket}");
    // Told again with the item as it was then, wherever that is looked up.
    alice.put_text("b", "two", "later").await;
    for shard in ["a", "b"] {
        let again = alice
            .ask_once(&format!("{shard}.batch"), "each-3", &batch("each", &ops))
            .await
            .body;
        assert_eq!(
            (&again["results"], &again["owner_version"]),
            (&replies[3]["results"], &replies[3]["owner_version"])
        );
    }
    // And without it where it is kept no more.
    for number in 0..16 {
        alice.put_text("b", "two", &format!("later {number}")).await;
    }
    let shown = replies[3]["results"][2]["error"]["details"]["item"]["version"].clone();
    // Nor in the copies in memory.
    alice.done("a.list", &json!({})).await;
    for shard in ["a", "b"] {
        world.query(
            shard,
            &format!("delete from item_version where version = {shown}"),
        );
        let again = alice
            .ask_once(&format!("{shard}.batch"), "each-3", &batch("each", &ops))
            .await
            .body;
        let (mut first, at) = (
            replies[3]["results"].clone(),
            &again["results"][2]["error"]["details"]["item"],
        );
        assert!(at.is_null(), "{shard}");
        first[2]["error"]["details"]
            .as_object_mut()
            .expect("details")
            .remove("item");
        assert_eq!(again["results"], first);
    }
    // Who gave no request id can never ask again, so nothing is kept for them.
    let plain = world.bucket_bytes().await;
    alice.done("a.batch", &batch("each", &ops[..1])).await;
    let alone = world.bucket_bytes().await - plain;
    alice.done("a.batch", &batch("each", &ops)).await;
    let grown = world.bucket_bytes().await - plain - alone;
    assert!(
        grown.abs_diff(alone) < 100,
        "{grown}: as if nothing was refused, which is {alone}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_done_is_not_done_again() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    // The owner's very first write, with their key in it.
    let unnamed = json!({"op": "put", "kind": "text", "data": {"text": "no id"}});
    let body = batch(
        "atomic",
        &[put("one", "1"), unnamed.clone(), put("two", "2")],
    );
    let first = alice.ask_once("a.batch", "once", &body).await.body;
    let same = |again: &Value| {
        assert_eq!(
            (&again["results"], &again["owner_version"]),
            (&first["results"], &first["owner_version"])
        )
    };
    same(&alice.ask_once("a.batch", "once", &body).await.body);
    for number in 0..10 {
        alice.put_text("a", "two", &format!("later {number}")).await;
        alice.put_text("a", "one", &format!("later {number}")).await;
    }
    same(&alice.ask_once("b.batch", "once", &body).await.body);
    let only_unnamed = batch("atomic", &[unnamed.clone(), unnamed]);
    let chosen = alice
        .ask_once("a.batch", "chosen", &only_unnamed)
        .await
        .body;
    let again = alice
        .ask_once("b.batch", "chosen", &only_unnamed)
        .await
        .body;
    assert_eq!(
        (&chosen["results"], &chosen["owner_version"]),
        (&again["results"], &again["owner_version"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_is_refused_by_name() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let many: Vec<Value> = (0..101)
        .map(|number| put(&format!("n-{number}"), "x"))
        .collect();
    let same_isin =
        json!({"op": "put", "kind": "instrument", "data": {"isin": isin(1), "type": "stock"}});
    let by_id = json!({"op": "delete", "kind": "instrument", "id": isin(1).to_lowercase()});
    let bad = [
        (json!({"ops": [put("a", "x")]}), "mode"),
        (json!({"mode": "some", "ops": [put("a", "x")]}), "mode"),
        (json!({"mode": "each"}), "ops"),
        (batch("each", &[]), "ops"),
        (batch("each", &many), "ops"),
        (
            batch("each", &[json!({"op": "move", "kind": "text", "id": "a"})]),
            "ops[0].op",
        ),
        (
            batch("each", &[put("a", "x"), json!({"kind": "text", "id": "a"})]),
            "ops[1].op",
        ),
        (
            batch("each", &[put("a", "x"), put("b", "x"), delete("a")]),
            "ops[2]",
        ),
        (batch("atomic", &[same_isin, by_id.clone()]), "ops[1]"),
        // Also where one of the two could not be done.
        (
            batch(
                "each",
                &[
                    json!({"op": "put", "kind": "text", "id": "a", "data": {"text": ""}}),
                    delete("a"),
                ],
            ),
            "ops[1]",
        ),
        (
            batch(
                "each",
                &[
                    json!({"op": "put", "kind": "instrument", "data": {"isin": isin(1), "type": "house"}}),
                    by_id,
                ],
            ),
            "ops[1]",
        ),
        (
            batch(
                "each",
                &[json!({"op": "delete", "kind": "text", "id": "a", "data": {}})],
            ),
            "ops[0].data",
        ),
        (
            batch(
                "each",
                &[json!({"op": "delete", "kind": "text", "id": "a", "if_owner_version": 3})],
            ),
            "ops[0].if_owner_version",
        ),
        (
            json!({"mode": "each", "ops": [put("a", "x")], "extra": 1}),
            "extra",
        ),
    ];
    for (body, field) in bad {
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
async fn quotas_and_the_size_of_the_reply_hold_for_the_whole_batch() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    (
        settings.limits.items,
        settings.limits.keys,
        settings.limits.reply_bytes,
    ) = (3, 5, 20_000);
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let four: Vec<Value> = ["1", "2", "3", "4"].map(|id| put(id, "x")).into();
    let reply = alice.ask("a.batch", &batch("atomic", &four)).await;
    assert_eq!(reply.refusal("quota_exceeded")["details"]["op"], 3);
    let each = alice.done("a.batch", &batch("each", &four)).await;
    assert_eq!(each["results"][3]["error"]["code"], "quota_exceeded");
    // What is deleted before makes room for what comes after it.
    alice
        .done("a.batch", &batch("atomic", &[delete("1"), put("4", "x")]))
        .await;
    assert_eq!(ids(&alice, "a").await, ["2", "3", "4"]);
    let large = [
        put("2", &"x".repeat(9_000)),
        put("3", &"x".repeat(9_000)),
        put("4", &"x".repeat(9_000)),
    ];
    for mode in ["atomic", "each"] {
        alice
            .ask("a.batch", &batch(mode, &large))
            .await
            .refusal("too_large");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_two_shards_race_and_none_is_torn() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "begin", "x").await;
    let racing = (0..40).map(|number| {
        let (alice, shard) = (alice.clone(), if number % 2 == 0 { "a" } else { "b" });
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
    assert!(
        done > 0
            && replies
                .iter()
                .all(|r| r["error"].is_null() || r["error"]["code"] == "overloaded")
    );
    for shard in ["a", "b"] {
        let listed = alice
            .done(&format!("{shard}.list"), &json!({"consistency": "strong"}))
            .await;
        let texts: Vec<&Value> = (1..4)
            .map(|at| &listed["items"][at]["data"]["text"])
            .collect();
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    }
    assert_eq!(
        world.records().await.values().max(),
        Some(&(done.min(16) as u64)),
        "each once"
    );
}
