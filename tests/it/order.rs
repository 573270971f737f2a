//! An order of one's own: items are moved, and every shard and every mirror has the same order.

use crate::harness::samples::{RFC_SECRET, code, otp_uri, put_codes, put_otp};
use crate::harness::{Caller, SeededNumbers, World, extent, isin};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// The maximum length of a place, in bytes.
const PLACE_BYTES_MAX: usize = 64;

/// After how many moves into one gap no place of 64 bytes can be left.
const GAP_MOVES_MAX: usize = 5_000;

/// An acknowledged move.
struct Move {
    version: u64,
    id: String,
    after: Option<String>,
}

fn text(id: &str) -> Value {
    json!({"kind": "text", "id": id})
}

/// The body of a move of a text after another one, or to the beginning.
fn after(id: &str, after: Option<&str>) -> Value {
    let mut body = text(id);
    if let Some(after) = after {
        body["after"] = text(after);
    }

    body
}

/// Moves a text, and returns the reply.
async fn move_text(caller: &Caller, shard: &str, id: &str, target: Option<&str>) -> Value {
    caller
        .done(&format!("{shard}.move"), &after(id, target))
        .await
}

/// Puts texts with these ids, in this order.
async fn put_texts(caller: &Caller, ids: &[&str]) {
    for id in ids {
        caller.put_text("a", id, "x").await;
    }
}

/// Returns the items of a strong list, and checks that they are sorted by the bytes of their
/// places.
async fn listed(caller: &Caller, shard: &str) -> Vec<Value> {
    let body = json!({"consistency": "strong", "limit": 500});
    let list = caller.done(&format!("{shard}.list"), &body).await;
    let items = list["items"].as_array().expect("a list").clone();

    let places: Vec<&str> = items.iter().map(place).collect();
    let is_rising = places.is_sorted_by(|one, next| one.as_bytes() < next.as_bytes());
    assert!(is_rising, "{places:?}");
    items
}

/// Returns the ids of a strong list.
async fn order(caller: &Caller, shard: &str) -> Vec<String> {
    listed(caller, shard).await.iter().map(id_of).collect()
}

fn id_of(item: &Value) -> String {
    item["id"].as_str().expect("an id").to_owned()
}

fn version_of(item: &Value) -> u64 {
    item["version"].as_u64().expect("a version")
}

/// Returns an item's place, and checks its length.
#[track_caller]
fn place(item: &Value) -> &str {
    let place = item["place"]
        .as_str()
        .unwrap_or_else(|| panic!("no place: {item}"));
    assert!((1..=PLACE_BYTES_MAX).contains(&place.len()), "{place}");

    place
}

/// Returns the items of `changes` since a version.
async fn changed_since(caller: &Caller, shard: &str, since: u64) -> Vec<Value> {
    let body = json!({"since": since, "limit": 500});
    let page = caller.done(&format!("{shard}.changes"), &body).await;

    page["items"].as_array().expect("a list").clone()
}

/// Goal: an item goes right after the named one, or to the beginning, on every shard.
///
/// Method: one caller moves texts on two shards in turn, and lists them on both after each move.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_moved_first_or_after_another_one() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1", "n2", "n3", "n4"]).await;
    assert_eq!(order(&alice, "a").await, ["n1", "n2", "n3", "n4"]);

    for (shard, id, target, expected) in [
        ("a", "n3", None, ["n3", "n1", "n2", "n4"]),
        ("b", "n1", Some("n2"), ["n3", "n2", "n1", "n4"]),
        ("a", "n3", Some("n4"), ["n2", "n1", "n4", "n3"]),
        ("b", "n3", None, ["n3", "n2", "n1", "n4"]),
        ("a", "n2", Some("n3"), ["n3", "n2", "n1", "n4"]),
        ("b", "n3", None, ["n3", "n2", "n1", "n4"]),
        ("a", "n4", Some("n3"), ["n3", "n4", "n2", "n1"]),
    ] {
        move_text(&alice, shard, id, target).await;

        assert_eq!(order(&alice, "a").await, expected, "{id} after {target:?}");
        assert_eq!(order(&alice, "b").await, expected, "{id} after {target:?}");
    }

    put_texts(&alice, &["n5"]).await;
    let last = order(&alice, "b").await;
    assert_eq!(last, ["n3", "n4", "n2", "n1", "n5"], "a new item is last");
}

