//! Records as large as they may be, more of them than a NATS server keeps for one connection (64 MiB) before it ends it;
//! and whoever goes through the bucket meanwhile.

use crate::harness::{Caller, Proxy, World, Writers, with_breaker};
use gofavorites::app::Maintenance;
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::maintenance::Round;
use gofavorites::requester::Requester;
use gofavorites::truth::{Bucket, RecordList};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Owners, and how many heavy items each has: together about 75 MB.
const OWNERS: usize = 4;
const EACH: usize = 95;
/// The most that one step of the projection may take in, and one record beyond it.
const STEP_BYTES: usize = (8 << 20) + (1 << 20);

/// An item of about 196 kB, as the limits allow.
fn heavy(number: usize) -> Value {
    let meta: BTreeMap<String, String> = (0..32)
        .map(|at| (format!("m{at}"), "m".repeat(4_096)))
        .collect();
    json!({"kind": "text", "id": format!("heavy-{number}"), "data": {"text": "t".repeat(65_536)}, "meta": meta})
}

/// How often the server has ended a connection that did not take what it was sent.
fn cuts(world: &World) -> usize {
    let log = std::fs::read_to_string(world.directory.join("nats.log")).expect("the server's log");
    log.matches("Slow Consumer Detected").count()
}

fn maintenance(world: &World) -> Settings {
    let mut settings = world.settings("a");
    settings.nats.user = "maintain".into();
    settings.nats.password = world.secrets.nats("maintain").into();
    settings.nats.inbox_prefix = "_INBOX_maintain".into();
    settings
}

