//! The questions that an app asks most: which of these items are favourites, only the ids, how much
//! is used, and what the worker supports.

use crate::harness::samples::{
    BANK, CODE_MARK, RFC_SECRET, code, codes, otp_uri, put_codes, put_otp,
};
use crate::harness::{Caller, World, isin};
use gofavorites::wire::Operation;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// How many items a lookup may name.
const BATCH_MAX: usize = 100;

fn text(id: &str) -> Value {
    json!({"kind": "text", "id": id})
}

async fn lookup(caller: &Caller, shard: &str, items: &[Value]) -> Value {
    let body = json!({"items": items, "consistency": "strong"});

    caller.done(&format!("{shard}.lookup"), &body).await
}

async fn usage(caller: &Caller, shard: &str) -> Value {
    let body = json!({"consistency": "strong"});

    caller.done(&format!("{shard}.usage"), &body).await
}

/// Goal: a lookup returns each named item as `get` does, or null, in the order of the request.
///
/// Method: one caller puts items of every kind on shard a, deletes one, and looks them up on both
/// shards, with some that are not there and one under an id in lower case.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_returns_each_item_or_null_in_order() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let data = json!({"isin": isin(1), "type": "stock"});
    let stock = json!({"kind": "instrument", "data": data, "tags": ["t"]});
    let stock = alice.done("a.put", &stock).await["item"].clone();
    let otp = put_otp("bank", &otp_uri("totp", RFC_SECRET, ""));
    let otp = alice.done("a.put", &otp).await["item"].clone();
    let list = alice.done("a.put", &put_codes("list", &codes(0..2))).await;
    let note = alice.put_text("a", "note", "x").await["item"].clone();
    alice.put_text("a", "gone", "x").await;
    let deletion = alice.done("a.delete", &text("gone")).await;
    bob.put_text("a", "of-bob", "x").await;

    let items = [
        text("note"),
        text("none"),
        json!({"kind": "instrument", "id": isin(1).to_lowercase()}),
        json!({"kind": "instrument", "id": isin(2)}),
        text("gone"),
        json!({"kind": "otp", "id": "bank"}),
        json!({"kind": "otp", "id": "note"}),
        json!({"kind": "codes", "id": "list"}),
        text("of-bob"),
    ];
    let expected = json!([note, null, stock, null, null, otp, null, list["item"], null]);
    for shard in ["a", "b"] {
        let reply = lookup(&alice, shard, &items).await;

        assert_eq!(reply["items"], expected, "on shard {shard}");
        assert_eq!(reply["owner_version"], deletion["owner_version"]);
        let text = reply.to_string();
        assert!(text.contains(BANK), "{text}");
        for hidden in [RFC_SECRET, CODE_MARK] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_names_1_to_batch_items() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "n99", "x").await;
    let named = |count: usize| -> Vec<Value> {
        let ids = (0..count).map(|number| format!("n{number}"));
        ids.map(|id| text(&id)).collect()
    };

    let most = lookup(&alice, "b", &named(BATCH_MAX)).await;
    let one = lookup(&alice, "b", &named(1)).await;
    assert_eq!(most["items"].as_array().map(Vec::len), Some(BATCH_MAX));
    assert_eq!(most["items"][99]["id"], "n99");
    assert!(most["items"][98].is_null(), "{most}");
    assert_eq!(one["items"], json!([null]));

    for count in [0, BATCH_MAX + 1] {
        let body = json!({"items": named(count)});
        let reply = alice.ask("a.lookup", &body).await;

        let details = &reply.refusal("bad_request")["details"];
        assert_eq!(details["field"], "items", "{count} items");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_looked_up_twice_is_returned_twice() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let note = alice.put_text("a", "note", "x").await["item"].clone();

    let items = [text("note"), text("none"), text("note")];
    let reply = lookup(&alice, "a", &items).await;

    assert_eq!(reply["items"], json!([note, null, note]));
}

