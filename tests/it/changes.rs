//! What is new since a version, and the bell that rings when there is something.

use crate::harness::{Caller, World};
use crate::maintain::{delete, maintain, settings};
use futures::StreamExt as _;
use gofavorites::owners::Consistency;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// All changes since a version, page by page, and the owner's version in the end.
async fn all_since(caller: &Caller, shard: &str, mut since: u64, limit: u64) -> (Vec<Value>, u64) {
    let mut items = Vec::new();
    loop {
        let page = caller
            .done(
                &format!("{shard}.changes"),
                &json!({"since": since, "limit": limit}),
            )
            .await;
        let new = page["items"].as_array().expect("a list").clone();
        assert!(new.len() as u64 <= limit);
        items.extend(new);
        if page["more"] == false {
            return (items, page["owner_version"].as_u64().expect("a version"));
        }
        since = items
            .last()
            .expect("a page is never empty where more follows")["version"]
            .as_u64()
            .expect("a version");
    }
}

fn ids(items: &[Value]) -> Vec<&str> {
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_comes_once_as_it_is_now_deletions_included() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let nothing = alice.done("b.changes", &json!({"since": 0})).await;
    assert_eq!(
        (
            &nothing["items"],
            &nothing["owner_version"],
            &nothing["more"]
        ),
        (&json!([]), &json!(0), &json!(false))
    );
    for id in ["one", "two", "three", "one"] {
        alice.put_text("a", id, "x").await;
    }
    alice
        .done("a.delete", &json!({"kind": "text", "id": "two"}))
        .await;
    for shard in ["a", "b"] {
        for limit in [1, 2, 500] {
            let (items, owner_version) = all_since(&alice, shard, 0, limit).await;
            assert_eq!(ids(&items), ["three", "one", "two"], "by rising version");
            assert_eq!(
                (&items[2]["deleted"], &items[2]["version"]),
                (&json!(true), &json!(owner_version))
            );
            assert_eq!(
                all_since(&alice, shard, owner_version, limit).await.0,
                Vec::<Value>::new()
            );
        }
        let since = alice
            .done(
                &format!("{shard}.get"),
                &json!({"kind": "text", "id": "three"}),
            )
            .await;
        let since = since["item"]["version"].as_u64().expect("a version");
        assert_eq!(
            ids(&all_since(&alice, shard, since, 50).await.0),
            ["one", "two"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_since_that_never_was_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let version = alice.put_text("a", "one", "x").await["owner_version"]
        .as_u64()
        .expect("a version");
    alice.done("b.list", &json!({})).await;
    // One that another shard has made meanwhile is asked for, and not refused.
    let newer = alice.put_text("a", "two", "x").await["owner_version"]
        .as_u64()
        .expect("a version");
    assert_eq!(all_since(&alice, "b", newer, 50).await, (vec![], newer));
    let reply = alice.ask("b.changes", &json!({"since": newer + 1})).await;
    let details = &reply.refusal("bad_request")["details"];
    assert_eq!(
        (&details["field"], &details["owner_version"]),
        (&json!("since"), &json!(newer))
    );
    assert!(version < newer);
    for (body, field) in [
        (json!({}), "since"),
        (json!({"since": -1}), "since"),
        (json!({"since": 0, "limit": 0}), "limit"),
        (json!({"since": 0, "limit": 501}), "limit"),
        (json!({"since": 0, "kind": "text"}), "kind"),
    ] {
        assert_eq!(
            alice.ask("a.changes", &body).await.refusal("bad_request")["details"]["field"],
            field
        );
    }
    let writer =
        alice.with_token(&world.token("alice", "favorites:write", Duration::from_secs(60)));
    writer
        .ask("a.changes", &json!({"since": 0}))
        .await
        .refusal("forbidden");
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
                alice
                    .put_text("a", &format!("n-{}", number * 7 % 40), &number.to_string())
                    .await;
            }
        }
    });
    // Whoever follows the changes holds, in the end, what is there.
    let (mut copy, mut since, mut seen) = (BTreeMap::new(), 0, 0);
    loop {
        let over = writing.is_finished();
        let page = alice
            .done("b.changes", &json!({"since": since, "limit": 7}))
            .await;
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
    let listed = alice
        .done("a.list", &json!({"limit": 500, "consistency": "strong"}))
        .await;
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
    let mut bell = gateway
        .subscribe(subject.clone())
        .await
        .expect("a subscription");
    gateway.flush().await.expect("subscribed");
    bob.put_text("a", "bobs", "x").await;
    let body = json!({"mode": "atomic", "ops": [
        {"op": "put", "kind": "text", "id": "one", "data": {"text": "a-favourite-text"}},
        {"op": "put", "kind": "text", "id": "two", "data": {"text": "a-favourite-text"}},
    ]});
    let version = alice.done("b.batch", &body).await["owner_version"]
        .as_u64()
        .expect("a version");
    let mut rung = Vec::new();
    for _ in 0..3 {
        let message = tokio::time::timeout(Duration::from_secs(2), bell.next())
            .await
            .expect("it rings")
            .expect("open");
        assert!(message.payload.is_empty(), "headers only");
        let headers = message.headers.expect("headers");
        rung.push(
            headers
                .get("Nats-Sequence")
                .expect("a sequence")
                .as_str()
                .parse::<u64>()
                .expect("a number"),
        );
    }
    assert_eq!(
        rung,
        [version - 2, version - 1, version],
        "the key and both items; nothing of bob's"
    );
    let (items, _) = all_since(&alice, "a", 0, 50).await;
    assert_eq!(ids(&items), ["one", "two"]);
}

