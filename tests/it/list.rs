//! Lists: in the order of positions, a page at a time, each item once.

use crate::harness::{Caller, World, isin};
use serde_json::{Value, json};
use std::collections::HashMap;

fn ids(reply: &Value) -> Vec<String> {
    let items = reply["items"]
        .as_array()
        .unwrap_or_else(|| panic!("no items: {reply}"));

    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

async fn put(caller: &Caller, id: &str, tag: &str) {
    let body = json!({"kind": "text", "id": id, "data": {"text": "x"}, "tags": [tag]});

    caller.done("a.put", &body).await;
}

/// The ids that a list on this shard returns for these parameters.
async fn listed(caller: &Caller, shard: &str, parameters: Value) -> Vec<String> {
    ids(&caller.done(&format!("{shard}.list"), &parameters).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn items_come_oldest_first_and_can_be_filtered() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let bond =
        json!({"kind": "instrument", "data": {"isin": isin(1), "type": "bond"}, "tags": ["x"]});

    for (id, tag) in [("c", "x"), ("a", "y"), ("b", "x")] {
        put(&alice, id, tag).await;
    }

    alice.done("a.put", &bond).await;
    put(&alice, "c", "x").await;

    let all = listed(&alice, "b", json!({})).await;
    let tagged = listed(&alice, "b", json!({"tag": "x"})).await;
    let tagged_texts = listed(&alice, "b", json!({"tag": "x", "kind": "text"})).await;
    let none = listed(&alice, "b", json!({"tag": "none"})).await;

    assert_eq!(all, ["c", "a", "b", &isin(1)]);
    assert_eq!(tagged, ["c", "b", &isin(1)]);
    assert_eq!(tagged_texts, ["c", "b"]);
    assert_eq!(none, [""; 0]);

    alice
        .done("a.delete", &json!({"kind": "text", "id": "a"}))
        .await;
    let texts = listed(&alice, "a", json!({"kind": "text"})).await;
    assert_eq!(texts, ["c", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_the_requested_size_within_its_bounds() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for number in 0..55 {
        put(&alice, &format!("n{number}"), "x").await;
    }

    let first = alice.done("a.list", &json!({})).await;
    let next = json!({"cursor": first["next_cursor"]});
    let rest = alice.done("a.list", &next).await;
    let largest = alice.done("a.list", &json!({"limit": 500})).await;
    let exact = alice.done("a.list", &json!({"limit": 55})).await;

    assert_eq!(ids(&first).len(), 50, "the default");
    assert_eq!(ids(&rest).len(), 5);
    assert!(
        rest.get("next_cursor").is_none(),
        "the last page has no cursor"
    );
    assert_eq!(ids(&largest).len(), 55);
    assert!(
        exact.get("next_cursor").is_none(),
        "a full page is the last one if nothing follows"
    );

    for limit in [0, 501] {
        let reply = alice.ask("a.list", &json!({"limit": limit})).await;
        assert_eq!(reply.refusal("bad_request")["details"]["field"], "limit");
    }
}

/// Goal: paging returns each item that stays exactly once, whatever is written meanwhile.
///
/// Method: one caller pages through sixty items, on two shards in turn. After each page it
/// changes an item from an earlier page, deletes one from a later page, and adds one.
#[tokio::test(flavor = "multi_thread")]
async fn paging_returns_each_item_once_during_writes() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for number in 0..60 {
        put(&alice, &format!("n{number}"), "x").await;
    }

    let mut seen = HashMap::<String, usize>::new();
    let mut cursor = None;
    let mut page = 0;
    loop {
        let mut body = json!({"limit": 7, "consistency": "strong"});
        if let Some(cursor) = &cursor {
            body["cursor"] = json!(cursor);
        }
        let shard = if page % 2 == 0 { "a" } else { "b" };
        let reply = alice.done(&format!("{shard}.list"), &body).await;

        for id in ids(&reply) {
            *seen.entry(id).or_default() += 1;
        }

        let unseen = json!({"kind": "text", "id": format!("n{}", 59 - page)});
        put(&alice, &format!("n{}", page * 3), "y").await;
        alice.ask("a.delete", &unseen).await;
        put(&alice, &format!("late{page}"), "x").await;

        page += 1;
        match reply["next_cursor"].as_str() {
            Some(next) if page < 40 => cursor = Some(next.to_owned()),
            _ => break,
        }
    }

    assert!(seen.values().all(|times| *times == 1), "{seen:?}");

    for number in 0..60 - page {
        assert!(
            seen.contains_key(&format!("n{number}")),
            "n{number} stayed and was not returned"
        );
    }
}

/// Goal: a cursor is accepted only from the list that returned it, on any shard.
///
/// Method: alice uses it with other filters, changed and made up, and bob uses it as it is. Then
/// alice uses it on the other shard, with another page size.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_or_foreign_cursor_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;

    for number in 0..4 {
        put(&alice, &format!("n{number}"), "x").await;
    }

    let first = alice.done("a.list", &json!({"limit": 2})).await;
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let other_start = if cursor.starts_with('A') { "B" } else { "A" };
    let changed = format!("{other_start}{}", &cursor[1..]);

    for (caller, body) in [
        (&alice, json!({"cursor": "made-up"})),
        (&alice, json!({"cursor": ""})),
        (&alice, json!({"cursor": changed})),
        (&alice, json!({"cursor": cursor, "tag": "x"})),
        (&alice, json!({"cursor": cursor, "kind": "text"})),
        (&bob, json!({"cursor": cursor})),
    ] {
        let reply = caller.ask("a.list", &body).await;
        assert_eq!(
            reply.refusal("bad_request")["details"]["field"],
            "cursor",
            "{body}"
        );
    }

    let rest = listed(&alice, "b", json!({"cursor": cursor, "limit": 500})).await;
    assert_eq!(rest, ["n2", "n3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_bounded_in_bytes_still_return_all_items() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.reply_bytes = 8_000;
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let text = "x".repeat(1_500);

    for number in 0..20 {
        alice.put_text("a", &format!("n{number}"), &text).await;
    }

    let mut all = Vec::new();
    let mut cursor = Value::Null;
    let mut pages = 0;
    loop {
        let body = if cursor.is_null() {
            json!({})
        } else {
            json!({"cursor": cursor})
        };
        let reply = alice.done("a.list", &body).await;
        assert!(reply.to_string().len() <= 8_000);
        all.extend(ids(&reply));
        pages += 1;

        cursor = reply["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }

    let expected: Vec<_> = (0..20).map(|number| format!("n{number}")).collect();
    assert_eq!(all, expected);
    assert!(pages >= 5, "{pages} pages");
}