async fn in_parallel(callers: &[Caller], shard: &'static str) {
    let all = callers.iter().map(|caller| async move {
        for number in 0..EACH {
            caller.done(&format!("{shard}.put"), &heavy(number)).await;
        }
    });
    futures::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_records_cut_off_nobody_who_follows_lists_or_reads_them() {
    let (world, _a, b) = World::with_two_shards().await;
    let mut callers = Vec::new();
    for number in 0..OWNERS {
        let caller = world.caller(&format!("owner-{number}")).await;
        caller.put_text("b", "light", "x").await;
        callers.push(caller);
    }
    b.stop().await.expect("stopped in order");
    in_parallel(&callers, "a").await;
    assert_eq!(cuts(&world), 0, "while they were written");
    let _b = world.worker("b").await;
    let since = Instant::now();
    let last = callers[0].put_text("a", "light", "y").await;
    world.until_projected("b", &last).await;
    println!("caught up in {:?}", since.elapsed());
    let expected = (OWNERS * (EACH + 1)).to_string();
    assert_eq!(world.query("b", "select count(*) from item"), expected);
    assert_eq!(cuts(&world), 0, "while the shard caught up");
    let round = Maintenance::build(&maintenance(&world))
        .await
        .expect("built")
        .once()
        .await
        .expect("a round");
    assert_eq!(
        round,
        Round {
            owners: OWNERS as u64,
            ..Round::default()
        }
    );
    assert_eq!(cuts(&world), 0, "while the bucket was listed");
    steps_are_bounded(&world.bucket("a").await).await;
    assert_eq!(cuts(&world), 0, "while it was followed");
    // A shard that has never seen the owners reads all of each, side by side.
    let _c = world.worker("c").await;
    let reads = callers.iter().map(|caller| async {
        caller
            .done("c.get", &json!({"kind": "text", "id": "light"}))
            .await
    });
    futures::future::join_all(reads).await;
    assert_eq!(cuts(&world), 0, "while owners were brought");
}

/// Follows the bucket from its beginning: no step takes in more than it may.
async fn steps_are_bounded(bucket: &Bucket) {
    let newest = bucket.position().await.expect("a position").newest;
    let mut follower = bucket.follow(0).await.expect("a follower");
    let mut at = 0;
    while at < newest {
        let entries = follower.next_batch(1_000).await.expect("entries");
        at = entries.last().expect("never empty").sequence;
        let bytes: usize = entries
            .iter()
            .filter_map(|one| Some(one.record.as_ref()?.1.value.len()))
            .sum();
        assert!(bytes <= STEP_BYTES, "{bytes} bytes in one step");
        // As slow as a database may be.
        sleep(Duration::from_millis(20)).await;
    }
}

/// The bucket, over a link of its own.
async fn over(world: &World, proxy: &Proxy) -> Bucket {
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let requester = Requester::start(world.connect_at(&url, "worker").await)
        .await
        .expect("an inbox");
    Bucket::new(requester, world.truth.clone(), "a")
}

/// Loses what is on its way: cuts the link once the server has sent it, and before it is here.
async fn lose(proxy: &Proxy) {
    sleep(Duration::from_millis(450)).await;
    proxy.cut();
    sleep(Duration::from_millis(100)).await;
    proxy.heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_through_the_bucket_goes_on_from_there_when_the_connection_is_lost() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    Writers::start(&world, &[world.nats.url()], 8, 1_500)
        .await
        .finish()
        .await;
    let bucket = world.bucket("a").await;
    let newest = bucket.position().await.expect("a position").newest;
    let whole = listed(&mut bucket.list_records().await.expect("a list")).await;
    assert!(whole.len() > 800, "more than one pull: {}", whole.len());

    let proxy = Proxy::start(world.nats.url().trim_start_matches("nats://")).await;
    let bucket = over(&world, &proxy).await;
    proxy.delay(Duration::from_millis(250));
    let mut list = bucket.list_records().await.expect("a list");
    let mut seen = Vec::new();
    let mut losses = 0;
    loop {
        // What was pulled is given at once; what was not is on its way for half a second.
        match timeout(Duration::from_millis(20), list.next()).await {
            Ok(next) => match next.expect("it goes on") {
                Some((_, record)) => seen.push(record.version.get()),
                None => break,
            },
            Err(_) if losses == 0 && !seen.is_empty() => {
                losses += 1;
                lose(&proxy).await;
            }
            Err(_) => {}
        }
    }
    assert_eq!(
        (losses, &seen),
        (1, &whole),
        "each current record, once and in order"
    );

    proxy.delay(Duration::from_millis(250));
    let mut follower = bucket.follow(0).await.expect("a follower");
    let (mut at, mut losses) = (0, 0);
    while at < newest {
        match timeout(Duration::from_millis(20), follower.next_batch(100)).await {
            Ok(entries) => {
                for entry in entries.expect("it goes on") {
                    assert!(entry.sequence > at, "{} after {at}", entry.sequence);
                    at = entry.sequence;
                    seen.push(at);
                }
            }
            Err(_) if losses == 0 && at > 0 => {
                losses += 1;
                lose(&proxy).await;
            }
            Err(_) => {}
        }
    }
    let followed: BTreeSet<u64> = seen[whole.len()..].iter().copied().collect();
    assert_eq!(losses, 1);
    assert!(
        whole.iter().all(|version| followed.contains(version)),
        "every record"
    );
}

async fn listed(list: &mut RecordList) -> Vec<u64> {
    let mut versions = Vec::new();
    while let Some((_, record)) = list.next().await.expect("a record") {
        versions.push(record.version.get());
    }
    versions
}

async fn consumers(world: &World) -> usize {
    let answer = world
        .connect_breaker()
        .await
        .request("$JS.API.CONSUMER.NAMES.KV_favorites", "".into())
        .await;
    let names: Value = serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON");
    names["consumers"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_went_through_the_bucket_leaves_no_consumer_behind() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "one", "x").await;
    let maintenance = Maintenance::build(&maintenance(&world))
        .await
        .expect("built");
    for _ in 0..30 {
        assert_eq!(maintenance.once().await.expect("a round").owners, 1);
    }
    let bucket = world.bucket("a").await;
    for _ in 0..10 {
        bucket
            .follow(0)
            .await
            .expect("a follower")
            .next_batch(100)
            .await
            .expect("entries");
    }
    let since = Instant::now();
    // That of the projection.
    while consumers(&world).await > 1 {
        assert!(
            since.elapsed() < Duration::from_secs(8),
            "{} are left",
            consumers(&world).await
        );
        sleep(Duration::from_millis(100)).await;
    }
    println!("gone after {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_waits_for_room_among_the_consumers() {
    let accounts = with_breaker(ACCOUNTS_CONF)
        .replace("jetstream: enabled", "jetstream: { max_consumers: 3 }");
    let world = World::with_accounts(&accounts).await;
    world.init(&world.settings("a")).await.expect("init");
    let maintenance = Maintenance::build(&maintenance(&world))
        .await
        .expect("built");
    let breaker = world.connect_breaker().await;
    let config =
        json!({"ack_policy": "none", "mem_storage": true, "inactive_threshold": 1_000_000_000});
    let full = async {
        for number in 0.. {
            let named = json!({"stream_name": "KV_favorites", "config": config}).to_string();
            let made = breaker
                .request("$JS.API.CONSUMER.CREATE.KV_favorites", named.into())
                .await;
            let made: Value =
                serde_json::from_slice(&made.expect("an answer").payload).expect("JSON");
            if made["error"]["err_code"] == 10_026 {
                return number;
            }
            assert!(made["error"].is_null(), "{made}");
        }
        0
    };
    assert_eq!(full.await, 3);
    maintenance.once().await.expect("a round");
}
