//! Lists: by place, a page at a time, each item once.

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

async fn put(alice: &Caller, id: &str, tag: &str) {
    alice
        .done(
            "a.put",
            &json!({"kind": "text", "id": id, "data": {"text": "x"}, "tags": [tag]}),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_come_oldest_first_and_can_be_filtered() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for (id, tag) in [("c", "x"), ("a", "y"), ("b", "x")] {
        put(&alice, id, tag).await;
    }
    alice.done("a.put", &json!({"kind": "instrument", "data": {"isin": isin(1), "type": "bond"}, "tags": ["x"]})).await;
    put(&alice, "c", "x").await;
    assert_eq!(
        ids(&alice.done("b.list", &json!({})).await),
        ["c", "a", "b", &isin(1)]
    );
    assert_eq!(
        ids(&alice.done("b.list", &json!({"tag": "x"})).await),
        ["c", "b", &isin(1)]
    );
    assert_eq!(
        ids(&alice
            .done("b.list", &json!({"tag": "x", "kind": "text"}))
            .await),
        ["c", "b"]
    );
    assert_eq!(
        ids(&alice.done("b.list", &json!({"tag": "none"})).await),
        [""; 0]
    );
    alice
        .done("a.delete", &json!({"kind": "text", "id": "a"}))
        .await;
    assert_eq!(
        ids(&alice.done("a.list", &json!({"kind": "text"})).await),
        ["c", "b"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_the_size_that_is_asked_for_within_its_bounds() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for number in 0..55 {
        put(&alice, &format!("n{number}"), "x").await;
    }
    let first = alice.done("a.list", &json!({})).await;
    assert_eq!(ids(&first).len(), 50, "the default");
    let rest = alice
        .done("a.list", &json!({"cursor": first["next_cursor"]}))
        .await;
    assert_eq!(ids(&rest).len(), 5);
    assert!(rest.get("next_cursor").is_none(), "nothing follows");
    assert_eq!(
        ids(&alice.done("a.list", &json!({"limit": 500})).await).len(),
        55
    );
    let exact = alice.done("a.list", &json!({"limit": 55})).await;
    assert!(exact.get("next_cursor").is_none());
    for limit in [0, 501] {
        assert_eq!(
            alice
                .ask("a.list", &json!({"limit": limit}))
                .await
                .refusal("bad_request")["details"]["field"],
            "limit"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_gives_each_item_that_stays_once_whatever_is_written_meanwhile() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for number in 0..60 {
        put(&alice, &format!("n{number}"), "x").await;
    }
    let (mut seen, mut cursor, mut page) = (HashMap::<String, usize>::new(), None, 0);
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
        // One that was given is changed, one that was not is deleted, and one is added.
        put(&alice, &format!("n{}", page * 3), "y").await;
        alice
            .ask(
                "a.delete",
                &json!({"kind": "text", "id": format!("n{}", 59 - page)}),
            )
            .await;
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
            "n{number} stayed and was not given"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_made_up_or_of_another_list_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    for number in 0..4 {
        put(&alice, &format!("n{number}"), "x").await;
    }
    let cursor = alice.done("a.list", &json!({"limit": 2})).await["next_cursor"].clone();
    let text = cursor.as_str().expect("a cursor");
    let changed = format!(
        "{}{}",
        if text.starts_with('A') { "B" } else { "A" },
        &text[1..]
    );
    for (who, body) in [
        (&alice, json!({"cursor": "made-up"})),
        (&alice, json!({"cursor": ""})),
        (&alice, json!({"cursor": changed})),
        (&alice, json!({"cursor": cursor, "tag": "x"})),
        (&alice, json!({"cursor": cursor, "kind": "text"})),
        (&bob, json!({"cursor": cursor})),
    ] {
        assert_eq!(
            who.ask("a.list", &body).await.refusal("bad_request")["details"]["field"],
            "cursor"
        );
    }
    assert_eq!(
        ids(&alice
            .done("b.list", &json!({"cursor": cursor, "limit": 500}))
            .await),
        ["n2", "n3"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_bounded_in_bytes_and_the_walk_still_comes_to_its_end() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.reply_bytes = 8_000;
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    for number in 0..20 {
        alice
            .put_text("a", &format!("n{number}"), &"x".repeat(1_500))
            .await;
    }
    let (mut all, mut cursor, mut pages) = (Vec::new(), Value::Null, 0);
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
    assert_eq!(
        all,
        (0..20)
            .map(|number| format!("n{number}"))
            .collect::<Vec<_>>()
    );
    assert!(pages >= 5, "{pages} pages");
}
