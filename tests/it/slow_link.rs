//! A slow link to the hub that holds the bucket: slow is not stuck.

use crate::harness::load::{Load, Outcome};
use crate::harness::{World, exclusive, extent};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Of each direction: an answer takes 400 ms at least.
const DELAY: Duration = Duration::from_millis(200);

/// 1 Mbit/s.
const BYTES_A_SECOND: u64 = 125_000;

/// The size of each note that the shard has missed. The link needs 0.16 s for it.
const NOTE_BYTES: usize = 20_000;

/// How long the shard may take to catch up, beside the requests of its callers.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(240);

/// How long the worker may take to be healthy again once the link is fast.
const MEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Goal: behind a slow link, the projection catches up beside the requests of callers, every request
/// is answered in its time, the bucket does not count as unavailable, and no acknowledged write is lost.
///
/// Method: a shard misses half a megabyte that another one writes. Then its link to the hub gets 1 Mbit/s and
/// 200 ms, its worker starts, and four callers load it until it has caught up.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_is_no_outage() {
    let _permit = exclusive().await;
    let (world, hub) = World::behind_a_hub().await;
    let first = world.worker("a").await;
    let other = world.worker("b").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "first", "x").await;
    first.stop().await.expect("stopped in order");
    for number in 0..extent(25, 200) {
        let text = format!("{number:05}").repeat(NOTE_BYTES / 5);
        alice.put_text("b", &format!("note-{number}"), &text).await;
    }
    let version = alice.done("b.list", &json!({"limit": 1})).await["owner_version"].clone();
    other.stop().await.expect("stopped in order");

    hub.link.slow_down(DELAY, BYTES_A_SECOND);
    let start = Instant::now();
    let _worker = world.worker("a").await;
    let load = Load::start(&world, &["a"], 4, false).await;
    let caught_up = format!("select sequence >= {version} from cursor");
    while world.query("a", &caught_up) != "t" {
        assert!(start.elapsed() < CATCH_UP_TIMEOUT, "it does not catch up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let caught_up = start.elapsed();
    load.progress(20).await;
    let mut report = load.stop().await;
    let counts = report.counts();
    println!("slow link: caught up after {caught_up:?}, {counts:?}");
    let unavailable = Outcome::Refused("truth_unavailable".into());
    let of_all = |outcome: &Outcome| counts.iter().filter_map(|one| one.get(outcome)).sum();
    let refused: usize = of_all(&unavailable);
    let all: usize = counts.iter().flat_map(|one| one.values()).sum();
    // With answers too large for the link, three of four.
    assert!(
        refused * 10 <= all,
        "the bucket counted as unavailable: {counts:?}"
    );

    hub.link.heal();
    let is_healthy = |data: &Value| data["state"] == "healthy";
    world
        .wait_for_stats("the link is healed", MEND_TIMEOUT, is_healthy)
        .await;
    let listed = alice.done("a.list", &json!({"limit": 1})).await;
    assert_eq!(listed["owner_version"], version);
    report.verify(&["a"]).await;
    report.is_clean();
}
