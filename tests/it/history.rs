//! A bucket that lost history: workers notice it, tell the affected owners from the others, and
//! never mix the records of the old and the new history.

use crate::harness::{World, copy};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a worker may take to notice.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(10);

/// Stops the NATS server, lets `change` work on its store, and starts it again.
async fn while_stopped(world: &mut World, change: impl FnOnce(&Path)) {
    world.nats.stop().expect("stopped");
    change(&world.directory.join("store"));
    world.nats.restart().await.expect("started again");
}

/// As [`while_stopped`], and waits until shard `a` answers again.
pub(crate) async fn under_workers(world: &mut World, change: impl FnOnce(&Path)) {
    while_stopped(world, change).await;
    world.wait_for_worker("a").await;
}

/// Replaces the server's store with a backup of it.
pub(crate) fn restore(store: &Path, backup: &Path) {
    fs::remove_dir_all(store).expect("removed");
    copy(backup, store);
}

/// Waits until every worker reports that the bucket lost history, and that it is degraded.
pub(crate) async fn until_noticed(world: &World, workers: usize) {
    let start = Instant::now();
    loop {
        let stats = world.stats(workers).await;
        let has_noticed = |data: &Value| {
            // While a worker's first echo after an outage is on its way, it is unhealthy.
            data["truth"]["history"] == "lost" && data["state"] == "degraded"
        };
        if stats.iter().all(|one| has_noticed(&one["data"])) {
            return;
        }

        let seen: Vec<_> = stats
            .iter()
            .map(|one| (&one["data"]["state"], &one["data"]["truth"]))
            .collect();
        assert!(
            start.elapsed() < NOTICE_TIMEOUT,
            "not every worker notices: {seen:?}"
        );
    }
}

/// Goal: after a restore from an older backup, an owner with lost writes gets the acknowledged
/// items, marked stale, and no write; every other owner is served as before.
///
/// Method: two workers of a shard run while the server's store is replaced by a backup. Alice has
/// written since the backup, bob has not, and carol is new. The rows in Postgres must stay, and a
/// worker that starts later must know from Postgres what happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_older_backup_is_noticed_and_not_mixed_in() {
    let mut world = World::start().await;
    let _a = world.worker("a").await;
    let other = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;

    let old = alice.put_text("a", "old", "x").await;
    bob.put_text("a", "note", "x").await;
    let backup = world.directory.join("backup");
    under_workers(&mut world, |store| copy(store, &backup)).await;
    alice.put_text("a", "new", "y").await;
    alice.put_text("a", "old", "z").await;
    let before = alice.done("a.list", &json!({})).await;
    let rows = "select string_agg(version::text, ',' order by version) from item";
    let rows_before = world.query("a", rows);

    under_workers(&mut world, |store| restore(store, &backup)).await;
    until_noticed(&world, 2).await;

    // Alice gets what was acknowledged, marked as not verifiable.
    for _ in 0..4 {
        let now = alice.done("a.list", &json!({})).await;
        assert_eq!(now["items"], before["items"]);
        assert_eq!(now["stale"], true);
    }

    let strong = json!({"consistency": "strong"});
    let version = &old["item"]["version"];
    let put = json!({"kind": "text", "id": "old", "data": {"text": "w"}, "if_version": version});
    let read = alice.ask("a.list", &strong).await;
    let write = alice.ask("a.put", &put).await;
    read.refusal("truth_unavailable");
    write.refusal("truth_unavailable");

    // Bob is served as before, and so is a new owner.
    let written = bob.put_text("a", "note", "y").await;
    let read = bob.done("a.list", &json!({})).await;
    assert_eq!(read["items"][0], written["item"]);
    assert!(read["stale"].is_null(), "{read}");
    world.caller("carol").await.put_text("a", "note", "y").await;
    assert_eq!(
        world.query("a", rows),
        rows_before,
        "no row of the new history is mixed with those of the old"
    );

    // A worker that starts now knows it from Postgres.
    other.stop().await.expect("stopped in order");
    let _fresh = world.worker("a").await;
    until_noticed(&world, 2).await;
    let now = alice.done("a.list", &json!({})).await;
    assert_eq!(now["items"], before["items"]);
}

/// Goal: a restored bucket is noticed even after it has grown past the history that was lost.
///
/// Method: the backup is restored while no worker of shard a runs. Shard b, which never saw the
/// lost records, writes more than was lost; then a worker of shard a starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_bucket_that_has_grown_since_is_noticed() {
    let mut world = World::start().await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;

    alice.put_text("a", "note", "x").await;
    let backup = world.directory.join("backup");
    under_workers(&mut world, |store| copy(store, &backup)).await;
    let acknowledged = alice.put_text("a", "note", "y").await;
    worker.stop().await.expect("stopped in order");

    while_stopped(&mut world, |store| restore(store, &backup)).await;
    let _b = world.worker("b").await;

    for number in 0..20 {
        bob.put_text("b", &format!("note-{number}"), "x").await;
    }

    let _a = world.worker("a").await;

    let start = Instant::now();
    while world.stats(2).await[0]["data"]["truth"]["history"] != "lost" {
        assert!(start.elapsed() < NOTICE_TIMEOUT, "shard a does not notice");
    }

    let now = alice.done("a.list", &json!({})).await;
    assert_eq!(now["items"][0], acknowledged["item"]);
    assert_eq!(now["stale"], true);
}

/// Goal: a deleted and recreated bucket is noticed, and only owners with lost records are refused.
///
/// Method: the server's store is removed under a running worker, and `init` makes a new bucket.
/// Alice had written before, bob writes for the first time.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_and_recreated_bucket_is_noticed() {
    let mut world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;

    let acknowledged = alice.put_text("a", "note", "x").await;

    under_workers(&mut world, |store| {
        fs::remove_dir_all(store).expect("removed")
    })
    .await;
    let report = world.init(&world.settings("a")).await.expect("init");
    assert!(report.bucket_created);
    until_noticed(&world, 1).await;

    let now = alice.done("a.list", &json!({})).await;
    assert_eq!(now["items"][0], acknowledged["item"]);
    assert_eq!(now["stale"], true);
    let put = json!({"kind": "text", "data": {"text": "y"}});
    alice.ask("a.put", &put).await.refusal("truth_unavailable");
    world.caller("bob").await.put_text("a", "note", "x").await;
}
