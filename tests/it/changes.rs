//! Changes since a version, and the change notifications that announce them.

use crate::harness::{Caller, World};
use crate::maintain::{delete, maintain, settings};
use futures::StreamExt as _;
use gofavorites::owners::Consistency;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Returns all changes since a version, read page by page, and the owner's version at the end.
async fn all_since(caller: &Caller, shard: &str, mut since: u64, limit: u64) -> (Vec<Value>, u64) {
    let mut items = Vec::new();
    loop {
        let body = json!({"since": since, "limit": limit});
        let page = caller.done(&format!("{shard}.changes"), &body).await;
        let new = items_of(&page).clone();
        assert!(new.len() as u64 <= limit);
        items.extend(new);

        if page["more"] == false {
            return (items, version(&page["owner_version"]));
        }
        since = last_of(&page);
    }
}

fn items_of(page: &Value) -> &Vec<Value> {
    page["items"].as_array().expect("a list")
}

fn ids(items: &[Value]) -> Vec<&str> {
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id"))
        .collect()
}

fn version(value: &Value) -> u64 {
    value.as_u64().expect("a version")
}

/// The version of a page's last item: a page that more follow is never empty.
fn last_of(page: &Value) -> u64 {
    version(&items_of(page).last().expect("an item")["version"])
}

/// Writes so many texts, from `n-0` on, in one batch.
async fn put_texts(caller: &Caller, count: usize) {
    let put = |number| {
        let id = format!("n-{number}");
        json!({"op": "put", "kind": "text", "id": id, "data": {"text": "x"}})
    };
    let ops: Vec<Value> = (0..count).map(put).collect();

    caller
        .done("a.batch", &json!({"mode": "atomic", "ops": ops}))
        .await;
}

/// Goal: `changes` returns the current state of each changed item once, in the order of versions.
///
/// Method: one caller writes and deletes on shard a, and reads the changes from both shards in
/// pages of several sizes.
#[tokio::test(flavor = "multi_thread")]
async fn each_changed_item_comes_once_in_its_current_state() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let nothing = alice.done("b.changes", &json!({"since": 0})).await;
    assert_eq!(nothing["items"], json!([]));
    assert_eq!(nothing["owner_version"], 0);
    assert_eq!(nothing["more"], false);

    for id in ["one", "two", "three", "one"] {
        alice.put_text("a", id, "x").await;
    }

    delete(&alice, "a", "two").await;

    for shard in ["a", "b"] {
        for limit in [1, 2, 500] {
            let (items, owner_version) = all_since(&alice, shard, 0, limit).await;
            let (after, _) = all_since(&alice, shard, owner_version, limit).await;

            assert_eq!(ids(&items), ["three", "one", "two"], "by rising version");
            assert_eq!(items[2]["deleted"], true);
            assert_eq!(items[2]["version"], owner_version);
            assert_eq!(after, Vec::<Value>::new());
        }

        let get = json!({"kind": "text", "id": "three"});
        let three = alice.done(&format!("{shard}.get"), &get).await;
        let since = version(&three["item"]["version"]);
        let (items, _) = all_since(&alice, shard, since, 50).await;

        assert_eq!(ids(&items), ["one", "two"]);
    }
}

/// Goal: a `since` newer than the owner's version is refused, after asking the bucket.
///
/// Method: shard b reads the owner, shard a then writes, and shard b is asked for the changes
/// since the version that only shard a has seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_since_that_never_existed_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let older = version(&alice.put_text("a", "one", "x").await["owner_version"]);
    alice.done("b.list", &json!({})).await;
    let newer = version(&alice.put_text("a", "two", "x").await["owner_version"]);

    let (items, owner_version) = all_since(&alice, "b", newer, 50).await;
    let reply = alice.ask("b.changes", &json!({"since": newer + 1})).await;

    assert_eq!(items, Vec::<Value>::new());
    assert_eq!(owner_version, newer);
    let details = &reply.refusal("bad_request")["details"];
    assert_eq!(details["field"], "since");
    assert_eq!(details["owner_version"], newer);
    assert!(older < newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_request_for_changes_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "one", "x").await;
    let writer =
        alice.with_token(&world.token("alice", "favorites:write", Duration::from_secs(60)));

    for (body, field) in [
        (json!({}), "since"),
        (json!({"since": -1}), "since"),
        (json!({"since": 0, "limit": 0}), "limit"),
        (json!({"since": 0, "limit": 501}), "limit"),
        (json!({"since": 0, "kind": "text"}), "kind"),
    ] {
        let reply = alice.ask("a.changes", &body).await;
        assert_eq!(reply.refusal("bad_request")["details"]["field"], field);
    }

    let reply = writer.ask("a.changes", &json!({"since": 0})).await;
    reply.refusal("forbidden");
}

