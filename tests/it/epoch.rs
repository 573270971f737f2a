//! Epochs: a version or a cursor that comes with the epoch of another history is refused.

use crate::harness::samples::{RFC_SECRET, otp_uri, put_otp};
use crate::harness::{Caller, World, copy};
use crate::history::{restore, under_workers, until_noticed};
use serde_json::{Value, json};

/// An epoch that no bucket has.
const FOREIGN: &str = "of-another-bucket";

/// The bound of all versions.
const VERSION_MAX: u64 = 1 << 53;

/// Returns the epoch that `changes` names on that shard.
async fn epoch(caller: &Caller, shard: &str) -> String {
    let body = json!({"since": 0});
    let reply = caller.done(&format!("{shard}.changes"), &body).await;

    let epoch = reply["epoch"].as_str();
    epoch
        .unwrap_or_else(|| panic!("no epoch: {reply}"))
        .to_owned()
}

/// Checks that a request is refused because its epoch is not the present one.
async fn assert_resync(caller: &Caller, operation: &str, body: &Value, now: &str, version: u64) {
    let reply = caller.ask(operation, body).await;

    let details = &reply.refusal("resync_required")["details"];
    assert_eq!(details["epoch"], now, "{operation} {body}");
    assert_eq!(details["owner_version"], version, "{operation} {body}");
    assert_eq!(details["floor"], 0, "{operation} {body}");
}

/// Every request that may name a version or a cursor, without an epoch. The item `n1` is at that
/// version, which is the owner's too.
fn requests(version: &Value, cursor: &Value) -> Vec<(&'static str, Value)> {
    let note = json!({"kind": "text", "id": "n1"});
    let with = |name: &str| {
        let mut body = note.clone();
        body[name] = version.clone();
        body
    };
    let put = |name: &str| {
        let mut body = with(name);
        body["data"] = json!({"text": "y"});
        body
    };
    let op = json!({"op": "put", "kind": "text", "id": "n2", "data": {"text": "y"}});

    vec![
        ("changes", json!({"since": version})),
        ("changes", json!({"since": version, "floor": 0})),
        ("get", with("min_version")),
        ("list", json!({"min_version": version})),
        ("list", json!({"limit": 1, "cursor": cursor})),
        ("tags", json!({"min_version": version})),
        ("lookup", json!({"items": [note], "min_version": version})),
        ("usage", json!({"min_version": version})),
        ("otp.code", json!({"id": "bank", "min_version": version})),
        ("history", with("before")),
        ("put", put("if_version")),
        ("put", put("if_owner_version")),
        ("delete", with("if_version")),
        ("delete", with("if_owner_version")),
        ("move", with("if_version")),
        ("restore", with("version")),
        (
            "batch",
            json!({"mode": "each", "ops": [op], "if_owner_version": version}),
        ),
    ]
}

