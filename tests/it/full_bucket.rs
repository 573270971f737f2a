//! A bucket that is full by the limit of its server, of which the stream knows nothing; and one that is
//! nearly full by the bound of its stream, whose last room is for deletions.

use crate::harness::samples::{OTHER_SECRET, codes, otp_uri, put_codes, put_otp};
use crate::harness::{Caller, World};
use crate::maintain;
use gofavorites::app::{Maintenance, WaitLimit};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::{Value, json};
use std::fs;
use std::future::pending;
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

const NOTES_MAX: usize = 300;

/// How many notes are written again and again.
const REWRITTEN: usize = 10;

/// How long the worker may take until it reports that there is room again.
const MEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long maintenance may take until it has made room: it looks every ten seconds.
const ROOM_TIMEOUT: Duration = Duration::from_secs(40);

const FULL: &str = "the bucket is full and takes no more: tell the operators";

fn note(number: usize) -> Value {
    let text = "x".repeat(20_000);
    json!({"kind": "text", "id": format!("note-{number}"), "data": {"text": text}})
}

/// Changes how much the server may store. Counts from the next start or reload on.
fn limit_store(world: &World, from: &str, to: &str) {
    let file = world.directory.join("server.conf");
    let text = fs::read_to_string(&file).expect("a configuration");
    let [from, to] = [from, to].map(|size| format!("max_file_store: {size}"));
    assert!(text.contains(&from));

    fs::write(&file, text.replace(&from, &to)).expect("written");
}

/// Starts a world whose server may store 2 MB.
async fn on_a_small_server() -> World {
    let mut world = World::without_auth(ACCOUNTS_CONF).await;
    limit_store(&world, "10GB", "2MB");
    world.nats.stop().expect("stopped");
    world.nats.restart().await.expect("started again");
    world.start_auth().await;

    world
}

/// Puts notes until one is refused, and returns its number.
async fn put_until_full(caller: &Caller) -> usize {
    for number in 0..NOTES_MAX {
        let reply = caller.ask("a.put", &note(number)).await;
        if reply.body["error"].is_object() {
            assert_eq!(reply.refusal("truth_unavailable")["message"], FULL);
            return number;
        }
    }

    panic!("the bucket is not full");
}

/// Writes a few notes over and over until one is refused, and returns its number.
async fn rewrite_until_full(caller: &Caller) -> usize {
    for number in 0..NOTES_MAX {
        let reply = caller.ask("a.put", &note(number % REWRITTEN)).await;
        if reply.body["error"].is_object() {
            assert_eq!(reply.refusal("truth_unavailable")["message"], FULL);
            return number % REWRITTEN;
        }
    }

    panic!("the bucket is not full");
}

/// The settings of a worker of shard a, whose bucket may have that many bytes.
fn bounded(world: &World, bytes: u64) -> Settings {
    let mut settings = world.settings("a");
    settings.truth.max_bytes = bytes;

    settings
}

fn delete(number: usize) -> Value {
    json!({"kind": "text", "id": format!("note-{number}")})
}

/// An operation of a batch.
fn op(op: &str, mut body: Value) -> Value {
    body["op"] = op.into();
    body
}

fn is_healthy(data: &Value) -> bool {
    data["state"] == "healthy"
}

/// Goal: a full server is reported for what it is, and nothing takes it for an outage; once there is
/// room, everything goes on by itself.
///
/// Method: one owner fills a server that may store 2 MB. Then the server is allowed more.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_no_outage() {
    let mut world = on_a_small_server().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    let refused = put_until_full(&alice).await;
    let full = world.stats(1).await[0]["data"].clone();
    assert_eq!(full["state"], "degraded");
    let why = full["reasons"][0]["why"].as_str().expect("a reason");
    assert!(why.starts_with("the bucket is full for "), "{why}");
    assert_eq!(full["truth"]["writes"]["opened"], 0, "{full}");

    limit_store(&world, "2MB", "10GB");
    world.reload().await;
    world.wait_for_stats("room", MEND_TIMEOUT, is_healthy).await;

    alice.done("a.put", &note(refused)).await;
}

/// Goal: what is left of a bucket that is nearly full is for deletions and for codes, and more room
/// counts without a restart.
///
/// Method: one owner fills a bucket that may have 1 MB, and does everything that still has to be taken.
/// Then `init` gives the bucket 2 MB; a later `init` without the setting leaves it so.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_room_is_for_deletions() {
    let world = World::start().await;
    let _worker = world.worker_with(bounded(&world, 1_000_000)).await;
    let alice = world.caller("alice").await;
    alice.done("a.put", &put_codes("list", &codes(0..3))).await;
    let bank = put_otp("bank", &otp_uri("hotp", OTHER_SECRET, ""));
    alice.done("a.put", &bank).await;

    let refused = put_until_full(&alice).await;
    let in_reserve = |data: &Value| {
        let why = data["reasons"][0]["why"].as_str().unwrap_or_default();
        why.ends_with("of the bytes that it may have: only deletions are taken")
    };
    let data = world.wait_for_stats("reserve", ROOM_TIMEOUT, in_reserve);
    let data = data.await;
    assert_eq!(data["truth"]["bytes_max"], 1_000_000);
    assert_eq!(data["state"], "degraded");

    alice.done("a.codes.take", &json!({"id": "list"})).await;
    alice.done("a.otp.code", &json!({"id": "bank"})).await;
    alice.done("a.delete", &delete(0)).await;
    let ops = [op("delete", delete(1)), op("delete", delete(2))];
    let batch = json!({"mode": "atomic", "ops": ops});
    alice.done("a.batch", &batch).await;
    let ops = [op("delete", delete(3)), op("put", note(4))];
    let mixed = json!({"mode": "atomic", "ops": ops});
    let reply = alice.ask("a.batch", &mixed).await;
    assert_eq!(reply.refusal("truth_unavailable")["message"], FULL);

    for bytes in [2_000_000, 0] {
        world.prepare(&bounded(&world, bytes)).await.expect("init");
        let data = world.wait_for_stats("room", ROOM_TIMEOUT, is_healthy).await;
        assert_eq!(data["truth"]["bytes_max"], 2_000_000);
    }
    alice.done("a.put", &note(refused)).await;
}

