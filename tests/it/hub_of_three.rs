//! A hub as in production: three servers that replicate the bucket, with a leaf for each shard.

use crate::harness::{World, Writers};
use std::time::{Duration, Instant};

/// How many records the writers write.
const WRITES: usize = 3_000;
/// The number of writers.
const WRITERS: usize = 6;

/// How many records of a key the bucket keeps. It is so large that the bucket forgets no record.
const HISTORY: i64 = 64;

/// Goal: no acknowledged write is lost when a server of the hub is killed.
///
/// Method: writers at both leaves write through their links. Three times the bucket's leader is
/// killed with `kill -9`, and started again after the others have continued without it. In the end
/// every acknowledged record must be in the bucket, and every chain unbroken.
#[tokio::test(flavor = "multi_thread")]
async fn killing_a_server_of_the_hub_loses_no_acknowledged_write() {
    let (mut world, mut hub) = World::with_a_hub_of_three_and(HISTORY).await;
    world.truth.call_ms = 1_000;
    let urls = [world.nats.url(), hub.b.url()];
    let writers = Writers::start(&world, &urls, WRITERS, WRITES).await;

    let start = Instant::now();
    for round in 0..3 {
        writers.progress(WRITES / 6).await;
        let killed = world.wait_for_leader(|_| true, 2).await;
        let server = hub.server(&killed);
        server.process().kill9().expect("killed");

        let outage = Instant::now();
        let next = world.wait_for_leader(|name| name != killed, 1).await;
        println!(
            "round {round}: {killed} was killed, {next} leads after {:?}",
            outage.elapsed()
        );
        writers.progress(WRITES / 10).await;

        let server = hub.server(&killed);
        server.restart().await.expect("started again");
        world.wait_for_leader(|_| true, 2).await;
    }

    while !writers.are_done() {
        assert!(
            start.elapsed() < Duration::from_secs(200),
            "the writers make no progress"
        );
        writers.progress(WRITES).await;
    }

    let done = writers.finish().await;
    println!(
        "{} writes in {:?}: {} conflicts, {} in doubt, {} of which had landed, {} not taken",
        done.acknowledged.len(),
        start.elapsed(),
        done.conflicts,
        done.in_doubt,
        done.landed,
        done.unavailable,
    );
    assert!(done.acknowledged.len() >= WRITES);
    done.check_all(&world).await;
}