/// Goal: a lookup of another form is refused with its field.
///
/// Method: one caller sends such lookups, one of them without the scope to read.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_of_another_form_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let with = |item: Value| json!({"items": [text("n"), item]});

    for (body, code, field) in [
        (json!({}), "bad_request", "items"),
        (json!({"items": text("n")}), "bad_request", "items"),
        (with(json!("n")), "bad_request", "items[1]"),
        (with(json!({"kind": "text"})), "bad_request", "items[1].id"),
        (with(json!({"id": "n"})), "bad_request", "items[1].kind"),
        (
            with(json!({"kind": "text", "id": "n", "x": 1})),
            "bad_request",
            "items[1].x",
        ),
        (
            with(json!({"kind": "X", "id": "n"})),
            "invalid_item",
            "items[1].kind",
        ),
        (with(text("")), "invalid_item", "items[1].id"),
        (
            json!({"items": [text("n")], "consistency": "sure"}),
            "bad_request",
            "consistency",
        ),
        (
            json!({"items": [text("n")], "limit": 1}),
            "bad_request",
            "limit",
        ),
    ] {
        let reply = alice.ask("a.lookup", &body).await;
        let details = &reply.refusal(code)["details"];
        assert_eq!(details["field"], field, "{body}");
    }

    let token = world.token("alice", "favorites:write", Duration::from_secs(60));
    let writer = alice.with_token(&token);
    let body = json!({"items": [text("n")]});
    for (operation, body) in [("a.lookup", &body), ("a.usage", &json!({}))] {
        let reply = writer.ask(operation, body).await;
        let details = &reply.refusal("forbidden")["details"];
        assert_eq!(details["scope"], "favorites:read", "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_is_as_fresh_as_the_caller_asks_for() {
    let world = World::start().await;
    let mut settings = world.settings("b");
    settings.read.max_age_ms = 60_000;
    settings.read.follow = false;
    let _a = world.worker("a").await;
    let _b = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let eventual = json!({"items": [text("note")], "consistency": "eventual"});

    let old = alice.put_text("a", "note", "old").await;
    alice.done("b.lookup", &eventual).await;
    let new = alice.put_text("a", "note", "new").await;

    let copy = alice.done("b.lookup", &eventual).await;
    assert_eq!(copy["items"][0], old["item"]);
    let mut with_own = eventual.clone();
    with_own["min_version"] = new["owner_version"].clone();
    let own = alice.done("b.lookup", &with_own).await;
    assert_eq!(own["items"][0], new["item"]);
    assert_eq!(own["owner_version"], new["owner_version"]);
}

/// Goal: a list with `"only": "ids"` has the same items in the same pages, each with four fields.
///
/// Method: one caller lists items of two kinds in both forms, and reads pages of ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_ids_has_four_fields_of_each_item() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for id in ["n1", "n2", "n3"] {
        alice.put_text("a", id, "x").await;
    }
    let list = put_codes("list", &[code(0)]);
    alice.done("a.put", &list).await;
    alice.done("a.move", &text("n3")).await;

    let complete = alice.done("b.list", &json!({})).await;
    let ids = alice.done("b.list", &json!({"only": "ids"})).await;
    let expected: Vec<Value> = complete["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| {
            json!({
                "kind": item["kind"], "id": item["id"], "place": item["place"],
                "version": item["version"],
            })
        })
        .collect();
    assert_eq!(ids["items"], json!(expected));
    assert_eq!(ids["owner_version"], complete["owner_version"]);
    assert_eq!(ids["items"][0]["id"], "n3");

    let page = json!({"only": "ids", "kind": "text", "limit": 2});
    let page = alice.done("a.list", &page).await;
    let cursor = &page["next_cursor"];
    let rest = json!({"only": "ids", "kind": "text", "cursor": cursor});
    let rest = alice.done("b.list", &rest).await;
    assert_eq!(page["items"][1]["id"], "n1");
    assert_eq!(rest["items"][0]["id"], "n2");
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(1));

    for only in [json!("names"), json!(""), json!(true)] {
        let reply = alice.ask("a.list", &json!({"only": only})).await;
        let details = &reply.refusal("bad_request")["details"];
        assert_eq!(details["field"], "only", "{only}");
    }
}