/// Puts items, and returns the owner's version, which is that of `n1`, and a cursor.
async fn prepare(caller: &Caller) -> (Value, Value) {
    let otp = put_otp("bank", &otp_uri("totp", RFC_SECRET, ""));
    caller.done("a.put", &otp).await;
    caller.put_text("a", "n2", "x").await;
    let put = caller.put_text("a", "n1", "x").await;
    let page = caller.done("a.list", &json!({"limit": 1})).await;

    (put["owner_version"].clone(), page["next_cursor"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shard_and_owner_sees_the_same_epoch() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;

    let first = epoch(&alice, "a").await;
    alice.put_text("a", "n1", "x").await;
    a.stop().await.expect("stopped in order");
    let _a = world.worker("a").await;

    assert!((1..=64).contains(&first.len()), "{first}");
    for caller in [&alice, &bob] {
        for shard in ["a", "b"] {
            assert_eq!(epoch(caller, shard).await, first, "on shard {shard}");
        }
    }
}

/// Goal: whatever version or cursor a request names, with an epoch that is not the present one it
/// is refused, and with the present one it is not.
///
/// Method: one caller sends every such request with a foreign epoch to both shards, and then with
/// the present one. With the foreign one, nothing may be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_foreign_epoch_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let (version, cursor) = prepare(&alice).await;
    let number = version.as_u64().expect("a version");
    let present = epoch(&alice, "a").await;
    let before = world.records().await;

    for (operation, mut body) in requests(&version, &cursor) {
        body["epoch"] = json!(FOREIGN);
        for shard in ["a", "b"] {
            let operation = format!("{shard}.{operation}");
            assert_resync(&alice, &operation, &body, &present, number).await;
        }
    }
    assert_eq!(world.records().await, before, "nothing was written");

    for (operation, mut body) in requests(&version, &cursor) {
        body["epoch"] = json!(present);
        let reply = alice.ask(&format!("b.{operation}"), &body).await;

        // One of the writes is done, and the others are then in conflict with it.
        let code = reply.body["error"]["code"].as_str().unwrap_or("done");
        let is_understood = ["done", "version_conflict"].contains(&code);
        assert!(is_understood, "{operation} {body}: {}", reply.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_epoch_counts_before_every_number() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let (version, _) = prepare(&alice).await;
    let number = version.as_u64().expect("a version");
    let present = epoch(&alice, "a").await;
    let get = json!({"kind": "text", "id": "n1", "min_version": VERSION_MAX});
    let put = json!({
        "kind": "text", "id": "n1", "data": {"text": "y"}, "if_version": VERSION_MAX,
    });

    for (operation, mut body) in [
        ("a.changes", json!({"since": VERSION_MAX})),
        ("a.changes", json!({"since": 1})),
        ("b.get", get),
        ("b.put", put),
    ] {
        body["epoch"] = json!(FOREIGN);
        assert_resync(&alice, operation, &body, &present, number).await;
    }

    let future = json!({"since": VERSION_MAX, "epoch": present});
    let reply = alice.ask("a.changes", &future).await;
    assert_eq!(reply.refusal("bad_request")["details"]["field"], "since");
    let no_text = json!({"since": 0, "epoch": 1});
    let reply = alice.ask("a.changes", &no_text).await;
    assert_eq!(reply.refusal("bad_request")["details"]["field"], "epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_since_0_are_answered_whatever_the_epoch_is() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    prepare(&alice).await;
    let expected = alice.done("a.changes", &json!({"since": 0})).await;

    for epoch in [json!(FOREIGN), expected["epoch"].clone()] {
        let body = json!({"since": 0, "epoch": epoch});
        let reply = alice.done("b.changes", &body).await;

        assert_eq!(reply["items"], expected["items"]);
        assert_eq!(reply["epoch"], expected["epoch"]);
    }
}

/// Goal: a bucket that was made again has another epoch, and what is known of the old one is
/// refused, although the numbers could be valid.
///
/// Method: the server's store is removed, and a shard that never saw the old bucket makes a new
/// one. There a caller comes back with versions and the epoch of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_made_again_has_another_epoch() {
    let mut world = World::start().await;
    let a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let (version, _) = prepare(&alice).await;
    let old = epoch(&alice, "a").await;
    a.stop().await.expect("stopped in order");

    world.lose_store().await;
    world.stop_auth().await;
    world.start_auth().await;
    let _c = world.worker("c").await;
    let alice = world.caller("alice").await;

    let new = epoch(&alice, "c").await;
    assert_ne!(new, old);
    let put = json!({
        "kind": "text", "id": "n1", "data": {"text": "y"}, "if_version": version, "epoch": old,
    });
    for (operation, body) in [
        ("c.changes", json!({"since": version, "epoch": old})),
        ("c.list", json!({"min_version": version, "epoch": old})),
        ("c.put", put),
    ] {
        assert_resync(&alice, operation, &body, &new, 0).await;
    }

    let without_epoch = alice.ask("c.changes", &json!({"since": version})).await;
    let details = &without_epoch.refusal("bad_request")["details"];
    assert_eq!(details["field"], "since", "as before");
    let all = json!({"since": 0, "epoch": old});
    let all = alice.done("c.changes", &all).await;
    assert_eq!(all["epoch"], json!(new));
}

/// Goal: while the bucket is known to have lost history, a version that an owner never had is one
/// of the lost history. Once the loss is accepted, the bucket has another epoch.
///
/// Method: the server's store is replaced by a backup, from before two owners wrote again. The loss
/// is then accepted, and one of them comes back with the version and the epoch from before.
#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_loss_of_history_changes_the_epoch() {
    let mut world = World::start().await;
    let a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    alice.put_text("a", "n1", "x").await;
    bob.put_text("a", "n1", "x").await;
    let backup = world.directory.join("backup");
    under_workers(&mut world, |store| copy(store, &backup)).await;
    let lost = alice.put_text("a", "n1", "y").await["owner_version"].clone();
    let old = epoch(&alice, "a").await;

    under_workers(&mut world, |store| restore(store, &backup)).await;
    until_noticed(&world, 1).await;
    let reply = bob.ask("a.changes", &json!({"since": lost})).await;
    assert_eq!(reply.refusal("resync_required")["details"]["floor"], 0);

    let arguments = ["replay", "--accept-lost-history", "--everyone"];
    let (code, text) = world.run("a", &arguments).await;
    assert_eq!(code, 0, "{text}");
    a.stop().await.expect("stopped in order");
    let _a = world.worker("a").await;
    let new = epoch(&alice, "a").await;
    assert_ne!(new, old);

    // The new history grows past the lost version, which must not look like a good one then.
    let mut grown = alice.put_text("a", "n1", "z").await;
    while grown["owner_version"].as_u64() <= lost.as_u64() {
        grown = alice.put_text("a", "n1", "z").await;
    }
    let version = grown["owner_version"].as_u64().expect("a version");
    let body = json!({"since": lost, "epoch": old});
    assert_resync(&alice, "a.changes", &body, &new, version).await;
    let body = json!({"since": 0, "epoch": old});
    let all = alice.done("a.changes", &body).await;
    assert_eq!(all["items"][0], grown["item"]);
}
