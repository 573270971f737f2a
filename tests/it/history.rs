//! A truth that went back: noticed, told apart by owner, and mixed with nothing.

use crate::harness::{World, copy};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long it may take to notice.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the NATS server, lets `change` work on its store, and starts it again.
async fn while_down(world: &mut World, change: impl FnOnce(&Path)) {
    world.nats.stop().expect("stopped");
    change(&world.directory.join("store"));
    world.nats.restart().await.expect("started again");
}

/// As [`while_down`], and shard `a` is there again.
async fn under_workers(world: &mut World, change: impl FnOnce(&Path)) {
    while_down(world, change).await;
    world.wait_for_worker("a").await;
}

async fn until_noticed(world: &World, workers: usize) {
    let since = Instant::now();
    loop {
        let told = world.stats(workers).await;
        if told
            .iter()
            .all(|one| one["data"]["truth"]["history"] == "lost")
        {
            assert!(told.iter().all(|one| one["data"]["state"] == "degraded"));
            return;
        }
        let truths: Vec<_> = told.iter().map(|one| &one["data"]["truth"]).collect();
        assert!(
            since.elapsed() < PATIENCE,
            "not everybody notices: {truths:?}"
        );
    }
}

/// A restored backup: alice has written since it was made, bob has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_restored_from_an_older_backup_is_noticed_and_mixes_nothing() {
    let mut world = World::start().await;
    let (_a, other) = (world.worker("a").await, world.worker("a").await);
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let old = alice.put_text("a", "old", "x").await;
    bob.put_text("a", "note", "x").await;
    let backup = world.directory.join("backup");
    under_workers(&mut world, |store| copy(store, &backup)).await;
    alice.put_text("a", "new", "y").await;
    alice.put_text("a", "old", "z").await;
    let before = alice.done("a.list", &json!({})).await;
    let rows = "select string_agg(version::text, ',' order by version) from item";
    let kept = world.query("a", rows);
    under_workers(&mut world, |store| {
        fs::remove_dir_all(store).expect("removed");
        copy(&backup, store);
    })
    .await;
    until_noticed(&world, 2).await;
    // Alice is served what was acknowledged, and told that it cannot be checked.
    for _ in 0..4 {
        let now = alice.done("a.list", &json!({})).await;
        assert_eq!(
            (&now["items"], &now["stale"]),
            (&before["items"], &json!(true))
        );
    }
    alice
        .ask("a.list", &json!({"consistency": "strong"}))
        .await
        .refusal("truth_unavailable");
    let put = json!({"kind": "text", "id": "old", "data": {"text": "w"}, "if_version": old["item"]["version"]});
    alice.ask("a.put", &put).await.refusal("truth_unavailable");
    // Bob goes on as before, and so does somebody new.
    let written = bob.put_text("a", "note", "y").await;
    let read = bob.done("a.list", &json!({})).await;
    assert_eq!(
        (&read["items"][0], read["stale"].is_null()),
        (&written["item"], true)
    );
    world.caller("carol").await.put_text("a", "note", "y").await;
    assert_eq!(
        world.query("a", rows),
        kept,
        "nothing of the new history is mixed with the rows of the old"
    );
    // A worker that starts now knows it from Postgres.
    other.stop().await.expect("stopped in order");
    let _fresh = world.worker("a").await;
    until_noticed(&world, 2).await;
    assert_eq!(
        alice.done("a.list", &json!({})).await["items"],
        before["items"]
    );
}

/// The backup has grown past the old history before any worker looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_bucket_that_has_grown_since_is_noticed_by_who_comes_back() {
    let mut world = World::start().await;
    let worker = world.worker("a").await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    alice.put_text("a", "note", "x").await;
    let backup = world.directory.join("backup");
    under_workers(&mut world, |store| copy(store, &backup)).await;
    let acknowledged = alice.put_text("a", "note", "y").await;
    worker.stop().await.expect("stopped in order");
    while_down(&mut world, |store| {
        fs::remove_dir_all(store).expect("removed");
        copy(&backup, store);
    })
    .await;
    // Another shard, which knew nothing of the old history, writes on.
    let _b = world.worker("b").await;
    for number in 0..20 {
        bob.put_text("b", &format!("note-{number}"), "x").await;
    }
    let _a = world.worker("a").await;
    let since = Instant::now();
    loop {
        let told = world.stats(2).await;
        if told[0]["data"]["truth"]["history"] == "lost" {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "shard a does not notice");
    }
    let now = alice.done("a.list", &json!({})).await;
    assert_eq!(
        (&now["items"][0], &now["stale"]),
        (&acknowledged["item"], &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_deleted_and_made_again_is_noticed() {
    let mut world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let acknowledged = alice.put_text("a", "note", "x").await;
    under_workers(&mut world, |store| {
        fs::remove_dir_all(store).expect("removed")
    })
    .await;
    assert!(
        world
            .init(&world.settings("a"))
            .await
            .expect("init")
            .bucket_made
    );
    until_noticed(&world, 1).await;
    let now = alice.done("a.list", &json!({})).await;
    assert_eq!(
        (&now["items"][0], &now["stale"]),
        (&acknowledged["item"], &json!(true))
    );
    alice
        .ask("a.put", &json!({"kind": "text", "data": {"text": "y"}}))
        .await
        .refusal("truth_unavailable");
    world.caller("bob").await.put_text("a", "note", "x").await;
}
