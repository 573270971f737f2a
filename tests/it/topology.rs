//! Several sites: a hub with the bucket, and a leaf for each shard, which reaches the bucket by its
//! JetStream domain.

use crate::harness::load::{Load, Outcome, Report};
use crate::harness::{Caller, Leaves, Proxy, World, exclusive, subscribe, with_breaker};
use async_nats::{Client, ConnectOptions, HeaderMap};
use futures::StreamExt as _;
use gofavorites::dev::role::{ACCOUNTS_CONF, HUB_DOMAIN, LEAF_ACCOUNTS_CONF};
use gofavorites::domain::Version;
use gofavorites::requester::Requester;
use gofavorites::seal::{ItemKey, OwnerKey, RecordName};
use gofavorites::truth::{AppendError, Bucket, NewRecord};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// Far from every time-out: the shortest call to what is down may take a second. An answer within
/// this time has not waited for it, however busy the machine is.
const NOT_WAITED: Duration = Duration::from_millis(800);

/// How long the service may take to serve normally again after the outage has ended.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a leaf is cut off.
const OUTAGE: Duration = Duration::from_secs(4);

/// After this time of an outage its breakers are open: a call to the bucket, and a probe, may take
/// that long.
const BREAKERS_OPEN: Duration = Duration::from_millis(2_300);

/// How long both shards may take to have the same state after an outage.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// How often both leaves write for each owner while the hub is paused.
const IN_DOUBT_ROUNDS: usize = 3;

/// The command that deletes the bucket. The server accepts an empty body for it.
const DELETE: &str = "$JS.hub.API.STREAM.DELETE.KV_favorites";