/// Goal: a reader that follows the changes ends with exactly the current items.
///
/// Method: one task writes on shard a while the reader pages through the changes on shard b and
/// applies them to a copy. After the last write the copy is compared with a strong list.
#[tokio::test(flavor = "multi_thread")]
async fn paging_neither_skips_nor_repeats_during_writes() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for number in 0..30 {
        alice.put_text("a", &format!("n-{number}"), "0").await;
    }

    let writing = tokio::spawn({
        let alice = alice.clone();
        async move {
            for number in 0..150 {
                let id = format!("n-{}", number * 7 % 40);
                alice.put_text("a", &id, &number.to_string()).await;
            }
        }
    });

    let mut copy = BTreeMap::new();
    let mut since = 0;
    let mut received = 0;
    loop {
        let all_written = writing.is_finished();
        let body = json!({"since": since, "limit": 7});
        let page = alice.done("b.changes", &body).await;

        for item in items_of(&page) {
            assert!(version(&item["version"]) > since, "by rising version");
            since = version(&item["version"]);
            copy.insert(item["id"].as_str().expect("an id").to_owned(), item.clone());
            received += 1;
        }

        if page["more"] == false {
            since = version(&page["owner_version"]);
            if all_written {
                break;
            }
        }
    }

    writing.await.expect("no panic");

    let list = alice
        .done("a.list", &json!({"limit": 500, "consistency": "strong"}))
        .await;
    let items: BTreeMap<String, Value> = items_of(&list)
        .iter()
        .map(|item| (item["id"].as_str().expect("an id").to_owned(), item.clone()))
        .collect();
    assert_eq!(copy, items);
    assert!(received >= items.len());
}

/// Goal: a change notification carries the versions of the owner's records and no content, and
/// an owner is not notified of another owner's changes.
///
/// Method: a second NATS user subscribes to the subject that the worker names for alice. Bob
/// writes on shard a, and alice writes a batch on shard b.
#[tokio::test(flavor = "multi_thread")]
async fn change_notifications_carry_versions_and_no_content() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;

    let reply = alice.done("a.changes", &json!({"since": 0})).await;
    let subject = reply["notify"].as_str().expect("a subject").to_owned();
    let gateway = world.connect("gateway2").await;
    let mut notifications = gateway.subscribe(subject).await.expect("a subscription");
    gateway.flush().await.expect("subscribed");

    bob.put_text("a", "bobs", "x").await;
    let body = json!({"mode": "atomic", "ops": [
        {"op": "put", "kind": "text", "id": "one", "data": {"text": "a-favourite-text"}},
        {"op": "put", "kind": "text", "id": "two", "data": {"text": "a-favourite-text"}},
    ]});
    let last = version(&alice.done("b.batch", &body).await["owner_version"]);

    let mut sequences = Vec::new();
    for _ in 0..3 {
        let message = tokio::time::timeout(Duration::from_secs(2), notifications.next())
            .await
            .expect("a notification")
            .expect("an open subscription");
        assert!(message.payload.is_empty(), "headers only");

        let headers = message.headers.expect("headers");
        let sequence = headers.get("Nats-Sequence").expect("a sequence");
        sequences.push(sequence.as_str().parse::<u64>().expect("a number"));
    }

    assert_eq!(
        sequences,
        [last - 2, last - 1, last],
        "the key and both items; nothing of bob's"
    );
    let (items, _) = all_since(&alice, "a", 0, 50).await;
    assert_eq!(ids(&items), ["one", "two"]);
}

/// Checks that a walk is refused on a page unless it names the floor that it began under.
async fn assert_refused_without_floor(alice: &Caller, shard: &str, since: u64, floor: u64) {
    let changes = format!("{shard}.changes");
    let too_high = json!({"since": since, "floor": floor + 1});

    // A caller that began under a lower floor may hold an item whose deletion is forgotten.
    for body in [
        json!({"since": since}),
        json!({"since": since, "floor": floor - 1}),
    ] {
        let reply = alice.ask(&changes, &body).await;
        assert_eq!(reply.refusal("resync_required")["details"]["floor"], floor);
    }

    let reply = alice.ask(&changes, &too_high).await;
    assert_eq!(reply.refusal("bad_request")["details"]["field"], "floor");
}

