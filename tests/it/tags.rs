//! Tags over all items: which there are, how often each is used, and one write that renames them.

use crate::harness::samples::{RFC_SECRET, code, otp_uri, put_codes, put_otp};
use crate::harness::{Caller, World, isin};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many items an owner may have.
const ITEMS_MAX: usize = 500;

/// How many operations a batch may have.
const BATCH_MAX: usize = 100;

/// Puts a text with these tags on shard a.
async fn put(caller: &Caller, id: &str, tags: &[&str]) -> Value {
    let body = json!({"kind": "text", "id": id, "data": {"text": "x"}, "tags": tags});

    caller.done("a.put", &body).await
}

/// Returns the tags of all items, with a strong read.
async fn tags(caller: &Caller, shard: &str) -> Value {
    let body = json!({"consistency": "strong"});

    caller.done(&format!("{shard}.tags"), &body).await["tags"].clone()
}

/// Returns the items of a strong list.
async fn listed(caller: &Caller, shard: &str) -> Vec<Value> {
    let body = json!({"consistency": "strong", "limit": 500});
    let list = caller.done(&format!("{shard}.list"), &body).await;

    list["items"].as_array().expect("a list").clone()
}

fn version_of(value: &Value) -> u64 {
    value["version"].as_u64().expect("a version")
}

/// Goal: `tags` returns each tag of the living items with how many have it, by name, on every
/// shard.
///
/// Method: one caller puts items of every kind with tags on shard a, and reads the tags on both
/// shards after each change.
#[tokio::test(flavor = "multi_thread")]
async fn tags_are_counted_over_the_living_items() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    assert_eq!(tags(&alice, "a").await, json!([]));

    put(&alice, "n1", &["b", "a", "B"]).await;
    put(&alice, "n2", &["b", "é"]).await;
    put(&alice, "n3", &[]).await;
    let data = json!({"isin": isin(1), "type": "stock"});
    let mut stock = json!({"kind": "instrument", "data": data});
    let mut otp = put_otp("bank", &otp_uri("totp", RFC_SECRET, ""));
    let mut list = put_codes("list", &[code(0)]);
    for body in [&mut stock, &mut otp, &mut list] {
        body["tags"] = json!(["b", "z"]);
        alice.done("a.put", body).await;
    }

    let expected = json!([
        {"tag": "B", "items": 1}, {"tag": "a", "items": 1}, {"tag": "b", "items": 5},
        {"tag": "z", "items": 3}, {"tag": "é", "items": 1},
    ]);
    assert_eq!(tags(&alice, "a").await, expected);
    assert_eq!(tags(&alice, "b").await, expected);

    let n2 = json!({"kind": "text", "id": "n2"});
    alice.done("b.delete", &n2).await;
    put(&alice, "n1", &["b"]).await;
    let expected = json!([{"tag": "b", "items": 4}, {"tag": "z", "items": 3}]);
    assert_eq!(tags(&alice, "a").await, expected);
    assert_eq!(tags(&alice, "b").await, expected);
}