/// Texts `n-0` to the last of so many, written in one go.
async fn many_texts(caller: &Caller, count: usize) {
    let put = |number| json!({"op": "put", "kind": "text", "id": format!("n-{number}"), "data": {"text": "x"}});
    let ops: Vec<Value> = (0..count).map(put).collect();
    caller
        .done("a.batch", &json!({"mode": "atomic", "ops": ops}))
        .await;
}

fn version(value: &Value) -> u64 {
    value.as_u64().expect("a version")
}

/// The version of a page's last item.
fn last_of(page: &Value) -> u64 {
    version(
        &page["items"]
            .as_array()
            .expect("a list")
            .last()
            .expect("an item")["version"],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_from_the_beginning_comes_to_its_end_under_a_floor() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    assert_eq!(
        alice.done("a.changes", &json!({"since": 0})).await["floor"],
        0
    );
    many_texts(&alice, 12).await;
    let deleted = delete(&alice, "a", "n-3").await;
    assert_eq!(
        alice.done("b.changes", &json!({"since": 0})).await["floor"],
        0,
        "it is known yet"
    );
    maintain(&settings(&world)).await;
    let (mut held, mut since, mut pages) = (Vec::new(), 0, 0);
    loop {
        let shard = ["a", "b"][pages % 2];
        // What the first page named goes with every further one.
        let body = match since {
            0 => json!({"since": 0, "limit": 5}),
            since => json!({"since": since, "limit": 5, "floor": deleted}),
        };
        let page = alice.done(&format!("{shard}.changes"), &body).await;
        assert_eq!(page["floor"], deleted);
        held.extend(page["items"].as_array().expect("a list").clone());
        pages += 1;
        if page["more"] == false {
            break;
        }
        since = last_of(&page);
        assert!(since < deleted, "the walk goes on below the floor");
        // Who does not say that they hold nothing from before may hold what was forgotten.
        for body in [
            json!({"since": since}),
            json!({"since": since, "floor": deleted - 1}),
        ] {
            let reply = alice.ask(&format!("{shard}.changes"), &body).await;
            assert_eq!(
                reply.refusal("resync_required")["details"]["floor"],
                deleted
            );
        }
        let reply = alice
            .ask(
                &format!("{shard}.changes"),
                &json!({"since": since, "floor": deleted + 1}),
            )
            .await;
        assert_eq!(reply.refusal("bad_request")["details"]["field"], "floor");
    }
    let living: Vec<String> = (0..12)
        .filter(|number| *number != 3)
        .map(|number| format!("n-{number}"))
        .collect();
    assert_eq!(
        (ids(&held), pages),
        (living.iter().map(String::as_str).collect(), 3)
    );
    // From the floor on nothing is forgotten, so nothing has to be named.
    alice.put_text("b", "after", "x").await;
    for body in [
        json!({"since": deleted}),
        json!({"since": deleted, "floor": 0}),
    ] {
        assert_eq!(
            ids(alice.done("a.changes", &body).await["items"]
                .as_array()
                .expect("a list")),
            ["after"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_a_higher_floor_overtakes_begins_anew() {
    let (world, _a, _b) = World::with_two_shards().await;
    let (alice, settings) = (world.caller("alice").await, settings(&world));
    many_texts(&alice, 9).await;
    for (walk, id) in ["n-2", "n-0"].into_iter().enumerate() {
        let first = alice
            .done("a.changes", &json!({"since": 0, "limit": 3}))
            .await;
        let next = json!({"since": last_of(&first), "limit": 3, "floor": first["floor"]});
        assert!(
            ids(first["items"].as_array().expect("a list")).contains(&id),
            "it is held, in walk {walk}"
        );
        let higher = delete(&alice, "b", id).await;
        // Told while it is known; and when it is not, the walk is at its end.
        let told = alice
            .done(
                "b.changes",
                &json!({"since": last_of(&first), "floor": first["floor"]}),
            )
            .await;
        assert_eq!(last_of(&told), higher);
        maintain(&settings).await;
        for shard in ["a", "b"] {
            let reply = alice.ask(&format!("{shard}.changes"), &next).await;
            assert_eq!(reply.refusal("resync_required")["details"]["floor"], higher);
        }
    }
    assert_eq!(all_since(&alice, "a", 0, 50).await.0.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_before_the_floor_is_not_shown_in_the_middle_of_a_walk() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let mut of_b = world.settings("b");
    (of_b.read.consistency, of_b.read.max_age_ms) = (Consistency::Eventual, 600_000);
    let _b = world.worker_with(of_b).await;
    let alice = world.caller("alice").await;
    many_texts(&alice, 6).await;
    let old = alice.done("b.changes", &json!({"since": 0})).await;
    let deleted = delete(&alice, "a", "n-5").await;
    maintain(&settings(&world)).await;
    let first = alice
        .done("a.changes", &json!({"since": 0, "limit": 2}))
        .await;
    let since = last_of(&first);
    let behind = alice.done("b.changes", &json!({"since": since})).await;
    assert_eq!(
        (&behind["owner_version"], &behind["floor"]),
        (&old["owner_version"], &json!(0)),
        "b's copy is old"
    );
    assert!(
        ids(behind["items"].as_array().expect("a list")).contains(&"n-5"),
        "and has what was deleted since"
    );
    let second = alice
        .done(
            "b.changes",
            &json!({"since": since, "floor": first["floor"]}),
        )
        .await;
    assert_eq!(
        ids(second["items"].as_array().expect("a list")),
        ["n-2", "n-3", "n-4"]
    );
    assert_eq!(second["floor"], deleted);
}