/// Goal: a new item is the last one, also where another item was moved to the end before.
///
/// Method: one caller moves the first text to the end, and puts new ones, alone and in a batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_item_comes_after_one_that_was_moved_to_the_end() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1", "n2"]).await;
    let op = |id: &str| json!({"op": "put", "kind": "text", "id": id, "data": {"text": "x"}});

    move_text(&alice, "a", "n1", Some("n2")).await;
    put_texts(&alice, &["n3"]).await;
    let batch = json!({"mode": "atomic", "ops": [op("n4"), op("n5")]});
    alice.done("b.batch", &batch).await;

    assert_eq!(order(&alice, "a").await, ["n2", "n1", "n3", "n4", "n5"]);
}

/// Goal: a move changes an item's place and version, and nothing else, of no other item.
///
/// Method: one caller moves an item with labels, and compares all items before and after.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_changes_the_place_of_one_item_only() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1", "n2"]).await;
    let put = json!({
        "kind": "text", "id": "n3", "data": {"text": "x"}, "tags": ["t"], "meta": {"m": "1"},
    });
    let before = alice.done("a.put", &put).await["item"].clone();
    let all_before = listed(&alice, "a").await;

    let reply = move_text(&alice, "b", "n3", Some("n1")).await;
    let all_after = listed(&alice, "a").await;

    let item = &reply["item"];
    let fields: Vec<_> = item.as_object().expect("an object").keys().collect();
    assert_eq!(fields.len(), 9, "{fields:?}");
    for field in ["kind", "id", "data", "meta", "tags", "created_at"] {
        assert_eq!(item[field], before[field], "{field}");
    }
    assert_ne!(place(item), place(&before));
    assert_eq!(item["version"], reply["owner_version"]);
    let expected = [&all_before[0], item, &all_before[1]];
    assert_eq!(json!(all_after), json!(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_every_kind_share_one_order() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1"]).await;
    let stock = json!({"kind": "instrument", "data": {"isin": isin(1), "type": "stock"}});
    alice.done("a.put", &stock).await;
    let otp = put_otp("bank", &otp_uri("totp", RFC_SECRET, ""));
    alice.done("a.put", &otp).await;
    alice.done("a.put", &put_codes("list", &[code(0)])).await;

    let lower = isin(1).to_lowercase();
    for body in [
        json!({"kind": "otp", "id": "bank"}),
        json!({"kind": "codes", "id": "list", "after": {"kind": "otp", "id": "bank"}}),
        json!({"kind": "text", "id": "n1", "after": {"kind": "instrument", "id": lower}}),
    ] {
        alice.done("a.move", &body).await;
    }

    let expected = ["bank", "list", isin(1).as_str(), "n1"].map(str::to_owned);
    assert_eq!(order(&alice, "b").await, expected);
}

/// Goal: a move that names something that is not there, or itself, is refused and changes nothing.
///
/// Method: one caller sends such moves, and moves of another form.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_nowhere_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1", "n2", "gone"]).await;
    alice.done("a.delete", &text("gone")).await;
    let before = listed(&alice, "a").await;
    let with_after = |target: Value| json!({"kind": "text", "id": "n1", "after": target});

    for (body, code, field) in [
        (after("none", None), "not_found", ""),
        (after("gone", None), "not_found", ""),
        (after("none", Some("n1")), "not_found", ""),
        (after("n1", Some("none")), "not_found", ""),
        (after("n1", Some("gone")), "not_found", ""),
        (json!({"kind": "otp", "id": "n1"}), "not_found", ""),
        (after("n1", Some("n1")), "invalid_item", "after"),
        (json!({"kind": "text"}), "bad_request", "id"),
        (json!({"id": "n1"}), "bad_request", "kind"),
        (after("", None), "invalid_item", "id"),
        (with_after(json!("n2")), "bad_request", "after"),
        (with_after(json!(null)), "bad_request", "after"),
        (
            with_after(json!({"kind": "text"})),
            "bad_request",
            "after.id",
        ),
        (with_after(json!({"id": "n2"})), "bad_request", "after.kind"),
        (
            json!({"kind": "text", "id": "n1", "before": 1}),
            "bad_request",
            "before",
        ),
    ] {
        let reply = alice.ask("b.move", &body).await;

        let details = &reply.refusal(code)["details"];
        if !field.is_empty() {
            assert_eq!(details["field"], field, "{body}");
        }
    }
    assert_eq!(listed(&alice, "b").await, before, "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_happens_at_the_named_version_only() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1", "n2", "n3"]).await;
    let moved = move_text(&alice, "a", "n3", None).await;
    let version = version_of(&moved["item"]);
    let at = |version: u64| {
        let mut body = after("n3", Some("n1"));
        body["if_version"] = json!(version);
        body
    };

    for wrong in [0, version - 1, version + 1] {
        let reply = alice.ask("b.move", &at(wrong)).await;
        let details = &reply.refusal("version_conflict")["details"];
        assert_eq!(details["item"], moved["item"]);
    }
    alice.done("b.move", &at(version)).await;

    assert_eq!(order(&alice, "a").await, ["n1", "n3", "n2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_move_gets_its_reply_and_moves_nothing() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1", "n2", "n3"]).await;
    let body = after("n3", None);

    let first = alice.ask_once("a.move", "request", &body).await.body;
    move_text(&alice, "b", "n3", Some("n2")).await;
    for shard in ["a", "b"] {
        let operation = format!("{shard}.move");
        let again = alice.ask_once(&operation, "request", &body).await.body;

        assert_eq!(again["item"], first["item"], "on shard {shard}");
        assert_eq!(again["owner_version"], first["owner_version"]);
    }

    assert_eq!(order(&alice, "a").await, ["n1", "n2", "n3"]);
}