/// Goal: a walk from `since: 0` reaches its end below the deletion floor if it names that floor.
///
/// Method: maintenance raises the floor above all items. One caller then walks through the
/// changes in pages, on two shards in turn, and on each page also tries other floors.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_from_zero_ends_below_the_deletion_floor() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let nothing = alice.done("a.changes", &json!({"since": 0})).await;
    assert_eq!(nothing["floor"], 0);
    put_texts(&alice, 12).await;
    let floor = delete(&alice, "a", "n-3").await;
    let before = alice.done("b.changes", &json!({"since": 0})).await;
    assert_eq!(before["floor"], 0, "the deletion is not forgotten yet");
    maintain(&settings(&world)).await;

    let mut received = Vec::new();
    let mut since = 0;
    let mut pages = 0;
    loop {
        let shard = ["a", "b"][pages % 2];
        let body = match since {
            0 => json!({"since": 0, "limit": 5}),
            since => json!({"since": since, "limit": 5, "floor": floor}),
        };
        let page = alice.done(&format!("{shard}.changes"), &body).await;
        assert_eq!(page["floor"], floor);
        received.extend(items_of(&page).clone());
        pages += 1;
        if page["more"] == false {
            break;
        }

        since = last_of(&page);
        assert!(since < floor, "the walk continues below the floor");
        assert_refused_without_floor(&alice, shard, since, floor).await;
    }

    let living: Vec<String> = (0..12)
        .filter(|number| *number != 3)
        .map(|number| format!("n-{number}"))
        .collect();
    assert_eq!(ids(&received), living);
    assert_eq!(pages, 3);

    // No deletion after the floor is forgotten, so from there on no floor has to be named.
    alice.put_text("b", "after", "x").await;

    for body in [json!({"since": floor}), json!({"since": floor, "floor": 0})] {
        let page = alice.done("a.changes", &body).await;
        assert_eq!(ids(items_of(&page)), ["after"]);
    }
}

/// Goal: a walk is refused as soon as maintenance has raised the floor since it began.
///
/// Method: twice, one caller reads the first page of a walk from shard a and deletes one of its
/// items on shard b; maintenance then forgets that deletion, and both shards are asked for the
/// next page.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_overtaken_by_a_higher_floor_has_to_restart() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let settings = settings(&world);
    put_texts(&alice, 9).await;

    for (walk, id) in ["n-2", "n-0"].into_iter().enumerate() {
        let first = alice
            .done("a.changes", &json!({"since": 0, "limit": 3}))
            .await;
        let since = last_of(&first);
        let rest = json!({"since": since, "floor": first["floor"]});
        let next = json!({"since": since, "limit": 3, "floor": first["floor"]});
        assert!(
            ids(items_of(&first)).contains(&id),
            "the caller holds {id} in walk {walk}"
        );

        // Until it is forgotten, the walk returns the deletion.
        let floor = delete(&alice, "b", id).await;
        let page = alice.done("b.changes", &rest).await;
        assert_eq!(last_of(&page), floor);

        maintain(&settings).await;

        for shard in ["a", "b"] {
            let reply = alice.ask(&format!("{shard}.changes"), &next).await;
            assert_eq!(reply.refusal("resync_required")["details"]["floor"], floor);
        }
    }

    let (items, _) = all_since(&alice, "a", 0, 50).await;
    assert_eq!(items.len(), 7);
}

/// Goal: a walk that names its floor never gets a page from a copy older than that floor.
///
/// Method: shard b reads eventually, so it keeps an old copy while shard a deletes and
/// maintenance raises the floor. The walk begins on shard a and goes on at shard b.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_gets_no_page_from_a_copy_older_than_its_floor() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let mut eventual = world.settings("b");
    eventual.read.consistency = Consistency::Eventual;
    eventual.read.max_age_ms = 600_000;
    eventual.read.follow = false;
    let _b = world.worker_with(eventual).await;
    let alice = world.caller("alice").await;

    put_texts(&alice, 6).await;
    let old = alice.done("b.changes", &json!({"since": 0})).await;
    let floor = delete(&alice, "a", "n-5").await;
    maintain(&settings(&world)).await;

    let first = alice
        .done("a.changes", &json!({"since": 0, "limit": 2}))
        .await;
    let since = last_of(&first);
    let without_floor = alice.done("b.changes", &json!({"since": since})).await;
    let with_floor = json!({"since": since, "floor": first["floor"]});
    let with_floor = alice.done("b.changes", &with_floor).await;

    assert_eq!(
        without_floor["owner_version"], old["owner_version"],
        "b's copy is old"
    );
    assert_eq!(without_floor["floor"], 0);
    assert!(
        ids(items_of(&without_floor)).contains(&"n-5"),
        "b's copy has the item that was deleted since"
    );
    assert_eq!(ids(items_of(&with_floor)), ["n-2", "n-3", "n-4"]);
    assert_eq!(with_floor["floor"], floor);
}