/// Goal: with an item, each entry says whether that item has the tag.
///
/// Method: one caller asks for the tags with an item that has some, one that has none, and items
/// that are not there.
#[tokio::test(flavor = "multi_thread")]
async fn each_tag_tells_whether_a_named_item_has_it() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "n1", &["a", "b"]).await;
    put(&alice, "n2", &["b", "c"]).await;
    put(&alice, "n3", &[]).await;
    put(&alice, "gone", &["a"]).await;
    let gone = json!({"kind": "text", "id": "gone"});
    let deletion = alice.done("a.delete", &gone).await;
    let of = |id: &str| json!({"kind": "text", "id": id, "consistency": "strong"});

    let of_first = alice.done("b.tags", &of("n1")).await;
    let of_third = alice.done("b.tags", &of("n3")).await;

    let entries = |contains: [bool; 3]| {
        json!([
            {"tag": "a", "items": 1, "contains": contains[0]},
            {"tag": "b", "items": 2, "contains": contains[1]},
            {"tag": "c", "items": 1, "contains": contains[2]},
        ])
    };
    assert_eq!(of_first["tags"], entries([true, true, false]));
    assert_eq!(of_third["tags"], entries([false; 3]));
    assert_eq!(of_first["owner_version"], deletion["owner_version"]);

    for body in [of("none"), of("gone"), json!({"kind": "otp", "id": "n1"})] {
        let reply = alice.ask("a.tags", &body).await;
        let details = &reply.refusal("not_found")["details"];
        assert_eq!(details["owner_version"], deletion["owner_version"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_as_fresh_as_the_caller_asks_for() {
    let world = World::start().await;
    let mut settings = world.settings("b");
    settings.read.max_age_ms = 60_000;
    settings.read.follow = false;
    let _a = world.worker("a").await;
    let _b = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let eventual = json!({"consistency": "eventual"});

    put(&alice, "n1", &["old"]).await;
    alice.done("b.tags", &eventual).await;
    let new = put(&alice, "n1", &["new"]).await;

    let copy = alice.done("b.tags", &eventual).await;
    assert_eq!(copy["tags"], json!([{"tag": "old", "items": 1}]));
    let with_own = json!({"consistency": "eventual", "min_version": new["owner_version"]});
    let own = alice.done("b.tags", &with_own).await;
    assert_eq!(own["tags"], json!([{"tag": "new", "items": 1}]));
    assert_eq!(own["owner_version"], new["owner_version"]);
}

/// Goal: a rename changes the tag of all items that have it, also of those that have both, and
/// nothing else.
///
/// Method: one caller renames a tag, renames it into one that some items have, and removes that
/// one, on two shards in turn. Items without the tag have to stay as they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_renamed_merged_and_removed_on_all_items() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "n1", &["old", "x"]).await;
    put(&alice, "n2", &["x", "y"]).await;
    let mut otp = put_otp("bank", &otp_uri("totp", RFC_SECRET, ""));
    otp["tags"] = json!(["old"]);
    otp["meta"] = json!({"m": "1"});
    alice.done("a.put", &otp).await;
    put(&alice, "n4", &["Old", "older"]).await;
    let before = listed(&alice, "a").await;

    for (shard, body, count, expected) in [
        (
            "a",
            json!({"from": "old", "to": "new"}),
            2,
            [json!(["new", "x"]), json!(["new"])],
        ),
        (
            "b",
            json!({"from": "new", "to": "x"}),
            2,
            [json!(["x"]), json!(["x"])],
        ),
        ("a", json!({"from": "x"}), 3, [json!([]), json!([])]),
    ] {
        let reply = alice.done(&format!("{shard}.tags.rename"), &body).await;
        let now = listed(&alice, shard).await;

        assert_eq!(reply["items"], count, "{body}");
        let newest = now.iter().map(version_of).max();
        assert_eq!(reply["owner_version"].as_u64(), newest, "{body}");
        assert_eq!(now[0]["tags"], expected[0], "{body}");
        assert_eq!(now[2]["tags"], expected[1], "{body}");
        assert_eq!(now[3], before[3], "another tag: {body}");
        for field in ["kind", "id", "data", "meta", "place", "created_at"] {
            assert_eq!(now[2][field], before[2][field], "{field}: {body}");
        }
    }

    let counted = json!([
        {"tag": "Old", "items": 1}, {"tag": "older", "items": 1}, {"tag": "y", "items": 1},
    ]);
    assert_eq!(tags(&alice, "b").await, counted);
}

/// Puts so many texts with the tag `old`.
async fn put_many(caller: &Caller, count: usize) {
    let op = |number: usize| {
        let id = format!("n{number}");
        let data = json!({"text": "x"});
        json!({"op": "put", "kind": "text", "id": id, "data": data, "tags": ["old", "kept"]})
    };

    for first in (0..count).step_by(BATCH_MAX) {
        let ops: Vec<_> = (first..count.min(first + BATCH_MAX)).map(op).collect();
        let batch = json!({"mode": "atomic", "ops": ops});
        caller.done("a.batch", &batch).await;
    }
}

/// Goal: a rename is one atomic write, however many items have the tag: no reader sees a part of
/// it.
///
/// Method: one caller has as many items as an owner may have. During the rename on shard a, a
/// reader asks both shards for the tags without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_items_are_renamed_in_one_write() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_many(&alice, ITEMS_MAX).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let reading = tokio::spawn({
        let reader = alice.clone();
        let is_over = is_over.clone();
        async move {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                seen.push(tags(&reader, "b").await);
                seen.push(tags(&reader, "a").await);
            }
            seen
        }
    });

    let rename = json!({"from": "old", "to": "new"});
    let reply = alice.done("a.tags.rename", &rename).await;
    let after = tags(&alice, "b").await;
    is_over.store(true, Ordering::SeqCst);

    assert_eq!(reply["items"], ITEMS_MAX);
    let kept = json!({"tag": "kept", "items": ITEMS_MAX});
    let with_old = json!([kept, {"tag": "old", "items": ITEMS_MAX}]);
    let with_new = json!([kept, {"tag": "new", "items": ITEMS_MAX}]);
    assert_eq!(after, with_new);
    for seen in reading.await.expect("no panic") {
        assert!(seen == with_old || seen == with_new, "a part: {seen}");
    }

    let mut versions: Vec<u64> = listed(&alice, "b").await.iter().map(version_of).collect();
    versions.sort_unstable();
    let is_one_write = versions.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(is_one_write, "{versions:?}");
    assert_eq!(reply["owner_version"].as_u64(), versions.last().copied());
}

