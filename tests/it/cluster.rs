//! Three servers that keep the bucket together, whose leader changes, pauses and comes back.

use crate::harness::load::{Load, Outcome};
use crate::harness::{World, Writers, with_breaker};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

const WRITES: usize = 10_000;
const WRITERS: usize = 9;
const STEPDOWN: &str = "$JS.API.STREAM.LEADER.STEPDOWN.KV_favorites";

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_and_no_chain_breaks_while_the_leader_steps_down() {
    let (mut world, cluster) = World::cluster_with(&with_breaker(ACCOUNTS_CONF), 64).await;
    world.truth.call_ms = 1_000;
    let urls = [
        world.nats.url(),
        cluster.others[0].url(),
        cluster.others[1].url(),
    ];
    let writers = Writers::start(&world, &urls, WRITERS, WRITES).await;
    let breaker = world.connect_breaker().await;
    let (began, mut stepped) = (Instant::now(), 0);
    while !writers.are_done() {
        assert!(
            began.elapsed() < Duration::from_secs(400),
            "the writers do not get on"
        );
        let asked =
            tokio::time::timeout(Duration::from_secs(2), breaker.request(STEPDOWN, "".into()))
                .await;
        if let Ok(Ok(answer)) = asked {
            let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            stepped += u32::from(answer["success"] == true);
        }
        writers.progress(300).await;
    }
    let done = writers.finish().await;
    println!(
        "{} writes ({} of them batches, {} records) by {WRITERS} writers in {:?}, {stepped} step-downs: {} conflicts, \
         {} in doubt, {} of which had landed, {} not taken, {} looks at half a write",
        done.acknowledged.len(),
        done.batches,
        done.records(),
        began.elapsed(),
        done.conflicts,
        done.in_doubt,
        done.landed,
        done.unavailable,
        done.torn,
    );
    assert!(
        done.acknowledged.len() >= WRITES && stepped >= 15,
        "{stepped} step-downs"
    );
    let found = done.check_all(&world).await;
    println!(
        "{found} records of the whole history: each chain unbroken, each digest right, nothing lost"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_and_comes_back_fools_nobody() {
    let (mut world, mut cluster) = World::cluster(&with_breaker(ACCOUNTS_CONF)).await;
    world.urls.insert("b".into(), cluster.others[0].url());
    world.urls.insert("c".into(), cluster.others[1].url());
    let _workers = (
        world.worker("a").await,
        world.worker("b").await,
        world.worker("c").await,
    );
    let breaker = world.connect_breaker().await;
    let load = Load::start_strong(&world, &["a", "b", "c"], 12).await;
    load.progress(200).await;
    let began = Instant::now();
    for round in 0..4 {
        // Callers are at the first server, so another has to lead.
        while world.wait_for_leader(|_| true, 2).await == "n1" {
            let _ = breaker.request(STEPDOWN, "".into()).await;
        }
        let paused = world.wait_for_leader(|name| name != "n1", 2).await;
        cluster
            .server(&paused)
            .process()
            .signal(Signal::SIGSTOP)
            .expect("paused");
        let since = Instant::now();
        let next = world.wait_for_leader(|name| name != paused, 1).await;
        let (took, before) = (since.elapsed(), load.answered());
        // What the paused one does not know of.
        load.progress(100).await;
        cluster
            .server(&paused)
            .process()
            .signal(Signal::SIGCONT)
            .expect("continued");
        load.progress(300).await;
        world.wait_for_leader(|_| true, 2).await;
        println!(
            "round {round}: {paused} was paused, {next} led after {took:?}, {} requests were answered since",
            load.answered() - before,
        );
    }
    let ended = Instant::now();
    let mut report = load.stop().await;
    let [writes, reads] = report.counts();
    println!(
        "writes {writes:?}\nreads {reads:?}\nwithin {:?}",
        ended - began
    );
    let codes = [
        "truth_unavailable",
        "in_doubt",
        "deadline_exceeded",
        "overloaded",
        "auth_unavailable",
    ];
    report.only(
        &codes,
        &[Outcome::NoReply, Outcome::Pending, Outcome::Stale],
    );
    report.verify(&["a", "b", "c"]).await;
    report.is_clean();
}
