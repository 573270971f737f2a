//! Add a shard, and lose one: its workers, its Postgres, its site.

use super::desk::Desk;
use super::machines::Machines;
use super::runbook::Runbook;
use super::{
    CALLERS, MORE, OWNERS, add_shard_b, check_filled, fill, finish, lose_postgres, lose_workers,
    start_workers, with_shard_a,
};
use crate::harness::load::{Load, Outcome};
use crate::harness::{Caller, World};
use std::fs;

/// Ends the load, and checks that it had no other outcomes than these, that every acknowledged write
/// is on the shards, and that each owner has all items on shard b.
async fn finish_with_b(load: Load, codes: &[&str], others: &[Outcome], owners: &[Caller]) {
    finish(load, &["a", "b"], codes, others).await;
    check_filled(owners, "b").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_add_a_shard() {
    let (mut desk, owners) = with_shard_a().await;
    desk.turn_to("b");
    let load = Load::start(desk.world(), &["a"], CALLERS, false).await;
    load.progress(MORE).await;

    let mut runbook = Runbook::open("Add a shard", "");
    runbook.next(&mut desk).await;
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    finish_with_b(load, &[], &[Outcome::Pending], &owners).await;
}

/// Both workers are killed; what was on its way to them is repeated by the callers.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_lose_a_shards_workers() {
    let (mut desk, owners) = with_shard_a().await;
    let url = desk.world().nats.url();
    add_shard_b(&mut desk, &url).await;
    let load = Load::start(desk.world(), &[""], CALLERS, true).await;
    load.progress(MORE).await;

    lose_workers(&mut desk, "b");
    load.progress(MORE).await;
    let mut runbook = Runbook::open("Lose a shard", "Its workers");
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    let others = [Outcome::Pending, Outcome::NoReply];
    finish_with_b(load, &["in_doubt"], &others, &owners).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_lose_a_shards_postgres() {
    let (mut desk, owners) = with_shard_a().await;
    let url = desk.world().nats.url();
    add_shard_b(&mut desk, &url).await;
    desk.turn_to("b");
    let load = Load::start(desk.world(), &["b"], CALLERS, false).await;
    load.progress(MORE).await;

    lose_postgres(&desk, "b");
    load.progress(MORE).await;
    let mut runbook = Runbook::open("Lose a shard", "Its Postgres");
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    finish_with_b(load, &[], &[Outcome::Pending], &owners).await;
}

/// Two blocks at a hub. The second one is lost, with the disk of its leaf; the first one goes on.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_lose_a_shards_site() {
    let (world, leaves) = World::with_leaves().await;
    let hub_url = leaves.hub.url();
    world.init(&world.settings("a")).await.expect("init");
    let mut desk = Desk::new(Machines::new(world, "leaf-a"));
    desk.machines.servers.insert("hub".into(), leaves.hub);
    desk.machines.servers.insert("leaf-b".into(), leaves.b);
    desk.machines.write_settings("a", &hub_url);
    start_workers(&mut desk, "a").await;
    add_shard_b(&mut desk, &hub_url).await;
    desk.turn_to("b");
    let owners = fill(desk.world(), "a", OWNERS).await;
    let load = Load::start(desk.world(), &["a", ""], CALLERS, false).await;
    load.progress(MORE).await;

    lose_workers(&mut desk, "b");
    lose_postgres(&desk, "b");
    let leaf = desk.machines.server("leaf-b");
    leaf.process().kill9().expect("killed");
    fs::remove_dir_all(desk.world().directory.join("leaf-b/store")).expect("removed");
    load.progress(MORE).await;
    let mut runbook = Runbook::open("Lose a shard", "Its site");
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    finish_with_b(load, &[], &[Outcome::Pending], &owners).await;
}
