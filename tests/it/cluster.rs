//! Three servers with replicas of the bucket, whose leader changes, pauses and comes back.

use crate::harness::load::{Load, Outcome};
use crate::harness::{Cluster, World, Writers, extent, with_breaker};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

const WRITERS: usize = 9;

/// For how many writes the leader must have changed once.
const WRITES_OF_A_LEADER_MAX: usize = 650;

/// How long the writers may take.
const WRITERS_TIMEOUT: Duration = Duration::from_secs(400);

const STEPDOWN: &str = "$JS.API.STREAM.LEADER.STEPDOWN.KV_favorites";

/// Goal: leader changes lose no acknowledged write, and break no chain.
///
/// Method: nine writers, connected to three servers, write to the bucket itself until 2,500 writes
/// (at night 10,000) are acknowledged. Meanwhile the leader of the bucket is told to step down,
/// again and again. At last the complete bucket is read and compared with what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_while_the_leader_steps_down() {
    let (mut world, cluster) = World::cluster_with(&with_breaker(ACCOUNTS_CONF), 64).await;
    world.truth.call_ms = 1_000;
    let urls = [
        world.nats.url(),
        cluster.others[0].url(),
        cluster.others[1].url(),
    ];
    let breaker = world.connect_breaker().await;

    let writes = extent(2_500, 10_000);
    let start = Instant::now();
    let writers = Writers::start(&world, &urls, WRITERS, writes).await;
    let mut step_downs = 0_usize;

    while !writers.are_done() {
        assert!(
            start.elapsed() < WRITERS_TIMEOUT,
            "the writers make no progress"
        );

        let request = breaker.request(STEPDOWN, "".into());
        if let Ok(Ok(reply)) = tokio::time::timeout(Duration::from_secs(2), request).await {
            let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
            step_downs += usize::from(reply["success"] == true);
        }

        writers.progress(300).await;
    }

    let done = writers.finish().await;
    println!(
        "{} writes ({} of them batches, {} records) by {WRITERS} writers in {:?}, {step_downs} \
         step-downs: {} conflicts, {} in doubt, of which {} were stored, {} unavailable, {} reads \
         of half a write",
        done.acknowledged.len(),
        done.batches,
        done.records(),
        start.elapsed(),
        done.conflicts,
        done.in_doubt,
        done.landed,
        done.unavailable,
        done.torn,
    );

    assert!(done.acknowledged.len() >= writes);
    let step_downs_min = writes / WRITES_OF_A_LEADER_MAX;
    assert!(step_downs >= step_downs_min, "{step_downs} step-downs");

    let records = done.check_all(&world).await;
    println!("{records} records: each chain unbroken, each digest right, no record lost");
}

/// Pauses the leader of the bucket until another server leads and has done work that the paused
/// one has missed.
async fn pause_leader(world: &World, cluster: &mut Cluster, load: &Load, round: usize) {
    let breaker = world.connect_breaker().await;

    // Callers are connected to the first server, so another one must lead.
    while world.wait_for_leader(|_| true, 2).await == "n1" {
        let _ = breaker.request(STEPDOWN, "".into()).await;
    }

    let paused = world.wait_for_leader(|name| name != "n1", 2).await;
    let process = cluster.server(&paused).process();
    process.signal(Signal::SIGSTOP).expect("paused");

    let since = Instant::now();
    let next = world.wait_for_leader(|name| name != paused, 1).await;
    let took = since.elapsed();
    let answered = load.answered();
    load.progress(100).await;

    process.signal(Signal::SIGCONT).expect("continued");
    load.progress(300).await;
    world.wait_for_leader(|_| true, 2).await;

    println!(
        "round {round}: {paused} was paused, {next} led after {took:?}, {} requests were answered \
         since",
        load.answered() - answered,
    );
}

/// Goal: a leader that was paused and comes back does not make a worker read or write on an old
/// state.
///
/// Method: three shards have a worker each, on three servers. Twelve callers write and make strong
/// reads while the leader is paused twice (at night four times). Every reply is checked against a
/// model of what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_that_comes_back_misleads_no_worker() {
    let (mut world, mut cluster) = World::cluster(&with_breaker(ACCOUNTS_CONF)).await;
    world.urls.insert("b".into(), cluster.others[0].url());
    world.urls.insert("c".into(), cluster.others[1].url());
    let _a = world.worker("a").await;
    let _b = world.worker("b").await;
    let _c = world.worker("c").await;
    let load = Load::start_strong(&world, &["a", "b", "c"], 12).await;
    load.progress(200).await;

    let start = Instant::now();
    for round in 0..extent(2, 4) {
        pause_leader(&world, &mut cluster, &load, round).await;
    }

    let took = start.elapsed();

    let mut report = load.stop().await;
    let [writes, reads] = report.counts();
    println!("writes {writes:?}\nreads {reads:?}\nwithin {took:?}");

    let codes = [
        "truth_unavailable",
        "in_doubt",
        "deadline_exceeded",
        "overloaded",
        "auth_unavailable",
    ];
    let others = [Outcome::NoReply, Outcome::Pending, Outcome::Stale];
    report.only(&codes, &others);
    report.verify(&["a", "b", "c"]).await;
    report.is_clean();
}
