//! Records of the largest size, more of them than a NATS server keeps for one connection (64 MiB)
//! before it closes it, and everything that reads the bucket meanwhile.

use crate::harness::{Caller, Proxy, World, Writers, with_breaker};
use async_nats::Client;
use gofavorites::app::{Maintenance, WaitLimit};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::domain::Version;
use gofavorites::maintenance::Round;
use gofavorites::requester::Requester;
use gofavorites::truth::{Bucket, RecordList};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Owners, each with so many heavy items: about 75 MB together.
const OWNERS: usize = 4;
const HEAVY_ITEMS_PER_OWNER: usize = 95;
/// The bytes that one step of the projection may take in, and one record beyond them.
const STEP_BYTES_MAX: usize = (8 << 20) + (1 << 20);
/// JetStream's error code when a stream or an account has all the consumers that it may have.
const CONSUMERS_LIMIT_REACHED: u64 = 10_026;

/// An item of about 196 kB, as large as the limits allow.
fn heavy(number: usize) -> Value {
    let meta: BTreeMap<String, String> = (0..32)
        .map(|at| (format!("m{at}"), "m".repeat(4_096)))
        .collect();
    let id = format!("heavy-{number}");
    let text = "t".repeat(65_536);

    json!({"kind": "text", "id": id, "data": {"text": text}, "meta": meta})
}

/// How often the server has closed a connection that did not take what was sent to it.
fn slow_consumers(world: &World) -> usize {
    let log = std::fs::read_to_string(world.directory.join("nats.log")).expect("the server's log");

    log.matches("Slow Consumer Detected").count()
}

fn maintenance_settings(world: &World) -> Settings {
    let mut settings = world.settings("a");
    world.connect_all_as(&mut settings, "maintain");

    settings
}

async fn maintenance(world: &World) -> Maintenance {
    Maintenance::build(&maintenance_settings(world), WaitLimit::FOREVER)
        .await
        .expect("built")
}

/// Writes the heavy items of all owners, in parallel.
async fn put_heavy_items(callers: &[Caller], shard: &'static str) {
    let all = callers.iter().map(|caller| async move {
        for number in 0..HEAVY_ITEMS_PER_OWNER {
            caller.done(&format!("{shard}.put"), &heavy(number)).await;
        }
    });

    futures::future::join_all(all).await;
}

/// Goal: the server closes no connection because of heavy records, whatever reads them.
///
/// Method: shard a writes 75 MB while shard b is stopped. Shard b then catches up, maintenance
/// lists the bucket, a follower goes through it slowly, and shard c hosts all owners at once.
/// After each step the server's log must hold no slow consumer.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_records_get_no_reader_disconnected() {
    let (world, _a, b) = World::with_two_shards().await;

    let mut callers = Vec::new();
    for number in 0..OWNERS {
        let caller = world.caller(&format!("owner-{number}")).await;
        caller.put_text("b", "light", "x").await;
        callers.push(caller);
    }

    b.stop().await.expect("stopped in order");
    put_heavy_items(&callers, "a").await;
    assert_eq!(slow_consumers(&world), 0, "during the writes");

    let _b = world.worker("b").await;
    let start = Instant::now();
    let last = callers[0].put_text("a", "light", "y").await;
    world.until_projected("b", &last).await;
    println!("caught up in {:?}", start.elapsed());
    let expected = (OWNERS * (HEAVY_ITEMS_PER_OWNER + 1)).to_string();
    assert_eq!(world.query("b", "select count(*) from item"), expected);
    assert_eq!(slow_consumers(&world), 0, "while shard b caught up");

    let round = maintenance(&world).await.once().await.expect("a round");
    let nothing_forgotten = Round {
        owners: OWNERS as u64,
        ..Round::default()
    };
    assert_eq!(round, nothing_forgotten);
    assert_eq!(slow_consumers(&world), 0, "while maintenance listed");

    assert_steps_are_bounded(&world.bucket("a").await).await;
    assert_eq!(slow_consumers(&world), 0, "while a follower read");

    // A shard that has never seen the owners reads all records of each, in parallel.
    let _c = world.worker("c").await;
    let get = json!({"kind": "text", "id": "light"});
    let reads = callers.iter().map(|caller| caller.done("c.get", &get));
    futures::future::join_all(reads).await;
    assert_eq!(slow_consumers(&world), 0, "while owners were hosted");
}