/// Goal: an item keeps its place when it is put, tagged or restored, and a new life begins at the
/// end.
///
/// Method: one caller moves an item to the beginning, then puts it alone and in a batch, restores
/// the version from before the move, and deletes and restores it.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_and_a_restore_keep_the_place() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1", "n2"]).await;
    let first = alice.put_text("a", "n3", "x").await["item"].clone();
    let moved = move_text(&alice, "a", "n3", None).await["item"].clone();
    let restore = json!({"kind": "text", "id": "n3", "version": first["version"]});

    let op = json!({"op": "put", "kind": "text", "id": "n3", "data": {"text": "z"}});
    let batch = json!({"mode": "atomic", "ops": [op]});
    let put = alice.put_text("b", "n3", "y").await["item"].clone();
    let tags = json!({"kind": "text", "id": "n3", "tags": ["t"]});
    let tagged = alice.done("a.put", &tags).await["item"].clone();
    let in_batch = alice.done("b.batch", &batch).await["results"][0]["item"].clone();
    let restored = alice.done("a.restore", &restore).await["item"].clone();
    for item in [put, tagged, in_batch, restored] {
        assert_eq!(place(&item), place(&moved), "{item}");
    }
    assert_eq!(order(&alice, "b").await, ["n3", "n1", "n2"]);

    alice.done("a.delete", &text("n3")).await;
    alice.done("b.restore", &restore).await;
    assert_eq!(order(&alice, "a").await, ["n1", "n2", "n3"], "a new life");
}

