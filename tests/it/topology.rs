//! The service in several blocks: a hub with the bucket, and a leaf for each shard that reaches it by its domain.

use crate::harness::load::{Load, Outcome, Report};
use crate::harness::{Caller, Leaves, Proxy, World, exclusive, with_breaker};
use async_nats::{Client, ConnectOptions, HeaderMap};
use gofavorites::dev::role::{ACCOUNTS_CONF, HUB_DOMAIN, LEAF_ACCOUNTS_CONF};
use gofavorites::domain::Version;
use gofavorites::requester::Requester;
use gofavorites::seal::{ItemKey, OwnerKey, RecordName};
use gofavorites::truth::{AppendError, Bucket, NewRecord};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// Far from every time-out: the shortest call to what is down may take a second. An answer within this time has not waited
/// for it, however busy the machine is.
const NOT_WAITED: Duration = Duration::from_millis(500);
/// How long the service may take to serve normally again after the outage has ended.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a leaf is cut off.
const OUTAGE: Duration = Duration::from_secs(4);
/// After this time of an outage its breakers are open: a call to the bucket, and a probe, may take that long.
const BREAKERS_OPEN: Duration = Duration::from_millis(2_300);
/// What cannot be undone: the server takes an empty body for it.
const DELETE: &str = "$JS.hub.API.STREAM.DELETE.KV_favorites";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_at_one_leaf_is_read_at_another_and_the_owner_moves() {
    let (world, leaves) = World::with_leaves().await;
    let (a, _b) = (world.worker("a").await, world.worker("b").await);
    let here = world.caller("alice").await;
    let there = world.caller_at(&leaves.b.url(), "alice").await;
    let put = here.put_text("a", "note", "x").await;
    assert!(put.get("local").is_none(), "its row is there: {put}");
    let note = json!({"kind": "text", "id": "note"});
    // Each reaches the worker that is near, without naming a shard.
    for (caller, shard) in [(&here, "a"), (&there, "b")] {
        for _ in 0..20 {
            assert_eq!(caller.done("version", &json!({})).await["shard"], shard);
        }
        assert_eq!(
            caller.done("get", &note).await["item"],
            put["item"],
            "at {shard}"
        );
    }
    let moved = there
        .done(
            "put",
            &json!({"kind": "text", "id": "note", "data": {"text": "y"}}),
        )
        .await;
    assert!(moved["item"]["version"].as_u64() > put["item"]["version"].as_u64());
    assert_eq!(here.done("get", &note).await["item"], moved["item"]);
    // A request for the other shard crosses the hub, from either side.
    assert_eq!(here.done("b.get", &note).await["item"], moved["item"]);
    assert_eq!(there.done("a.get", &note).await["item"], moved["item"]);
    for shard in ["a", "b"] {
        assert_eq!(
            world.query(shard, "select count(*) from item"),
            "1",
            "hosted at {shard}"
        );
    }
    // Without a worker of their own, callers reach the other shard's.
    a.stop().await.expect("stopped in order");
    assert_eq!(here.done("get", &note).await["item"], moved["item"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_nobody_serves_is_told_at_once() {
    let (world, leaves) = World::with_leaves().await;
    let _a = world.worker("a").await;
    for url in [world.nats.url(), leaves.b.url()] {
        let client = world.connect_at(&url, "gateway").await;
        let refused = client
            .request("favorites.v1.shard.nowhere.list", "{}".into())
            .await
            .expect_err("nobody is there");
        assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders);
    }
}

fn item(number: u8) -> NewRecord {
    NewRecord {
        name: RecordName::Item(ItemKey::from_bytes([number; 16])),
        value: vec![number].into(),
    }
}

/// A wrong expectation is refused, single and in a batch, and the right one is taken.
async fn a_wrong_expectation_is_refused(world: &World) {
    let owner = OwnerKey::from_bytes([9; 16]);
    let requester = Requester::start(world.connect("worker").await)
        .await
        .expect("an inbox");
    let bucket = Bucket::new(requester, world.truth.clone(), "a");
    let append = async |expected: u64, records: &[NewRecord]| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let expected = Version::new(expected).expect("in range");
        bucket
            .append(&owner, expected, records, deadline)
            .await
            .map(Version::get)
    };
    let mut at = append(0, &[item(1)]).await.expect("the first");
    for round in 0..3 {
        for wrong in [0, at - 1, at + 1, 999_999]
            .into_iter()
            .filter(|wrong| *wrong != at)
        {
            let single = append(wrong, &[item(2)]).await;
            assert!(
                matches!(single, Err(AppendError::Conflict)),
                "{round}: single upon {wrong}: {single:?}"
            );
            let batch = append(wrong, &[item(2), item(3)]).await;
            assert!(
                matches!(batch, Err(AppendError::Conflict)),
                "{round}: batch upon {wrong}: {batch:?}"
            );
        }
        at = append(at, &[item(2), item(3)])
            .await
            .expect("the right one");
        at = append(at, &[item(1)]).await.expect("the right one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expectation_is_refused_by_a_server_alone() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    a_wrong_expectation_is_refused(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expectation_is_refused_by_a_cluster() {
    let (world, _cluster) = World::cluster(ACCOUNTS_CONF).await;
    a_wrong_expectation_is_refused(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expectation_is_refused_through_a_leaf() {
    let (world, _leaves) = World::with_leaves().await;
    world.init(&world.settings("a")).await.expect("init");
    a_wrong_expectation_is_refused(&world).await;
}

/// What the server does, and why the filter is spelt in one place: with the domain in it, it matches nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_names_the_domain_would_let_every_write_through() {
    let (world, _leaves) = World::with_leaves().await;
    world.init(&world.settings("a")).await.expect("init");
    let worker = world.connect("worker").await;
    let write = async |filter: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", filter);
        let subject = format!("$JS.{HUB_DOMAIN}.API.$KV.favorites.owner.item");
        let answer = worker
            .request_with_headers(subject, headers, "x".into())
            .await
            .expect("an answer");
        serde_json::from_slice::<Value>(&answer.payload).expect("JSON")
    };
    assert_eq!(write("$KV.favorites.owner.>").await["seq"], 1);
    assert_eq!(
        write("$KV.favorites.owner.>").await["error"]["err_code"],
        10_071,
        "wrong by now"
    );
    assert_eq!(
        write("$JS.hub.API.$KV.favorites.owner.>").await["seq"],
        2,
        "as wrong, and taken"
    );
}

fn tell(what: &str, report: &Report, began: Instant, ended: Instant) {
    let [writes, reads] = report.counts();
    println!("{what}: writes {writes:?}");
    println!("{what}: reads {reads:?}");
    println!(
        "{what}: slowest before it was known {:?}, once it was {:?}; normal {:?} after the return",
        report.slowest(began, began + BREAKERS_OPEN),
        report.slowest(began + BREAKERS_OPEN, ended),
        report.normal_after(ended),
    );
}

/// How long it takes until a read at the first leaf gives what was written at the other, and says that it is not stale.
async fn time_until_they_agree(here: &Caller, written: &Value) -> Duration {
    let (since, note) = (Instant::now(), json!({"kind": "text", "id": "note"}));
    loop {
        let read = here.ask("a.get", &note).await.body;
        if read["item"] == written["item"] && read["stale"].is_null() {
            return since.elapsed();
        }
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "they do not agree: {read}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ends when both shards have in Postgres what the bucket holds; how long that took.
async fn time_until_both_have_all_rows(world: &World) -> Duration {
    let since = Instant::now();
    let newest = |told: &Value| told["data"]["truth"]["newest"].as_u64();
    let newest = world
        .stats(2)
        .await
        .iter()
        .filter_map(newest)
        .max()
        .expect("a number");
    for shard in ["a", "b"] {
        while world
            .query(shard, "select sequence from cursor")
            .parse::<u64>()
            .expect("a number")
            < newest
        {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "the projection of {shard} does not catch up"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    since.elapsed()
}

async fn a_leaf_is_cut_off(what: &str, go: impl FnOnce(&Proxy)) {
    let _permit = exclusive().await;
    let (world, leaves) = World::with_leaves().await;
    let (_a, _b) = (world.worker("a").await, world.worker("b").await);
    let (here, there) = (
        world.caller("alice").await,
        world.caller_at(&leaves.b.url(), "alice").await,
    );
    here.put_text("a", "note", "before").await;
    there.done("b.list", &json!({})).await;
    let load = Load::start(&world, &["", "a"], 8, false).await;
    let other = Load::start_at(&world, &leaves.b.url(), &["", "b"], 4).await;
    load.progress(200).await;
    let began = Instant::now();
    go(&leaves.links[0]);
    tokio::time::sleep(OUTAGE / 2).await;
    let written = there.put_text("b", "note", "meanwhile").await;
    tokio::time::sleep(OUTAGE / 2).await;
    let stale = here
        .done("a.get", &json!({"kind": "text", "id": "note"}))
        .await;
    assert_eq!(
        (&stale["stale"], &stale["item"]["data"]["text"]),
        (&json!(true), &json!("before"))
    );
    here.ask("a.put", &json!({"kind": "text", "data": {"text": "x"}}))
        .await
        .refusal("truth_unavailable");
    let ended = Instant::now();
    leaves.links[0].heal();
    let agreed = time_until_they_agree(&here, &written).await;
    load.progress(300).await;
    tokio::time::sleep(RECOVERY_TIMEOUT).await;
    load.progress(50).await;
    let told = world.stats(2).await;
    let well = |one: &Value| one["data"]["reasons"].as_array().is_none_or(Vec::is_empty);
    assert!(
        told.iter().all(well),
        "nobody lacks anything: {} {}",
        told[0]["data"]["reasons"],
        told[1]["data"]["reasons"]
    );
    let (mut report, mut others) = (load.stop().await, other.stop().await);
    let rows = time_until_both_have_all_rows(&world).await;
    tell(what, &report, began, ended);
    println!(
        "{what}: the shards agreed {agreed:?} after the return, and had all rows {rows:?} after the last write"
    );
    report.only(
        &[
            "truth_unavailable",
            "in_doubt",
            "deadline_exceeded",
            "overloaded",
        ],
        &[Outcome::Pending, Outcome::Stale],
    );
    assert!(
        report.counts()[1].contains_key(&Outcome::Stale),
        "reads go on, and say that they are stale"
    );
    let slowest = report.slowest(began + BREAKERS_OPEN, ended);
    assert!(
        slowest <= NOT_WAITED,
        "with the breaker open an answer took {slowest:?}"
    );
    assert!(agreed <= RECOVERY_TIMEOUT && rows <= RECOVERY_TIMEOUT, "{agreed:?}, {rows:?}");
    let normal = report.normal_after(ended);
    // From either side, on both shards.
    report.verify(&["a", "b"]).await;
    report.is_clean();
    assert!(normal <= RECOVERY_TIMEOUT, "normal service after {normal:?}");
    // At the other leaf nobody noticed anything.
    others.only(&[], &[Outcome::Pending]);
    others.verify(&["b", "a"]).await;
    others.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_link_is_cut_serves_stale_reads_and_refuses_writes_at_once() {
    a_leaf_is_cut_off("link cut", Proxy::cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_link_hangs_serves_stale_reads_and_refuses_writes_at_once() {
    a_leaf_is_cut_off("link hanging", Proxy::freeze).await;
}

/// The first answer to a request came from the other shard, and is found in this one's Postgres: newer than what its
/// worker has in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_repeats_an_answer_tells_of_nothing_older_afterwards() {
    let (world, leaves) = World::with_leaves().await;
    let (_a, _b) = (world.worker("a").await, world.worker("b").await);
    let (here, there) = (
        world.caller("alice").await,
        world.caller_at(&leaves.b.url(), "alice").await,
    );
    here.put_text("a", "note", "before").await;
    there.done("b.list", &json!({})).await;
    let body = json!({"kind": "text", "id": "note", "data": {"text": "x"}});
    let first = here.ask_once("a.put", "once", &body).await.body;
    world.until_projected("b", &first).await;
    assert_eq!(there.ask_once("b.put", "once", &body).await.body, first);
    leaves.links[1].cut();
    let since = Instant::now();
    let read = loop {
        let read = there
            .done("b.get", &json!({"kind": "text", "id": "note"}))
            .await;
        if read["stale"] == true {
            break read;
        }
        assert!(since.elapsed() < RECOVERY_TIMEOUT, "the link is cut");
    };
    assert_eq!(
        (&read["item"], &read["owner_version"]),
        (&first["item"], &first["owner_version"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_in_doubt_at_both_leaves_are_each_done_once() {
    let (world, mut leaves) = World::with_leaves().await;
    let (_a, _b) = (world.worker("a").await, world.worker("b").await);
    let mut owners = Vec::new();
    for number in 0..4 {
        let name = format!("owner-{number}");
        let (here, there) = (
            world.caller(&name).await,
            world.caller_at(&leaves.b.url(), &name).await,
        );
        here.put_text("a", "first", "x").await;
        there.done("b.list", &json!({})).await;
        owners.push((here, there));
    }
    let (mut in_doubt, rounds) = (0, 3);
    for round in 0..rounds {
        // Two writes of each owner, one at each leaf, upon the same state.
        let writes: Vec<(Caller, &str, String, Value)> = owners
            .iter()
            .enumerate()
            .flat_map(|(number, (here, there))| [(number, here, "a.put"), (number, there, "b.put")])
            .map(|(number, caller, what)| {
                let body =
                    json!({"kind": "text", "id": format!("{what}-{round}"), "data": {"text": "x"}});
                (
                    caller.clone(),
                    what,
                    format!("{what}-{number}-{round}"),
                    body,
                )
            })
            .collect();
        leaves
            .hub
            .process()
            .signal(Signal::SIGSTOP)
            .expect("paused");
        let asked = writes.iter().map(|(caller, what, id, body)| {
            let mut headers = caller.headers();
            headers.insert("Nats-Msg-Id", id.as_str());
            headers.insert("Request-Timeout-Ms", "400");
            caller.ask_with(what, headers, body.to_string().into_bytes())
        });
        for reply in futures::future::join_all(asked).await {
            assert!(
                reply.body["error"]["status"].as_u64() >= Some(503),
                "{}",
                reply.body
            );
            in_doubt += usize::from(reply.body["error"]["code"] == "in_doubt");
        }
        leaves
            .hub
            .process()
            .signal(Signal::SIGCONT)
            .expect("continued");
        let settled = writes
            .iter()
            .map(|(caller, what, id, body)| settle(caller, what, id, body));
        let settled = futures::future::join_all(settled).await;
        for ((caller, what, id, body), first) in writes.iter().zip(&settled) {
            // At the other leaf too it is the same write.
            let elsewhere = if *what == "a.put" { "b.put" } else { "a.put" };
            for place in [*what, elsewhere] {
                assert_eq!(
                    settle(caller, place, id, body).await["item"],
                    first["item"],
                    "{what} asked again at {place}"
                );
            }
        }
    }
    let kept: u64 = world.records().await.values().sum();
    let writes = 2 * owners.len() * rounds;
    println!("{in_doubt} of {writes} writes were in doubt, and each of them was done once");
    assert!(in_doubt >= writes / 2, "{in_doubt}");
    assert_eq!(
        kept as usize,
        2 * owners.len() + writes,
        "keys and first items, and each write once"
    );
}

/// Asks until it is not refused for something that is away or not certain.
async fn settle(caller: &Caller, what: &str, id: &str, body: &Value) -> Value {
    let since = Instant::now();
    loop {
        let reply = caller.ask_once(what, id, body).await.body;
        if reply["error"].is_null() {
            return reply;
        }
        assert!(reply["error"]["status"].as_u64() >= Some(503), "{reply}");
        assert!(since.elapsed() < Duration::from_secs(10), "{reply}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn bucket_is_there(leaves: &Leaves, world: &World) -> bool {
    let operator = world.connect_at(&leaves.hub.url(), "operator").await;
    let told = operator
        .request("$JS.API.STREAM.INFO.KV_favorites", "".into())
        .await
        .expect("an answer");
    serde_json::from_slice::<Value>(&told.payload).expect("JSON")["error"].is_null()
}

async fn somebody(url: &str, user: &str) -> Client {
    let options = ConnectOptions::with_user_and_password(user.into(), user.into());
    options
        .skip_subject_validation(true)
        .connect(url)
        .await
        .expect("a connection")
}

/// The accounts, with a user in one of them who may do there whatever the account may.
fn with_mallory_in(account: &str) -> String {
    let (before, after) = LEAF_ACCOUNTS_CONF
        .split_once(&format!("  {account} {{"))
        .expect("an account");
    let (head, users) = after.split_once("users: [\n").expect("users");
    format!(
        "{before}  {account} {{{head}users: [\n      {{ user: mallory, password: mallory }}\n{users}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_at_a_leaf_reach_neither_the_bucket_nor_what_others_are_answered() {
    let (world, leaves) =
        World::with_leaves_and_accounts(ACCOUNTS_CONF, &with_mallory_in("GATEWAY")).await;
    let worker = world.worker("a").await;
    let mallory = somebody(&world.nats.url(), "mallory").await;
    let mut everything = mallory.subscribe(">").await.expect("subscribed");
    mallory.flush().await.expect("sent");
    for subject in [
        DELETE,
        "$JS.API.STREAM.DELETE.KV_favorites",
        "$KV.favorites.x.y",
        "$JS.hub.API.$KV.favorites.x.y",
    ] {
        // The answer, if any, is that there is no such thing: what counts is what is there afterwards.
        let _ = tokio::time::timeout(
            Duration::from_millis(500),
            mallory.request(subject, "".into()),
        )
        .await;
    }
    // The answer would be the command.
    mallory
        .publish_with_reply("favorites.v1.version", DELETE, "".into())
        .await
        .expect("sent");
    let other = Caller::new(
        world.connect("gateway2").await,
        world.caller("alice").await.token.to_string(),
    );
    let marked = other
        .put_text("a", "note", "a-text-that-is-not-theirs")
        .await;
    assert_eq!(marked["item"]["id"], "note");
    mallory.flush().await.expect("sent");
    while let Ok(Some(heard)) = tokio::time::timeout(
        Duration::from_millis(300),
        futures::StreamExt::next(&mut everything),
    )
    .await
    {
        assert!(
            !String::from_utf8_lossy(&heard.payload).contains("not-theirs"),
            "heard on {}",
            heard.subject
        );
    }
    assert!(bucket_is_there(&leaves, &world).await);
    assert_eq!(
        world.records().await.len(),
        2,
        "a key and an item, and nothing of mallory's"
    );
    worker.stop().await.expect("stopped in order");
}

/// Whether whoever may do everything in the bucket's account at a leaf can destroy the bucket.
async fn a_leaf_taken_over_destroys_the_bucket(hub: &str) -> bool {
    let (world, leaves) =
        World::with_leaves_and_accounts(hub, &with_breaker(LEAF_ACCOUNTS_CONF)).await;
    world.init(&world.settings("a")).await.expect("init");
    let breaker = world.connect_breaker().await;
    let _ = tokio::time::timeout(Duration::from_secs(1), breaker.request(DELETE, "".into())).await;
    !bucket_is_there(&leaves, &world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_was_taken_over_cannot_destroy_the_bucket() {
    assert!(!a_leaf_taken_over_destroys_the_bucket(ACCOUNTS_CONF).await);
    let wall_down = ACCOUNTS_CONF.replacen(
        "\"$JS.hub.API.STREAM.INFO.KV_favorites\"",
        "\"$JS.hub.API.>\"",
        1,
    );
    assert!(
        a_leaf_taken_over_destroys_the_bucket(&wall_down).await,
        "the attack is made well"
    );
}

#[test]
fn the_accounts_of_a_leaf_are_those_of_the_hub_with_the_domain_named() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/leaf-accounts");
    let checked = Command::new(script).arg("--check").output().expect("ran");
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    let bare = LEAF_ACCOUNTS_CONF
        .lines()
        .any(|line| line.contains("\"$JS.API") || line.contains("\"$KV"));
    assert!(!bare && !LEAF_ACCOUNTS_CONF.contains("jetstream"));
}