/// Goal: a repeated rename gets its reply, from every shard, and renames nothing that came later.
///
/// Method: one caller renames a tag under a request id, puts an item with the old tag, and repeats
/// the rename on both shards. The id is then used for another rename.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_rename_gets_its_reply_and_renames_nothing() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "n1", &["old"]).await;
    put(&alice, "n2", &["old"]).await;
    let body = json!({"from": "old", "to": "new"});

    let first = alice.ask_once("a.tags.rename", "request", &body).await.body;
    assert_eq!(first["items"], 2);
    put(&alice, "n3", &["old"]).await;
    for shard in ["a", "b"] {
        let operation = format!("{shard}.tags.rename");
        let again = alice.ask_once(&operation, "request", &body).await.body;

        assert_eq!(again["items"], 2, "on shard {shard}: {again}");
        assert_eq!(again["owner_version"], first["owner_version"]);
    }

    let expected = json!([{"tag": "new", "items": 2}, {"tag": "old", "items": 1}]);
    assert_eq!(tags(&alice, "b").await, expected);
    let other = json!({"from": "old"});
    let reused = alice.ask_once("a.tags.rename", "request", &other).await;
    reused.refusal("request_id_reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_tags_of_another_form_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "n1", &["a"]).await;
    let unknown_kind = json!({"kind": "x", "id": "n1"});
    let unsure = json!({"consistency": "sure"});

    for (body, code, field) in [
        (json!({"kind": "text"}), "bad_request", "id"),
        (json!({"id": "n1"}), "bad_request", "kind"),
        (json!({"tag": "a"}), "bad_request", "tag"),
        (unsure, "bad_request", "consistency"),
        (unknown_kind, "invalid_item", "kind"),
    ] {
        let reply = alice.ask("a.tags", &body).await;
        let details = &reply.refusal(code)["details"];
        assert_eq!(details["field"], field, "{body}");
    }
}