/// Goal: a mirror that is kept by `changes` alone has the order of the list.
///
/// Method: one caller moves, puts and deletes twelve texts at random on two shards. A mirror takes
/// the changes now and then, and is compared with a list at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_kept_by_changes_has_the_order_of_the_list() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let ids: Vec<String> = (0..12).map(|number| format!("n{number}")).collect();
    for id in &ids {
        alice.put_text("a", id, "x").await;
    }
    let mut numbers = SeededNumbers(0x9E37_79B9_7F4A_7C15);
    let mut mirror = BTreeMap::<String, Value>::new();
    let mut since = 0;

    for step in 0..extent(60, 600) {
        let shard = ["a", "b"][numbers.next(2)];
        let id = &ids[numbers.next(12)];
        let target = &ids[numbers.next(12)];
        // The item, and the one that it goes after, may not be there, or be the same.
        let (operation, body) = match numbers.next(6) {
            0 => ("delete", text(id)),
            1 => (
                "put",
                json!({"kind": "text", "id": id, "data": {"text": "y"}}),
            ),
            _ => ("move", after(id, Some(target))),
        };
        alice.ask(&format!("{shard}.{operation}"), &body).await;

        if step % 7 == 0 {
            since = update(&alice, &mut mirror, since).await;
        }
    }
    update(&alice, &mut mirror, since).await;

    let mut mirrored: Vec<Value> = mirror.into_values().collect();
    mirrored.sort_by(|one, other| place(one).as_bytes().cmp(place(other).as_bytes()));
    assert_eq!(json!(mirrored), json!(listed(&alice, "b").await));
}

/// Takes what changed into the mirror, and returns the owner's version.
async fn update(caller: &Caller, mirror: &mut BTreeMap<String, Value>, since: u64) -> u64 {
    let body = json!({"since": since, "limit": 500});
    let page = caller.done("a.changes", &body).await;
    assert_eq!(page["more"], false);

    for item in page["items"].as_array().expect("a list") {
        if item["deleted"] == true {
            mirror.remove(&id_of(item));
        } else {
            mirror.insert(id_of(item), item.clone());
        }
    }

    page["owner_version"].as_u64().expect("a version")
}

/// Goal: where no room is left between two neighbours, those around them get new places in one
/// write, and the order is the one that the moves make.
///
/// Method: two texts are moved right after the first one in turn, until a move changes more than
/// one item. The versions of those items have to be consecutive, and all others unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_without_room_gets_room_in_one_write() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put_texts(&alice, &["n1", "n2", "x", "y", "n3", "n4"]).await;
    let mut before = listed(&alice, "a").await;
    let mut moves = 0;

    let changed = loop {
        assert!(moves < GAP_MOVES_MAX, "a place is not at most 64 bytes");
        moves += 1;
        let shard = if moves % 3 == 0 { "b" } else { "a" };
        let id = if moves % 2 == 0 { "y" } else { "x" };
        let since = before.iter().map(version_of).max().expect("items");

        let reply = move_text(&alice, shard, id, Some("n1")).await;
        let changed = changed_since(&alice, shard, since).await;

        let newest = changed.last().expect("the moved item");
        assert_eq!(newest["version"], reply["owner_version"]);
        assert!(changed.contains(&reply["item"]), "{changed:?}");
        if changed.len() > 1 {
            break changed;
        }
        before = listed(&alice, shard).await;
    };
    println!("{} items got new places with move {moves}", changed.len());

    let versions: Vec<u64> = changed.iter().map(version_of).collect();
    let is_one_write = versions.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(is_one_write, "{versions:?}");
    let first_two = if moves % 2 == 0 {
        ["y", "x"]
    } else {
        ["x", "y"]
    };
    let parts: [&[&str]; 3] = [&["n1"], &first_two, &["n2", "n3", "n4"]];
    assert_eq!(order(&alice, "b").await, parts.concat());
    check_unchanged_but_places(&before, &listed(&alice, "a").await, &changed);

    let more = move_text(&alice, "b", "n4", Some("n1")).await;
    let since = versions.last().expect("items");
    let changed = changed_since(&alice, "b", *since).await;
    assert_eq!(json!(changed), json!([more["item"]]), "there is room again");
}

/// Checks that those that got new places have everything else as before, and that all others are as
/// they were.
fn check_unchanged_but_places(before: &[Value], now: &[Value], changed: &[Value]) {
    for item in now {
        let old = before.iter().find(|old| old["id"] == item["id"]);
        let old = old.expect("an item from before");

        if changed.contains(item) {
            for field in ["kind", "data", "meta", "tags", "created_at"] {
                assert_eq!(item[field], old[field], "{field} of {item}");
            }
        } else {
            assert_eq!(item, old);
        }
    }
}

