//! The runbooks of docs/runbooks.md, played on real servers with the commands of the page.
//!
//! `make runbooks` runs these tests, which are too long for the usual suite, and shows how long each
//! runbook took. Only addresses, paths and passwords are other than on the page: its shell has
//! variables for them. While a runbook is played, requests go on where the page promises that.

mod broken;
mod desk;
mod full;
mod hub;
mod keys;
mod machines;
mod restored;
mod runbook;
mod shards;
mod upgrade;

use crate::harness::load::{Load, Outcome};
use crate::harness::{Caller, World, with_breaker};
use desk::Desk;
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::tokens::ALL_SCOPES;
use machines::Machines;
use serde_json::json;
use std::time::{Duration, Instant};

/// How many owners there are when a runbook begins.
const OWNERS: usize = 500;

/// How many items each of them has.
const ITEMS: usize = 4;

/// How many requests of the load have to succeed between two steps.
const MORE: u64 = 200;

/// How many callers the load has.
const CALLERS: usize = 4;

/// How long one of these items may take.
const FILL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take until a shard shows what only its copy has.
const STALE_TIMEOUT: Duration = Duration::from_secs(20);

/// How many owners write at the same time.
const WRITERS: usize = 16;

/// Starts an installation on one NATS server, which an administrator may change: shard a with two
/// workers and its owners. Returns the desk, and the owners' callers.
async fn with_shard_a() -> (Desk, Vec<Caller>) {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    world.init(&world.settings("a")).await.expect("init");
    let mut desk = desk_of(world);

    start_workers(&mut desk, "a").await;
    let callers = fill(desk.world(), "a", OWNERS).await;
    (desk, callers)
}

/// Lets the load go on for a while, ends it, and checks that nothing is lost on these shards and that
/// callers met nothing but these codes and other outcomes.
async fn finish(load: Load, shards: &[&str], codes: &[&str], others: &[Outcome]) {
    load.progress(MORE).await;
    let mut report = load.stop().await;

    report.verify(shards).await;
    report.is_clean();
    report.only(codes, others);
}

/// Waits until the shard shows an owner, whose last write was one more item, as its copy has them.
///
/// While the bucket does not answer, a worker shows the copy that it has in memory, which may be an
/// older one. Each worker finds out for itself that the bucket has lost history, within a second.
async fn check_stale(owner: &Caller) {
    let start = Instant::now();
    loop {
        let list = owner.done("a.list", &json!({})).await;
        let items = list["items"].as_array().map(Vec::len);
        if list["stale"] == true && items == Some(ITEMS + 1) {
            return;
        }

        assert!(start.elapsed() < STALE_TIMEOUT, "{list}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Checks that the owner cannot write.
async fn check_read_only(owner: &Caller) {
    let note = json!({"kind": "text", "id": "note-0", "data": {"text": "y"}});
    let refused = owner.ask("a.put", &note).await;

    refused.refusal("truth_unavailable");
}

/// Puts up a desk for a world whose only server holds the bucket, with the settings of shard a.
fn desk_of(world: World) -> Desk {
    let url = world.nats.url();
    let desk = Desk::new(Machines::new(world, "nats-1"));
    desk.machines.write_settings("a", &url);

    desk
}

/// Creates the database of shard b, writes its settings, and starts its workers.
async fn add_shard_b(desk: &mut Desk, bucket_url: &str) {
    let world = desk.world();
    world.init(&world.settings("b")).await.expect("init");
    desk.machines.write_settings("b", bucket_url);

    start_workers(desk, "b").await;
}

/// Drops the database of a shard, although workers use it.
fn lose_postgres(desk: &Desk, shard: &str) {
    let database = desk.world().database(shard);
    let statement = format!("drop database {database} with (force)");
    let postgres = &desk.world().shared.postgres;
    postgres.query("postgres", &statement).expect("dropped");
}

/// Ends the workers of a shard as a crash does.
fn lose_workers(desk: &mut Desk, shard: &str) {
    let machine = format!("shard-{shard}");
    desk.machines.units.retain(|(of, _), _| *of != machine);
}

/// Starts the two workers of a shard, and waits until they are ready.
async fn start_workers(desk: &mut Desk, shard: &str) {
    let machine = format!("shard-{shard}");

    for unit in ["gofavorites-worker@1", "gofavorites-worker@2"] {
        desk.machines.start(&machine, unit);
        let key = (machine.clone(), unit.to_owned());
        let worker = desk.machines.units.get_mut(&key).expect("a worker");
        worker.is_ready().await;
    }
}

/// Puts the items of that many owners, and returns their callers.
async fn fill(world: &World, shard: &str, owners: usize) -> Vec<Caller> {
    let client = world.connect_at(&world.url(shard), "gateway").await;
    let callers: Vec<Caller> = (0..owners)
        .map(|number| {
            let hour = Duration::from_secs(3_600);
            let token = world.token(&format!("owner-{number}"), ALL_SCOPES, hour);
            Caller::new(client.clone(), token)
        })
        .collect();

    let put_all = |caller: Caller| async move {
        for number in 0..ITEMS {
            let id = format!("note-{number}");
            put_until_kept(&caller, shard, &id).await;
        }
    };
    futures::stream::iter(callers.clone())
        .for_each_concurrent(WRITERS, put_all)
        .await;

    callers
}

/// Puts an item, and again while the busy machine makes the worker wait for its bucket.
async fn put_until_kept(caller: &Caller, shard: &str, id: &str) {
    let start = Instant::now();
    let put = json!({"kind": "text", "id": id, "data": {"text": "x"}});

    loop {
        let reply = caller.ask(&format!("{shard}.put"), &put).await;
        if reply.body["error"].is_null() {
            return;
        }
        reply.refusal("truth_unavailable");
        assert!(start.elapsed() < FILL_TIMEOUT, "{}", reply.body);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Checks that these owners have all their items on the shard.
async fn check_filled(callers: &[Caller], shard: &str) {
    for caller in callers {
        let list = caller.done(&format!("{shard}.list"), &json!({})).await;

        assert_eq!(
            list["items"].as_array().map(Vec::len),
            Some(ITEMS),
            "{list}"
        );
        assert!(list["stale"].is_null(), "{list}");
    }
}