/// Follows the bucket from its beginning, as slowly as a database might: no step exceeds the limit.
async fn assert_steps_are_bounded(bucket: &Bucket) {
    let newest = bucket.position().await.expect("a position").newest;
    let mut follower = bucket.follow(0).await.expect("a follower");
    let mut position = 0;

    while position < newest {
        let entries = follower.next_batch(1_000).await.expect("entries");
        position = entries.last().expect("never empty").sequence;
        let bytes: usize = entries
            .iter()
            .filter_map(|one| Some(one.record.as_ref()?.1.value.len()))
            .sum();
        assert!(bytes <= STEP_BYTES_MAX, "{bytes} bytes in one step");

        sleep(Duration::from_millis(20)).await;
    }
}

/// The bucket, reached through the proxy.
async fn bucket_through(world: &World, proxy: &Proxy) -> Bucket {
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let requester = Requester::start(world.connect_at(&url, "worker").await)
        .await
        .expect("an inbox");

    Bucket::new(requester, world.truth.clone(), "a")
}

/// Cuts the link after the server has sent its messages and before they arrive, and heals it.
async fn lose_messages_in_transit(proxy: &Proxy) {
    sleep(Duration::from_millis(450)).await;
    proxy.cut();
    sleep(Duration::from_millis(100)).await;
    proxy.heal();
}

async fn versions(list: &mut RecordList) -> Vec<u64> {
    let mut versions = Vec::new();
    while let Some((_, record)) = list.next().await.expect("a record") {
        versions.push(record.version.get());
    }

    versions
}

/// Lists the bucket's records over a slow link that is lost once, and returns their versions.
async fn list_with_one_loss(bucket: &Bucket, proxy: &Proxy) -> Vec<u64> {
    proxy.delay(Duration::from_millis(250));
    let mut list = bucket.list_records(Version::NONE).await.expect("a list");
    let mut versions = Vec::new();
    let mut losses = 0;

    loop {
        // A pulled record is returned at once; a pull is in transit for half a second.
        match timeout(Duration::from_millis(20), list.next()).await {
            Ok(next) => match next.expect("the list goes on") {
                Some((_, record)) => versions.push(record.version.get()),
                None => break,
            },
            Err(_) if losses == 0 && !versions.is_empty() => {
                losses += 1;
                lose_messages_in_transit(proxy).await;
            }
            Err(_) => {}
        }
    }

    assert_eq!(losses, 1);

    versions
}

/// Follows the bucket up to `newest` over a slow link that is lost once, and returns the versions.
async fn follow_with_one_loss(bucket: &Bucket, proxy: &Proxy, newest: u64) -> BTreeSet<u64> {
    proxy.delay(Duration::from_millis(250));
    let mut follower = bucket.follow(0).await.expect("a follower");
    let mut versions = BTreeSet::new();
    let mut position = 0;
    let mut losses = 0;

    while position < newest {
        match timeout(Duration::from_millis(20), follower.next_batch(100)).await {
            Ok(entries) => {
                for entry in entries.expect("the follower goes on") {
                    let sequence = entry.sequence;
                    assert!(sequence > position, "{sequence} after {position}");
                    position = sequence;
                    versions.insert(position);
                }
            }
            Err(_) if losses == 0 && position > 0 => {
                losses += 1;
                lose_messages_in_transit(proxy).await;
            }
            Err(_) => {}
        }
    }

    assert_eq!(losses, 1);

    versions
}