/// Goal: paging returns each item that stays in its place exactly once, whatever is moved.
///
/// Method: one caller pages through sixty texts on two shards in turn. After each page, every
/// third text may move anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn paging_returns_each_unmoved_item_once_during_moves() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let ids: Vec<String> = (0..60).map(|number| format!("n{number}")).collect();
    for id in &ids {
        alice.put_text("a", id, "x").await;
    }
    let mut numbers = SeededNumbers(0x2545_F491_4F6C_DD1D);
    let mut seen = HashMap::<String, usize>::new();
    let mut body = json!({"limit": 7, "consistency": "strong"});

    for page in 0.. {
        let shard = ["a", "b"][page % 2];
        let reply = alice.done(&format!("{shard}.list"), &body).await;
        for item in reply["items"].as_array().expect("a list") {
            *seen.entry(id_of(item)).or_default() += 1;
        }

        for _ in 0..5 {
            let moved = 3 * numbers.next(20);
            let target = (moved + 1 + numbers.next(59)) % 60;
            move_text(&alice, shard, &ids[moved], Some(&ids[target])).await;
        }
        if reply["next_cursor"].is_null() {
            break;
        }
        body["cursor"] = reply["next_cursor"].clone();
    }

    for (number, id) in ids.iter().enumerate() {
        if number % 3 != 0 {
            assert_eq!(seen.get(id), Some(&1), "{id} stayed in its place");
        }
    }
}

/// Sends moves that are drawn from a seed, and returns the acknowledged ones.
async fn move_at_random(caller: Caller, shard: &'static str, seed: u64, count: usize) -> Vec<Move> {
    let mut numbers = SeededNumbers(seed);
    let mut moves = Vec::new();

    for _ in 0..count {
        let item = numbers.next(8);
        let target = (item + numbers.next(8)) % 8;
        let id = format!("n{item}");
        let target = (target != item).then(|| format!("n{target}"));

        let body = after(&id, target.as_deref());
        let reply = caller.ask(&format!("{shard}.move"), &body).await;

        if reply.body["error"].is_null() {
            let version = version_of(&reply.body["item"]);
            moves.push(Move {
                version,
                id,
                after: target,
            });
        } else {
            reply.refusal("overloaded");
        }
    }

    moves
}

/// Goal: moves at once on two shards leave one order: that of the moves, one after the other by
/// their versions.
///
/// Method: per seed, four tasks move eight texts at random, two on each shard. A model repeats the
/// acknowledged moves by version, and has to end with the order of both shards' lists.
#[tokio::test(flavor = "multi_thread")]
async fn moves_at_once_on_two_shards_leave_one_order() {
    let (world, _a, _b) = World::with_two_shards().await;

    for seed in 1..=extent(4, 40) as u64 {
        let alice = world.caller(&format!("alice-{seed}")).await;
        let mut model: Vec<String> = (0..8).map(|number| format!("n{number}")).collect();
        for id in &model {
            alice.put_text("a", id, "x").await;
        }

        let tasks = ["a", "b", "a", "b"]
            .into_iter()
            .zip(1..)
            .map(|(shard, task)| {
                let seed = (seed * 4 + task).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                tokio::spawn(move_at_random(alice.clone(), shard, seed, 20))
            });
        let mut moves = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            moves.extend(task.await.expect("no panic"));
        }

        println!("seed {seed}: {} of 80 moves", moves.len());
        assert!(moves.len() > 40, "seed {seed}");
        moves.sort_by_key(|one| one.version);
        for one in &moves {
            apply(&mut model, one);
        }
        assert_eq!(order(&alice, "a").await, model, "seed {seed}");
        assert_eq!(listed(&alice, "a").await, listed(&alice, "b").await);
    }
}

fn position_of(id: &str, model: &[String]) -> usize {
    let found = model.iter().position(|other| other == id);

    found.expect("an id of the model")
}

/// Repeats a move in the model.
fn apply(model: &mut Vec<String>, one: &Move) {
    let id = model.remove(position_of(&one.id, model));

    let to = match &one.after {
        Some(after) => position_of(after, model) + 1,
        None => 0,
    };
    model.insert(to, id);
}
