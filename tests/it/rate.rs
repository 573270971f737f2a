//! The rate of one owner's requests: what a request costs, and how clients wait.

use crate::harness::{Caller, Worker, World};
use gofavorites::client::{Client, Put};
use gofavorites::config::Settings;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The burst of the costs below. It comes back at 1 a second.
const BURST: u64 = 40;

fn settings_with(world: &World, rate_per_s: u64, rate_burst: u64) -> Settings {
    let mut settings = world.settings("a");
    settings.limits.rate_per_s = rate_per_s;
    settings.limits.rate_burst = rate_burst;

    settings
}

async fn worker_with(world: &World, rate_per_s: u64, rate_burst: u64) -> Worker {
    let settings = settings_with(world, rate_per_s, rate_burst);
    world.worker_with(settings).await
}

/// Sends a request until one is refused, at most so often. Returns how many were answered.
async fn answered(caller: &Caller, what: &str, body: &Value, most: usize) -> usize {
    for number in 0..most {
        let reply = caller.ask(what, body).await;
        match reply.body["error"]["code"].as_str() {
            Some("rate_limited") => return number,
            Some("not_found") | None => {}
            Some(other) => panic!("refused as {other}"),
        }
    }

    most
}

/// Goal: what a request costs depends on its size and on that of its reply, and on the operations
/// of a batch.
///
/// Method: four owners have the same burst of 40, and each sends requests of another cost until it
/// is used up.
#[tokio::test(flavor = "multi_thread")]
async fn a_larger_request_costs_more_of_the_rate() {
    let world = World::start().await;
    let _a = worker_with(&world, 1, BURST).await;
    let large = json!({"kind": "text", "id": "n", "data": {"text": "x".repeat(50_000)}});
    let name = json!({"kind": "text", "id": "n"});
    let delete = |number: usize| json!({"op": "delete", "kind": "text", "id": number.to_string()});
    let ops: Vec<Value> = (0..60).map(delete).collect();
    let batch = json!({"mode": "each", "ops": ops});
    let none = json!({"kind": "text", "id": "x".repeat(200)});

    let cheap = answered(&world.caller("cheap").await, "a.get", &none, 30).await;
    let writer = answered(&world.caller("writer").await, "a.put", &large, 30).await;
    let reader = world.caller("reader").await;
    reader.done("a.put", &large).await;
    let reads = answered(&reader, "a.get", &name, 30).await;
    let batches = answered(&world.caller("batcher").await, "a.batch", &batch, 30).await;

    assert_eq!(cheap, 30, "each costs 1");
    // A put costs 1, 3 for the request and 3 for the reply; then a get 1, and 3 for the reply.
    assert!((6..=12).contains(&writer), "{writer} puts");
    assert!((9..=15).contains(&reads), "{reads} gets");
    // The refusals of 60 operations take less than 16 KiB, so a batch costs 7.
    assert!((6..=12).contains(&batches), "{batches} batches");
}

/// Goal: after a request that costs more than the burst, later ones wait until it is paid.
///
/// Method: an owner with a burst of 2 sends a batch that costs 7 and is refused as often as it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_the_burst_is_paid_afterwards() {
    let world = World::start().await;
    let _a = worker_with(&world, 1, 2).await;
    let alice = world.caller("alice").await;
    let put = |number: usize| json!({"op": "put", "kind": "text", "id": number.to_string(), "data": {"text": "x"}});
    let ops: Vec<Value> = (0..60).map(put).collect();

    alice
        .done("a.batch", &json!({"mode": "each", "ops": ops}))
        .await;
    let reply = alice.ask("a.list", &json!({"limit": 1})).await;

    let details = &reply.refusal("rate_limited")["details"];
    let number = |name: &str| details[name].as_u64().expect("a number");
    assert!(number("used") > number("limit"), "{details}");
    assert!(number("retry_after_ms") > 1_000, "{details}");
}

/// Goal: the client waits as long as the service says, and sends the request again.
///
/// Method: a worker permits 10 requests a second and a burst of 1. A client sends 12 writes and reads
/// one after the other, more than fit into the burst.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_waits_for_its_rate() {
    let world = World::start().await;
    let _a = worker_with(&world, 10, 1).await;
    let nats = world.connect_at(&world.nats.url(), "gateway").await;
    let scopes = "favorites:read favorites:write";
    let token = world.token("alice", scopes, Duration::from_secs(600));
    let alice = Client::new(nats).expect("a prefix").with_token(token);

    for number in 0..6 {
        let put = Put::text("x").id(number.to_string());
        alice.put(&put).await.expect("stored after a wait");
        alice.usage().await.expect("read after a wait");
    }
}

/// Goal: an owner whose set is evicted from memory does not get a full burst again.
///
/// Method: a worker's cache has room for one set. An owner uses up a burst of 5 that comes back at 1 a
/// second. Then others read their own sets, and the owner sends more.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_gives_no_burst_back() {
    let world = World::start().await;
    let mut settings = settings_with(&world, 1, 5);
    settings.read.cache_bytes = 16_384;
    let worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let text = "x".repeat(8_000);
    alice.put_text("a", "note", &text).await;
    let name = json!({"kind": "text", "id": "note"});
    assert!(answered(&alice, "a.get", &name, 30).await < 10);

    let used_up = Instant::now();
    for number in 0..8 {
        let other = world.caller(&format!("other-{number}")).await;
        other.put_text("a", "note", &text).await;
    }
    let more = answered(&alice, "a.get", &name, 30).await;

    let came_back = used_up.elapsed().as_secs() as usize + 1;
    assert!(more <= came_back, "{more} more, {came_back} came back");
    worker.stop().await.expect("stopped in order");
}