/// Goal: an owner may move between the sites. Each site reads what the other one wrote, and serves
/// its callers with its own workers as long as it has one.
///
/// Method: a worker and a caller of the same owner at each of two leaves. The caller at leaf a
/// writes, the caller at leaf b replaces the item, and both read everywhere. Then the worker at
/// leaf a stops.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_moves_from_one_leaf_to_another() {
    let (world, leaves) = World::with_leaves().await;
    let worker_a = world.worker("a").await;
    let _worker_b = world.worker("b").await;
    let at_a = world.caller("alice").await;
    let at_b = world.caller_at(&leaves.b.url(), "alice").await;

    let note = json!({"kind": "text", "id": "note"});
    let replacement = json!({"kind": "text", "id": "note", "data": {"text": "y"}});

    let put = at_a.put_text("a", "note", "x").await;
    assert!(put.get("local").is_none(), "its row is there: {put}");

    for (caller, shard) in [(&at_a, "a"), (&at_b, "b")] {
        for _ in 0..20 {
            let version = caller.done("version", &json!({})).await;
            assert_eq!(version["shard"], shard, "the nearest worker answers");
        }
        let read = caller.done("get", &note).await;
        assert_eq!(read["item"], put["item"], "at {shard}");
    }

    let replaced = at_b.done("put", &replacement).await;
    assert!(replaced["item"]["version"].as_u64() > put["item"]["version"].as_u64());
    assert_eq!(at_a.done("get", &note).await["item"], replaced["item"]);

    // A request to the other shard crosses the hub, in both directions.
    assert_eq!(at_a.done("b.get", &note).await["item"], replaced["item"]);
    assert_eq!(at_b.done("a.get", &note).await["item"], replaced["item"]);
    for shard in ["a", "b"] {
        world.until(shard, "select count(*) from item", "1").await;
    }

    // Without a worker at their own leaf, callers reach the worker of the other shard.
    worker_a.stop().await.expect("stopped in order");
    assert_eq!(at_a.done("get", &note).await["item"], replaced["item"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_a_shard_without_workers_fails_at_once() {
    let (world, leaves) = World::with_leaves().await;
    let _a = world.worker("a").await;

    for url in [world.nats.url(), leaves.b.url()] {
        let client = world.connect_at(&url, "gateway").await;

        let error = client
            .request("favorites.v1.shard.nowhere.list", "{}".into())
            .await
            .expect_err("no worker");

        assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
    }
}

fn item(number: u8) -> NewRecord {
    NewRecord {
        name: RecordName::Item(ItemKey::from_bytes([number; 16])),
        value: vec![number].into(),
    }
}

/// Goal: the server refuses a write that does not expect the owner's present version, single and in
/// a batch. It accepts the right one.
///
/// Method: in three rounds, writes that expect wrong versions go to the bucket, then right ones.
async fn check_expectations(world: &World) {
    let owner = OwnerKey::from_bytes([9; 16]);
    let client = world.connect("worker").await;
    let requester = Requester::start(client).await.expect("an inbox");
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
        let wrong = [0, at - 1, at + 1, 999_999];
        for wrong in wrong.into_iter().filter(|wrong| *wrong != at) {
            let single = append(wrong, &[item(2)]).await;
            let batch = append(wrong, &[item(2), item(3)]).await;

            assert!(
                matches!(single, Err(AppendError::Conflict)),
                "{round}: single, expecting {wrong}: {single:?}"
            );
            assert!(
                matches!(batch, Err(AppendError::Conflict)),
                "{round}: batch, expecting {wrong}: {batch:?}"
            );
        }

        let batch = append(at, &[item(2), item(3)]).await;
        at = batch.expect("the right version");
        let single = append(at, &[item(1)]).await;
        at = single.expect("the right version");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expectation_is_refused_by_a_single_server() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");

    check_expectations(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expectation_is_refused_by_a_cluster() {
    let (world, _cluster) = World::cluster(ACCOUNTS_CONF).await;

    check_expectations(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expectation_is_refused_through_a_leaf() {
    let (world, _leaves) = World::with_leaves().await;
    world.init(&world.settings("a")).await.expect("init");

    check_expectations(&world).await;
}

/// Shows why the filter of an expectation is spelled in one place: with the domain in it, it
/// matches nothing, and the server accepts every write.
#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_names_the_domain_stops_no_write() {
    let (world, _leaves) = World::with_leaves().await;
    world.init(&world.settings("a")).await.expect("init");
    let worker = world.connect("worker").await;

    let write = async |filter: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", filter);
        let subject = format!("$JS.{HUB_DOMAIN}.API.$KV.favorites.owner.item");

        let reply = worker
            .request_with_headers(subject, headers, "x".into())
            .await
            .expect("a reply");
        serde_json::from_slice::<Value>(&reply.payload).expect("JSON")
    };

    let first = write("$KV.favorites.owner.>").await;
    let second = write("$KV.favorites.owner.>").await;
    let with_domain = write("$JS.hub.API.$KV.favorites.owner.>").await;

    let first = first["seq"].as_u64().expect("written");
    assert_eq!(
        second["error"]["err_code"], 10_071,
        "wrong after the first write"
    );
    assert_eq!(with_domain["seq"], first + 1, "as wrong, and accepted");
}

fn print_report(scenario: &str, report: &Report, start: Instant, end: Instant) {
    let [writes, reads] = report.counts();
    let breakers_open = start + BREAKERS_OPEN;

    println!("{scenario}: writes {writes:?}");
    println!("{scenario}: reads {reads:?}");
    println!(
        "{scenario}: slowest {:?}, with open breakers {:?}; normal {:?} after the end",
        report.slowest(start, breakers_open),
        report.slowest(breakers_open, end),
        report.normal_after(end, &[]),
    );
}

/// Waits until a read at the first leaf returns what was written at the other and is not stale.
/// Returns how long that took.
async fn time_until_both_agree(at_a: &Caller, written: &Value) -> Duration {
    let start = Instant::now();
    let note = json!({"kind": "text", "id": "note"});

    loop {
        let read = at_a.ask("a.get", &note).await.body;
        if read["item"] == written["item"] && read["stale"].is_null() {
            return start.elapsed();
        }

        assert!(
            start.elapsed() < AGREEMENT_TIMEOUT,
            "the shards do not agree: {read}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until both shards have in Postgres what the bucket holds, and returns how long that took.
async fn time_until_both_have_all_rows(world: &World) -> Duration {
    let start = Instant::now();
    let newest = world
        .stats(2)
        .await
        .iter()
        .filter_map(|worker| worker["data"]["truth"]["newest"].as_u64())
        .max()
        .expect("a number");

    for shard in ["a", "b"] {
        loop {
            let sequence = world.query(shard, "select sequence from cursor");
            if sequence.parse::<u64>().expect("a number") >= newest {
                break;
            }

            assert!(
                start.elapsed() < AGREEMENT_TIMEOUT,
                "the projection of {shard} does not catch up"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    start.elapsed()
}

/// Checks what an owner sees while leaf a is cut off: the caller at leaf b writes, and the caller
/// at leaf a reads the state before, marked stale, and cannot write. Returns what was written.
async fn check_cut_off(at_a: &Caller, at_b: &Caller) -> Value {
    let note = json!({"kind": "text", "id": "note"});
    let text = json!({"kind": "text", "data": {"text": "x"}});

    tokio::time::sleep(OUTAGE / 2).await;
    let written = at_b.put_text("b", "note", "meanwhile").await;
    tokio::time::sleep(OUTAGE / 2).await;
    let read = at_a.done("a.get", &note).await;
    let put = at_a.ask("a.put", &text).await;

    assert_eq!(read["stale"], true);
    assert_eq!(read["item"]["data"]["text"], "before");
    put.refusal("truth_unavailable");

    written
}

/// Checks the replies of a leaf that was cut off between `start` and `end`.
async fn check_report(report: &mut Report, start: Instant, end: Instant) {
    let codes = [
        "truth_unavailable",
        "in_doubt",
        "deadline_exceeded",
        "overloaded",
    ];
    report.only(&codes, &[Outcome::Pending, Outcome::Stale]);

    let [_, reads] = report.counts();
    assert!(
        reads.contains_key(&Outcome::Stale),
        "reads go on and are marked stale"
    );
    let slowest = report.slowest(start + BREAKERS_OPEN, end);
    assert!(
        slowest <= NOT_WAITED,
        "with open breakers a reply took {slowest:?}"
    );

    // That the rows come is checked by itself.
    let normal = report.normal_after(end, &[Outcome::Pending]);
    report.verify(&["a", "b"]).await;
    report.is_clean();
    assert!(
        normal <= RECOVERY_TIMEOUT,
        "normal service after {normal:?}"
    );
}

/// Goal: a leaf that is cut off from the hub serves stale reads and refuses writes, and once the
/// breakers are open at once. The other leaf notices nothing. Afterwards both agree.
///
/// Method: a worker and a load at each of two leaves, and one owner with a caller at both. `fail`
/// disturbs the link of leaf a for four seconds, while the owner writes at leaf b.
async fn a_leaf_is_cut_off(scenario: &str, fail: impl FnOnce(&Proxy)) {
    let _permit = exclusive().await;
    let (world, leaves) = World::with_leaves().await;
    let _a = world.worker("a").await;
    let _b = world.worker("b").await;
    let at_a = world.caller("alice").await;
    let at_b = world.caller_at(&leaves.b.url(), "alice").await;
    at_a.put_text("a", "note", "before").await;
    at_b.done("b.list", &json!({})).await;
    let load = Load::start(&world, &["", "a"], 8, false).await;
    let other_load = Load::start_at(&world, &leaves.b.url(), &["", "b"], 4).await;
    load.progress(200).await;

    let start = Instant::now();
    fail(&leaves.links[0]);
    let written = check_cut_off(&at_a, &at_b).await;
    let end = Instant::now();
    leaves.links[0].heal();

    let agreed = time_until_both_agree(&at_a, &written).await;
    load.progress(300).await;
    tokio::time::sleep(RECOVERY_TIMEOUT).await;
    load.progress(50).await;
    for worker in world.stats(2).await {
        let reasons = &worker["data"]["reasons"];
        let is_healthy = reasons.as_array().is_none_or(Vec::is_empty);
        assert!(is_healthy, "a worker is not healthy: {reasons}");
    }
    let mut report = load.stop().await;
    let mut other_report = other_load.stop().await;
    let rows = time_until_both_have_all_rows(&world).await;

    print_report(scenario, &report, start, end);
    println!("{scenario}: the shards agreed {agreed:?} after the end");
    println!("{scenario}: they had all rows {rows:?} after the last write");
    assert!(agreed <= RECOVERY_TIMEOUT, "{agreed:?}");
    assert!(rows <= RECOVERY_TIMEOUT, "{rows:?}");
    check_report(&mut report, start, end).await;

    other_report.only(&[], &[Outcome::Pending]);
    other_report.verify(&["b", "a"]).await;
    other_report.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_link_is_cut_serves_stale_reads() {
    a_leaf_is_cut_off("link cut", Proxy::cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_whose_link_hangs_serves_stale_reads() {
    a_leaf_is_cut_off("link hanging", Proxy::freeze).await;
}

/// Goal: a worker that repeats the reply of another shard returns nothing older afterwards.
///
/// Method: a put with a request id is answered by shard a, and repeated on shard b, which finds the
/// reply in its Postgres. The worker of shard b has an older state in its cache. When its link is
/// cut, its stale reads must show the state of the repeated reply.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_returns_nothing_older_than_a_repeated_reply() {
    let (world, leaves) = World::with_leaves().await;
    let _a = world.worker("a").await;
    let _b = world.worker("b").await;
    let at_a = world.caller("alice").await;
    let at_b = world.caller_at(&leaves.b.url(), "alice").await;
    at_a.put_text("a", "note", "before").await;
    at_b.done("b.list", &json!({})).await;

    let note = json!({"kind": "text", "id": "note"});
    let body = json!({"kind": "text", "id": "note", "data": {"text": "x"}});

    let first = at_a.ask_once("a.put", "once", &body).await.body;
    world.until_projected("b", &first).await;
    let repeated = at_b.ask_once("b.put", "once", &body).await.body;
    assert_eq!(repeated, first);

    leaves.links[1].cut();
    let start = Instant::now();
    let read = loop {
        let read = at_b.done("b.get", &note).await;
        if read["stale"] == true {
            break read;
        }
        assert!(start.elapsed() < RECOVERY_TIMEOUT, "the link is cut");
    };

    assert_eq!(read["item"], first["item"]);
    assert_eq!(read["owner_version"], first["owner_version"]);
}

/// A write that is sent at one leaf, and repeated until it succeeds.
struct Write {
    caller: Caller,
    /// The shard and the operation, as in `a.put`.
    what: &'static str,
    request_id: String,
    body: Value,
}

impl Write {
    /// Sends the write with 400 ms, and returns the code of the refusal.
    async fn send_once(&self) -> String {
        let mut headers = self.caller.headers();
        headers.insert("Nats-Msg-Id", self.request_id.as_str());
        headers.insert("Request-Timeout-Ms", "400");
        let bytes = self.body.to_string().into_bytes();

        let reply = self.caller.ask_with(self.what, headers, bytes).await.body;

        let error = &reply["error"];
        assert!(error["status"].as_u64() >= Some(503), "{reply}");
        error["code"].as_str().expect("a code").to_owned()
    }

    /// Repeats the write as `what` until it succeeds, and returns the reply. Every refusal before
    /// that has to be a temporary one.
    async fn settle_as(&self, what: &str) -> Value {
        let start = Instant::now();

        loop {
            let reply = self.caller.ask_once(what, &self.request_id, &self.body);
            let reply = reply.await.body;
            if reply["error"].is_null() {
                return reply;
            }

            assert!(reply["error"]["status"].as_u64() >= Some(503), "{reply}");
            assert!(start.elapsed() < Duration::from_secs(10), "{reply}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Checks that the write is the same one at both leaves.
    async fn check_same_at_both_leaves(&self, settled: &Value) {
        for what in ["a.put", "b.put"] {
            let repeated = self.settle_as(what).await;
            assert_eq!(
                repeated["item"], settled["item"],
                "{}, repeated as {what}",
                self.what
            );
        }
    }
}

/// Returns two writes of each owner, one at each leaf, both based on the same state.
fn writes_of_round(owners: &[(Caller, Caller)], round: usize) -> Vec<Write> {
    let mut writes = Vec::new();

    for (number, (at_a, at_b)) in owners.iter().enumerate() {
        for (caller, what) in [(at_a, "a.put"), (at_b, "b.put")] {
            let id = format!("{what}-{round}");
            writes.push(Write {
                caller: caller.clone(),
                what,
                request_id: format!("{what}-{number}-{round}"),
                body: json!({"kind": "text", "id": id, "data": {"text": "x"}}),
            });
        }
    }

    writes
}

/// Goal: writes that are in doubt at both leaves, based on the same state, are each executed once.
///
/// Method: four owners, each with a caller at both leaves. In three rounds, each caller sends a
/// write while the hub is paused. Afterwards each write is repeated at its own leaf until it
/// succeeds, and then at both.
#[tokio::test(flavor = "multi_thread")]
async fn writes_in_doubt_at_both_leaves_are_each_executed_once() {
    let (world, mut leaves) = World::with_leaves().await;
    let _a = world.worker("a").await;
    let _b = world.worker("b").await;
    let mut owners = Vec::new();
    for number in 0..4 {
        let name = format!("owner-{number}");
        let at_a = world.caller(&name).await;
        let at_b = world.caller_at(&leaves.b.url(), &name).await;
        at_a.put_text("a", "first", "x").await;
        at_b.done("b.list", &json!({})).await;
        owners.push((at_a, at_b));
    }

    let mut in_doubt = 0;
    for round in 0..IN_DOUBT_ROUNDS {
        let writes = writes_of_round(&owners, round);

        let hub = leaves.hub.process();
        hub.signal(Signal::SIGSTOP).expect("paused");
        let codes = futures::future::join_all(writes.iter().map(Write::send_once)).await;
        hub.signal(Signal::SIGCONT).expect("resumed");
        in_doubt += codes.iter().filter(|code| *code == "in_doubt").count();

        let settled = writes.iter().map(|write| write.settle_as(write.what));
        let settled = futures::future::join_all(settled).await;
        for (write, settled) in writes.iter().zip(&settled) {
            write.check_same_at_both_leaves(settled).await;
        }
    }

    let records: u64 = world.records().await.values().sum();
    let writes = 2 * owners.len() * IN_DOUBT_ROUNDS;
    println!("{in_doubt} of {writes} writes were in doubt, each of them was executed once");
    assert!(in_doubt >= writes / 2, "{in_doubt}");
    assert_eq!(
        records as usize,
        2 * owners.len() + writes,
        "keys and first items, and each write once"
    );
}

async fn bucket_exists(leaves: &Leaves, world: &World) -> bool {
    let operator = world.connect_at(&leaves.hub.url(), "operator").await;
    let reply = operator
        .request("$JS.API.STREAM.INFO.KV_favorites", "".into())
        .await
        .expect("a reply");
    let info: Value = serde_json::from_slice(&reply.payload).expect("JSON");

    info["error"].is_null()
}

async fn connect_mallory(url: &str) -> Client {
    let options = ConnectOptions::with_user_and_password("mallory".into(), "mallory".into());

    options
        .skip_subject_validation(true)
        .connect(url)
        .await
        .expect("a connection")
}

/// Returns the leaf's accounts with a user `mallory` in one of them, who may do whatever that
/// account may.
fn with_mallory_in(account: &str) -> String {
    let (before, after) = LEAF_ACCOUNTS_CONF
        .split_once(&format!("  {account} {{"))
        .expect("an account");
    let (head, users) = after.split_once("users: [\n").expect("users");
    let mallory = "      { user: mallory, password: mallory }";

    format!("{before}  {account} {{{head}users: [\n{mallory}\n{users}")
}

/// Goal: a caller at a leaf who may do everything in their account reaches neither the bucket nor
/// the replies to other callers.
///
/// Method: mallory subscribes to everything, sends commands to the bucket's API, and names such a
/// command as a reply subject. A caller of another gateway then puts a text that mallory must not
/// receive. The bucket must hold that caller's records and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn callers_at_a_leaf_reach_neither_bucket_nor_other_replies() {
    let leaf_accounts = with_mallory_in("GATEWAY");
    let (world, leaves) = World::with_leaves_and_accounts(ACCOUNTS_CONF, &leaf_accounts).await;
    let worker = world.worker("a").await;
    let mallory = connect_mallory(&world.nats.url()).await;
    let mut everything = subscribe(&mallory, ">").await;
    let token = world.caller("alice").await.token.to_string();
    let other = Caller::new(world.connect("gateway2").await, token);

    for subject in [
        DELETE,
        "$JS.API.STREAM.DELETE.KV_favorites",
        "$KV.favorites.x.y",
        "$JS.hub.API.$KV.favorites.x.y",
    ] {
        // Whatever comes as a reply, only what the bucket holds afterwards counts.
        let request = mallory.request(subject, "".into());
        let _ = tokio::time::timeout(Duration::from_millis(500), request).await;
    }
    // The reply to this request would be the command.
    mallory
        .publish_with_reply("favorites.v1.version", DELETE, "".into())
        .await
        .expect("sent");
    let put = other
        .put_text("a", "note", "a-text-that-is-not-theirs")
        .await;
    assert_eq!(put["item"]["id"], "note");
    mallory.flush().await.expect("sent");

    let wait = Duration::from_millis(300);
    while let Ok(Some(message)) = tokio::time::timeout(wait, everything.next()).await {
        let payload = String::from_utf8_lossy(&message.payload);
        assert!(!payload.contains("not-theirs"), "on {}", message.subject);
    }
    assert!(bucket_exists(&leaves, &world).await);
    let records = world.records().await.len();
    assert_eq!(records, 2, "a key and an item, nothing from mallory");
    worker.stop().await.expect("stopped in order");
}

/// Lets a user who may do everything in the bucket's account at a leaf try to delete the bucket,
/// and returns whether that succeeds.
async fn a_leaf_can_delete_the_bucket(hub_accounts: &str) -> bool {
    let leaf_accounts = with_breaker(LEAF_ACCOUNTS_CONF);
    let (world, leaves) = World::with_leaves_and_accounts(hub_accounts, &leaf_accounts).await;
    world.init(&world.settings("a")).await.expect("init");
    let breaker = world.connect_breaker().await;

    let request = breaker.request(DELETE, "".into());
    let _ = tokio::time::timeout(Duration::from_secs(1), request).await;

    !bucket_exists(&leaves, &world).await
}

/// Goal: an attacker with all rights at a leaf cannot delete the bucket.
///
/// Method: the attack is made against the hub's accounts, and once more with a hub that grants the
/// leaf the complete API. There it has to succeed, which shows that the attack is a real one.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_was_taken_over_cannot_delete_the_bucket() {
    let too_many_rights = ACCOUNTS_CONF.replacen(
        "\"$JS.hub.API.STREAM.INFO.KV_favorites\"",
        "\"$JS.hub.API.>\"",
        1,
    );

    assert!(!a_leaf_can_delete_the_bucket(ACCOUNTS_CONF).await);
    assert!(
        a_leaf_can_delete_the_bucket(&too_many_rights).await,
        "without the defence the attack succeeds"
    );
}

#[test]
fn the_accounts_of_a_leaf_are_generated_from_those_of_the_hub() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/leaf-accounts");

    let check = Command::new(script).arg("--check").output().expect("ran");

    let output = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{output}");
    for line in LEAF_ACCOUNTS_CONF.lines() {
        assert!(!line.contains("\"$JS.API"), "without the domain: {line}");
        assert!(!line.contains("\"$KV"), "without the domain: {line}");
    }
    assert!(!LEAF_ACCOUNTS_CONF.contains("jetstream"));
}
