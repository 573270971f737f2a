//! A full bucket: by the server's limit, by the account's, and by the stream's own.

use super::desk::Desk;
use super::runbook::Runbook;
use super::{check_filled, desk_of, fill, start_workers};
use crate::harness::{Caller, World, with_breaker};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const OWNERS: usize = 50;

/// How many long notes there may be at most.
const LONG_NOTES_MAX: usize = 400;

/// How long a bucket with more room may take until it accepts writes.
const ROOM_TIMEOUT: Duration = Duration::from_secs(20);

/// What the callers are told.
const REFUSAL: &str = "the bucket is full and takes no more";

/// What `health` shows of a full bucket, and of one that has come to its reserve.
const FULL: &str = "the bucket is full for";
const RESERVE: &str = "only deletions are taken";

fn put(number: usize) -> Value {
    let text = "x".repeat(20_000);
    json!({"kind": "text", "id": format!("long-{number}"), "data": {"text": text}})
}

/// Puts long notes until one is refused, and checks what the caller is told. Returns how many were
/// acknowledged.
async fn put_until_full(caller: &Caller) -> usize {
    for number in 0..LONG_NOTES_MAX {
        let reply = caller.ask("a.put", &put(number)).await;
        if reply.body["error"].is_object() {
            let refusal = reply.refusal("truth_unavailable");
            let text = refusal["message"].as_str().expect("a text");
            assert!(text.contains(REFUSAL), "{text}");
            return number;
        }
    }

    panic!("the bucket is not full");
}

/// Puts the note that was refused until it is accepted.
async fn put_when_there_is_room(caller: &Caller, number: usize) {
    let start = Instant::now();

    while caller.ask("a.put", &put(number)).await.body["error"].is_object() {
        assert!(start.elapsed() < ROOM_TIMEOUT, "there is no room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until `health` shows nothing any more.
async fn healthy_again(desk: &mut Desk) {
    let start = Instant::now();

    while desk.run("gofavorites health").await.1.contains("degraded") {
        assert!(start.elapsed() < ROOM_TIMEOUT, "a worker stays degraded");
    }
}

/// Checks that the shard has that many of the notes.
async fn check_notes(caller: &Caller, notes: usize) {
    for number in 0..notes {
        let note = json!({"kind": "text", "id": format!("long-{number}")});
        let got = caller.done("a.get", &note).await;

        assert!(got["stale"].is_null(), "{number}");
        assert_eq!(got["item"]["data"], put(number)["data"], "{number}");
    }
}

/// Fills the bucket of shard a, plays the part of the page, and checks that nothing is lost.
async fn play(mut desk: Desk, owners: &[Caller], part: &'static str, shown: &[&str]) {
    let caller = desk.world().caller("somebody").await;
    let notes = put_until_full(&caller).await;
    check_notes(&caller, notes).await;
    let (_, health) = desk.run("gofavorites health").await;
    assert!(shown.iter().any(|why| health.contains(why)), "{health}");

    let mut runbook = Runbook::open("A full bucket", part);
    runbook.next(&mut desk).await;
    put_when_there_is_room(&caller, notes).await;
    runbook.end(OWNERS);

    healthy_again(&mut desk).await;
    check_notes(&caller, notes + 1).await;
    check_filled(owners, "a").await;
}

/// Starts shard a in a world with these accounts, whose server may store that much.
async fn with_limits(accounts: &str, server: &str) -> (Desk, Vec<Caller>) {
    let mut world = World::without_auth(accounts).await;
    let file = world.directory.join("server.conf");
    let text = fs::read_to_string(&file).expect("a configuration");
    let limited = format!("max_file_store: {server}");
    fs::write(&file, text.replace("max_file_store: 10GB", &limited)).expect("written");
    world.nats.stop().expect("stopped");
    world.nats.restart().await.expect("started again");
    world.start_auth().await;
    world.init(&world.settings("a")).await.expect("init");

    let mut desk = desk_of(world);
    start_workers(&mut desk, "a").await;
    let owners = fill(desk.world(), "a", OWNERS).await;
    (desk, owners)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_full_by_the_servers_limit() {
    let accounts = with_breaker(ACCOUNTS_CONF);
    let (desk, owners) = with_limits(&accounts, "2MB").await;

    play(desk, &owners, "The server's limit", &[FULL]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_full_by_the_accounts_limit() {
    let limited = "jetstream: { max_file: 2MB }";
    let accounts = with_breaker(ACCOUNTS_CONF).replace("jetstream: enabled", limited);
    let (desk, owners) = with_limits(&accounts, "10GB").await;

    play(desk, &owners, "The account's limit", &[FULL]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_full_by_the_streams_limit() {
    let accounts = with_breaker(ACCOUNTS_CONF);
    let (mut desk, owners) = with_limits(&accounts, "10GB").await;
    let limit = "nats --context truth-admin stream edit KV_favorites --max-bytes=2000000 --force";
    let (set, printed) = desk.run(limit).await;
    assert!(set, "{printed}");

    // Writes that are fast enough come to the limit before both workers know of the reserve.
    play(desk, &owners, "The stream's limit", &[RESERVE, FULL]).await;
}