/// Goal: `usage` counts living items, ids with those of deletions, and bytes, the same on every
/// shard.
///
/// Method: one caller puts and deletes texts on a worker with its own quotas, and reads the usage
/// after each step.
#[tokio::test(flavor = "multi_thread")]
async fn usage_shows_what_is_used_of_each_quota() {
    let world = World::start().await;
    let start = |shard: &str| {
        let mut settings = world.settings(shard);
        settings.limits.items = 7;
        settings.limits.keys = 9;
        world.worker_with(settings)
    };
    let _a = start("a").await;
    let _b = start("b").await;
    let alice = world.caller("alice").await;
    let bytes = |usage: &Value| usage["bytes"]["used"].as_u64().expect("a number");

    let nothing = usage(&alice, "a").await;
    assert_eq!(nothing["items"], json!({"used": 0, "limit": 7}));
    assert_eq!(nothing["keys"], json!({"used": 0, "limit": 9}));
    assert_eq!(bytes(&nothing), 0);
    assert_eq!(nothing["owner_version"], 0);

    for id in ["n1", "n2", "n3"] {
        alice.put_text("a", id, "x").await;
    }
    let three = usage(&alice, "a").await;
    alice.put_text("b", "n1", &"x".repeat(1_000)).await;
    let longer = usage(&alice, "a").await;
    let deletion = alice.done("a.delete", &text("n1")).await;
    let deleted = usage(&alice, "a").await;

    assert_eq!(three["items"], json!({"used": 3, "limit": 7}));
    assert_eq!(three["keys"], json!({"used": 3, "limit": 9}));
    assert!(bytes(&three) > 0, "{three}");
    assert!(bytes(&longer) > bytes(&three), "{longer}");
    assert_eq!(deleted["items"], json!({"used": 2, "limit": 7}));
    assert_eq!(deleted["keys"], json!({"used": 3, "limit": 9}));
    assert!(bytes(&deleted) < bytes(&longer), "{deleted}");
    assert_eq!(deleted["owner_version"], deletion["owner_version"]);
    assert_eq!(usage(&alice, "b").await, deleted);

    let reply = alice.ask("a.usage", &json!({"kind": "text"})).await;
    assert_eq!(reply.refusal("bad_request")["details"]["field"], "kind");
}

#[tokio::test(flavor = "multi_thread")]
async fn version_names_what_the_worker_supports() {
    let (world, _a, _b) = World::with_two_shards().await;
    let anyone = world.caller("anyone").await;

    let reply = anyone.done("a.version", &json!({})).await;

    let names = |field: &str| -> BTreeSet<String> {
        let names = reply["supports"][field].as_array().expect("a list");
        let name = |name: &Value| name.as_str().expect("a name").to_owned();
        names.iter().map(name).collect()
    };
    let kinds = ["codes", "instrument", "otp", "text"].map(str::to_owned);
    assert_eq!(names("kinds"), BTreeSet::from(kinds));
    let operations: BTreeSet<_> = Operation::ALL
        .map(|operation| operation.name().to_owned())
        .into();
    assert_eq!(names("operations"), operations);
    for new in [
        "move",
        "tags",
        "tags.rename",
        "lookup",
        "usage",
        "otp.code",
        "otp.verify",
        "codes.take",
        "codes.add",
    ] {
        assert!(operations.contains(new), "{new}");
    }
    let formats = reply["supports"]["formats"].as_array().expect("a list");
    assert!(!formats.is_empty(), "{reply}");
    assert!(formats.iter().all(Value::is_u64), "{formats:?}");
}