/// Goal: a list and a follower continue where they were when their connection is lost.
///
/// Method: eight writers fill the bucket with more records than one pull returns. A list and a
/// follower then read it through a slow proxy, which drops the connection with messages in
/// transit. The list must return each current record once, the follower at least those.
#[tokio::test(flavor = "multi_thread")]
async fn readers_of_the_bucket_continue_after_a_lost_connection() {
    let world = World::start().await;

    world.init(&world.settings("a")).await.expect("init");
    Writers::start(&world, &[world.nats.url()], 8, 1_500)
        .await
        .finish()
        .await;
    let bucket = world.bucket("a").await;
    let newest = bucket.position().await.expect("a position").newest;
    let current = versions(&mut bucket.list_records(Version::NONE).await.expect("a list")).await;
    assert!(current.len() > 800, "more than one pull: {}", current.len());

    let (before, after) = current.split_at(current.len() / 2);
    let last = Version::new(before[before.len() - 1]).expect("a version");
    let mut rest = bucket.list_records(last).await.expect("a list");
    let rest = versions(&mut rest).await;
    assert!(after.iter().all(|version| rest.contains(version)));
    assert!(rest.iter().all(|version| *version > last.get()));

    let proxy = Proxy::start(world.nats.url().trim_start_matches("nats://")).await;
    let bucket = bucket_through(&world, &proxy).await;
    let listed = list_with_one_loss(&bucket, &proxy).await;
    let followed = follow_with_one_loss(&bucket, &proxy, newest).await;

    assert_eq!(listed, current, "each kept record, once and in order");
    assert!(
        current.iter().all(|version| followed.contains(version)),
        "the follower returns every kept record"
    );
}

async fn count_consumers(world: &World) -> usize {
    let answer = world
        .connect_breaker()
        .await
        .request("$JS.API.CONSUMER.NAMES.KV_favorites", "".into())
        .await
        .expect("an answer");
    let names: Value = serde_json::from_slice(&answer.payload).expect("JSON");

    names["consumers"].as_array().map_or(0, Vec::len)
}

/// Goal: every reader of the bucket leaves no consumer behind, except the running projection.
///
/// Method: thirty rounds of maintenance and ten followers read the bucket of one worker; an
/// administrator counts the consumers until only the projection's is left.
#[tokio::test(flavor = "multi_thread")]
async fn readers_of_the_bucket_leave_no_consumer_behind() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "one", "x").await;

    let maintenance = maintenance(&world).await;
    for _ in 0..30 {
        assert_eq!(maintenance.once().await.expect("a round").owners, 1);
    }

    let bucket = world.bucket("a").await;
    for _ in 0..10 {
        let mut follower = bucket.follow(0).await.expect("a follower");
        follower.next_batch(100).await.expect("entries");
    }

    let start = Instant::now();
    while count_consumers(&world).await > 1 {
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "{} consumers are left",
            count_consumers(&world).await
        );
        sleep(Duration::from_millis(100)).await;
    }

    println!("gone after {:?}", start.elapsed());
}

/// Creates consumers until the server refuses one, and returns how many it created.
async fn create_consumers_to_the_limit(breaker: &Client) -> usize {
    let config =
        json!({"ack_policy": "none", "mem_storage": true, "inactive_threshold": 1_000_000_000});
    let request = json!({"stream_name": "KV_favorites", "config": config}).to_string();
    let mut created = 0;

    loop {
        let reply = breaker
            .request(
                "$JS.API.CONSUMER.CREATE.KV_favorites",
                request.clone().into(),
            )
            .await
            .expect("an answer");
        let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        if reply["error"]["err_code"] == CONSUMERS_LIMIT_REACHED {
            return created;
        }
        assert!(reply["error"].is_null(), "{reply}");
        created += 1;
    }
}

/// Goal: a round of maintenance waits when the account has no consumer left, and then succeeds.
///
/// Method: an administrator takes all three consumers of the account, which expire after a second.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_waits_until_a_consumer_is_free() {
    let accounts = with_breaker(ACCOUNTS_CONF)
        .replace("jetstream: enabled", "jetstream: { max_consumers: 3 }");
    let world = World::with_accounts(&accounts).await;

    world.init(&world.settings("a")).await.expect("init");
    let maintenance = maintenance(&world).await;
    let breaker = world.connect_breaker().await;

    let created = create_consumers_to_the_limit(&breaker).await;

    // Maintenance has tried at its start whether it may create one, and that one may still be there.
    assert!((2..=3).contains(&created), "{created}");
    maintenance.once().await.expect("a round");
}