/// Goal: a rename of a tag that is impossible or is not there is refused, and writes nothing.
///
/// Method: one caller sends such renames.
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_rename_is_refused_with_its_field() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "n1", &["a"]).await;
    let before = world.records().await;
    let to = |to: Value| json!({"from": "a", "to": to});

    for (body, code, field) in [
        (json!({}), "bad_request", "from"),
        (json!({"to": "b"}), "bad_request", "from"),
        (json!({"from": 1}), "bad_request", "from"),
        (json!({"from": "a", "x": 1}), "bad_request", "x"),
        (json!({"from": "", "to": "b"}), "invalid_item", "from"),
        (to(json!(null)), "bad_request", "to"),
        (to(json!("")), "invalid_item", "to"),
        (to(json!("b\n")), "invalid_item", "to"),
        (to(json!("x".repeat(65))), "invalid_item", "to"),
        (to(json!("a")), "invalid_item", "to"),
    ] {
        let reply = alice.ask("a.tags.rename", &body).await;
        let details = &reply.refusal(code)["details"];
        assert_eq!(details["field"], field, "{body}");
    }

    for body in [json!({"from": "b", "to": "c"}), json!({"from": "A"})] {
        let reply = alice.ask("b.tags.rename", &body).await;
        let details = &reply.refusal("not_found")["details"];
        assert!(details["owner_version"].is_u64(), "{details}");
    }
    assert_eq!(world.records().await, before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_read_and_renamed_with_their_scopes() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "n1", &["a"]).await;
    let with = |scope: &str| {
        let token = world.token("alice", scope, Duration::from_secs(600));
        alice.with_token(&token)
    };
    let reader = with("favorites:read");
    let writer = with("favorites:write");
    let rename = json!({"from": "a", "to": "b"});

    let not_read = writer.ask("a.tags", &json!({})).await;
    let not_written = reader.ask("a.tags.rename", &rename).await;
    reader.done("a.tags", &json!({})).await;
    writer.done("a.tags.rename", &rename).await;

    let scope = &not_read.refusal("forbidden")["details"]["scope"];
    assert_eq!(*scope, "favorites:read");
    let scope = &not_written.refusal("forbidden")["details"]["scope"];
    assert_eq!(*scope, "favorites:write");
}

/// Goal: a list of the items without any tag, a page at a time.
///
/// Method: one caller lists the untagged items on both shards, with a kind, in pages, and together
/// with a tag.
#[tokio::test(flavor = "multi_thread")]
async fn items_without_a_tag_can_be_listed() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for id in ["n1", "n3", "n4"] {
        put(&alice, id, &[]).await;
    }
    put(&alice, "n2", &["a"]).await;
    let otp = put_otp("bank", &otp_uri("totp", RFC_SECRET, ""));
    alice.done("a.put", &otp).await;
    let ids = |list: &Value| {
        let items = list["items"].as_array().expect("a list");
        let ids: Vec<_> = items.iter().map(|item| item["id"].clone()).collect();
        json!(ids)
    };

    let all = alice.done("b.list", &json!({"untagged": true})).await;
    let texts = json!({"untagged": true, "kind": "text", "limit": 2});
    let texts = alice.done("a.list", &texts).await;
    let every = alice.done("a.list", &json!({"untagged": false})).await;
    assert_eq!(ids(&all), json!(["n1", "n3", "n4", "bank"]));
    assert_eq!(ids(&texts), json!(["n1", "n3"]));
    assert_eq!(ids(&every), json!(["n1", "n3", "n4", "n2", "bank"]));

    let cursor = &texts["next_cursor"];
    let next = json!({"untagged": true, "kind": "text", "cursor": cursor});
    let rest = alice.done("b.list", &next).await;
    assert_eq!(ids(&rest), json!(["n4"]));
    let other_list = json!({"kind": "text", "cursor": cursor});
    let reply = alice.ask("a.list", &other_list).await;
    assert_eq!(reply.refusal("bad_request")["details"]["field"], "cursor");

    for body in [
        json!({"untagged": true, "tag": "a"}),
        json!({"untagged": 1}),
    ] {
        let reply = alice.ask("a.list", &body).await;
        reply.refusal("bad_request");
    }
}