/// Goal: health says how near the bucket's account is to its limit, and that it is the account's; also
/// a worker that starts when the limit is reached.
///
/// Method: one owner fills an account that may store 2 MB, on a server and in a stream that have room.
#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_limit_is_named() {
    let limited = "jetstream: { max_mem: 1MB, max_file: 2MB }";
    let accounts = ACCOUNTS_CONF.replace("jetstream: enabled", limited);
    let world = World::with_accounts(&accounts).await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let of_account = |data: &Value| data["truth"]["account_bytes_max"] == 2 << 20;
    let data = world.wait_for_stats("a limit", ROOM_TIMEOUT, of_account);
    assert_eq!(data.await["state"], "healthy");

    put_until_full(&alice).await;
    let is_named = |data: &Value| {
        let mut reasons = data["reasons"].as_array().into_iter().flatten();
        reasons.any(|reason| {
            let why = reason["why"].as_str().unwrap_or_default();
            why.ends_with("of the storage that it may use: the account's limit")
        })
    };
    let data = world.wait_for_stats("the limit", ROOM_TIMEOUT, is_named);
    assert_eq!(data.await["truth"]["bytes_max"], Value::Null);
    worker.stop().await.expect("stopped in order");

    let _worker = world
        .try_worker(world.settings("a"))
        .await
        .expect("a worker");
    world
        .wait_for_stats("the limit again", ROOM_TIMEOUT, is_named)
        .await;
}

/// Goal: maintenance does not wait for its next round while the bucket is nearly full, and writes go
/// on by themselves.
///
/// Method: its first round is over when the bucket fills up; the second one would be due in an hour. The
/// owner then deletes notes.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_makes_room_at_once() {
    let world = World::start().await;
    let settings = bounded(&world, 1_000_000);
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    alice.done("a.put", &note(0)).await;
    alice.done("a.delete", &delete(0)).await;

    let settings = maintain::settings(&world);
    let built = Maintenance::build(&settings, WaitLimit::FOREVER).await;
    let maintenance = built.expect("built");
    let run = async move { maintenance.run(pending()).await };
    let _running = AbortOnDropHandle::new(tokio::spawn(run));
    let start = Instant::now();
    // The key and the floor are left, not the deletion.
    while world.records().await.values().sum::<u64>() != 2 {
        assert!(start.elapsed() < ROOM_TIMEOUT, "no first round");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let refused = put_until_full(&alice).await;
    for number in 0..refused / 2 {
        alice.done("a.delete", &delete(number)).await;
    }

    world.wait_for_stats("room", ROOM_TIMEOUT, is_healthy).await;
    alice.done("a.put", &note(refused)).await;
}

/// Goal: maintenance makes room on a server that takes no write at all, and no item is lost.
///
/// Method: a round without the right to purge leaves a deletion under its owner's floor. Then the owner
/// fills a server that may store 2 MB, by writing the same notes again and again.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_makes_room_without_a_write() {
    let mut world = on_a_small_server().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "forgotten", "x").await;
    let forgotten = json!({"kind": "text", "id": "forgotten"});
    alice.done("a.delete", &forgotten).await;

    let mut settings = maintain::settings(&world);
    settings.maintain.kept_bytes = 500_000;
    let built = Maintenance::build(&settings, WaitLimit::FOREVER).await;
    let maintenance = built.expect("built");
    let purge = "$JS.API.STREAM.PURGE.KV_favorites";
    let without = ACCOUNTS_CONF.replace(purge, "taken.away");
    world.reload_accounts(&without).await;
    let round = maintenance.once().await.expect("a round");
    assert_eq!((round.purged, round.failed), (0, 1), "{round:?}");
    world.reload_accounts(ACCOUNTS_CONF).await;

    let refused = rewrite_until_full(&alice).await;
    let round = maintenance.once().await.expect("a round");
    assert!(round.pressed, "{round:?}");
    assert_eq!((round.purged, round.failed), (1, 0), "{round:?}");
    assert!(round.dropped > REWRITTEN as u64, "{round:?}");

    world.wait_for_stats("room", ROOM_TIMEOUT, is_healthy).await;
    alice.done("a.put", &note(refused)).await;
    for number in 0..REWRITTEN {
        let got = alice.done("a.get", &delete(number)).await;
        assert_eq!(got["item"]["data"], note(number)["data"]);
    }
}
