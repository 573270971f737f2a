//! Outages: each one is made for real, under a load that checks every reply.

use crate::harness::load::{Load, Outcome, Report};
use crate::harness::{Caller, Proxy, Reply, World, exclusive};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Far from every time-out: the shortest call to what is down may take a second. An answer within
/// this time has not waited for it, however busy the machine is.
const NOT_WAITED: Duration = Duration::from_millis(800);

/// What a proxy adds to each way of a slow Postgres: a query takes twice as long at least.
const SLOW_POSTGRES_DELAY: Duration = Duration::from_millis(150);

/// How long the service may take to serve normally again after the outage has ended.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(4);

/// How long an outage lasts.
const OUTAGE: Duration = Duration::from_secs(3);

/// After this time of an outage its breakers are open: a call to the bucket, and a probe, may take
/// that long.
const BREAKERS_OPEN: Duration = Duration::from_millis(2_300);

/// How often every worker is restarted. A loss between a worker and its server shows once in some
/// thousand requests.
const RESTARTS: usize = 5;

/// The codes with which requests may be refused while the bucket is unavailable.
const BUCKET_CODES: [&str; 4] = [
    "truth_unavailable",
    "in_doubt",
    "deadline_exceeded",
    "overloaded",
];

fn print_report(
    scenario: &str,
    report: &Report,
    start: Instant,
    breakers_open: Instant,
    end: Instant,
) {
    let [writes, reads] = report.counts();

    println!("{scenario}: writes {writes:?}");
    println!("{scenario}: reads {reads:?}");
    println!(
        "{scenario}: slowest {:?}, with open breakers {:?}, after the end {:?}; normal {:?} after it",
        report.slowest(start, breakers_open),
        report.slowest(breakers_open, end),
        report.slowest(end, end + RECOVERY_TIMEOUT),
        report.normal_after(end, &[]),
    );
    println!(
        "{scenario}: the first and the last late row, after the start: {:?}",
        report.late_rows(start)
    );
}

/// Checks that every acknowledged write is there, that no reply contradicted one, and that normal
/// service came back in time, with rows in Postgres. The `others` are outcomes that are normal too: a
/// row may be late for a moment if the outage was not of Postgres.
async fn check_report(report: &mut Report, shards: &[&str], end: Instant, others: &[Outcome]) {
    let normal = report.normal_after(end, others);

    let rows_come = report.rows_come(shards, RECOVERY_TIMEOUT).await;
    report.verify(shards).await;

    report.is_clean();
    assert!(rows_come, "the projection does not go on");
    assert!(
        normal <= RECOVERY_TIMEOUT,
        "normal service after {normal:?}"
    );
}

/// Lets the load run on after an outage, until the service has to serve normally again.
async fn recover(load: &Load, requests: u64, more: u64) {
    load.progress(requests).await;
    tokio::time::sleep(RECOVERY_TIMEOUT).await;
    load.progress(more).await;
}

/// Returns settings of a worker that reaches Postgres through a proxy, and that proxy.
async fn settings_with_proxy(world: &World, shard: &str) -> (Settings, Proxy) {
    let mut settings = world.settings(shard);
    let (start, rest) = settings.postgres.url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");

    let proxy = Proxy::start(target).await;
    settings.postgres.url = format!("{start}@127.0.0.1:{}/{database}", proxy.port());

    (settings, proxy)
}

/// Waits until the breakers of these workers for the bucket are open, and returns when they were. A
/// worker learns of the outage by its own calls only, so one may learn of it much later.
async fn wait_until_breakers_open(world: &World, workers: usize) -> Instant {
    let start = Instant::now();

    loop {
        let is_open = world.stats(workers).await.iter().all(|worker| {
            let truth = &worker["data"]["truth"];
            truth["reads"]["state"] == "open" && truth["writes"]["state"] == "open"
        });
        if is_open {
            return Instant::now();
        }

        assert!(
            start.elapsed() < RECOVERY_TIMEOUT * 2,
            "a breaker is closed"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends a `list` that is refused with that code, and checks that the refusal comes at once.
async fn check_refused_at_once(caller: &Caller, code: &str) -> Reply {
    let start = Instant::now();
    let reply = caller.ask("a.list", &json!({})).await;
    let took = start.elapsed();

    reply.refusal(code);
    assert!(took <= NOT_WAITED, "refused after {took:?}");

    reply
}

/// Goal: while Postgres fails, every request succeeds from the bucket and the cache, and without
/// waiting for Postgres once the breaker is open. Afterwards Postgres has every write.
///
/// Method: two workers under load reach Postgres through a proxy that `fail` disturbs for three
/// seconds. Meanwhile an owner that the shard does not host writes and reads for the first time.
async fn postgres_fails(scenario: &str, fail: impl FnOnce(&Proxy)) {
    let _permit = exclusive().await;
    let world = World::start().await;
    let (settings, proxy) = settings_with_proxy(&world, "a").await;
    let _first = world.worker_with(settings.clone()).await;
    let _second = world.worker_with(settings).await;
    let load = Load::start(&world, &["a"], 12, false).await;
    load.progress(200).await;

    let start = Instant::now();
    fail(&proxy);
    tokio::time::sleep(OUTAGE).await;

    let newcomer = world.caller("newcomer").await;
    let put = newcomer.put_text("a", "note", "x").await;
    let list = newcomer.done("a.list", &json!({})).await;
    assert_eq!(put["local"], "pending");
    assert!(list["stale"].is_null(), "served from the bucket: {list}");

    let end = Instant::now();
    proxy.heal();
    recover(&load, 400, 100).await;
    let mut report = load.stop().await;

    print_report(scenario, &report, start, start + BREAKERS_OPEN, end);
    report.only(&[], &[Outcome::Pending]);
    let slowest = report.slowest(start + BREAKERS_OPEN, end);
    assert!(slowest <= NOT_WAITED, "waited for Postgres: {slowest:?}");
    check_report(&mut report, &["a"], end, &[]).await;

    // The newcomer could not be hosted during the outage. The next request hosts them.
    newcomer.done("a.list", &json!({})).await;
    let mut acknowledged = report.versions();
    acknowledged.insert(put["item"]["version"].as_u64().expect("a version"));
    wait_for_rows(&world, "a", acknowledged).await;
}

/// Waits until each of these versions is a row of the shard's Postgres.
async fn wait_for_rows(world: &World, shard: &str, mut versions: BTreeSet<u64>) {
    let start = Instant::now();
    let all = versions.len();

    loop {
        for version in world.query(shard, "select version from item").lines() {
            versions.remove(&version.trim().parse().expect("a number"));
        }
        let missing = versions.len();
        if missing == 0 {
            return println!("{all} acknowledged items have their rows");
        }

        assert!(
            start.elapsed() < RECOVERY_TIMEOUT,
            "{missing} of {all} acknowledged items have no row"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_while_postgres_is_gone() {
    postgres_fails("Postgres gone", Proxy::cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_while_postgres_hangs() {
    postgres_fails("Postgres hanging", Proxy::freeze).await;
}

/// Goal: a slow Postgres slows down new owners only. Reads of owners in the cache do not wait.
///
/// Method: a load of eight owners runs while a proxy adds 150 ms each way to Postgres. Then forty
/// new owners, which need Postgres, write at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_postgres_does_not_slow_down_cached_owners() {
    let _permit = exclusive().await;
    let world = World::start().await;
    let (settings, proxy) = settings_with_proxy(&world, "a").await;
    let _worker = world.worker_with(settings).await;
    let load = Load::start(&world, &["a"], 8, false).await;
    load.progress(200).await;

    let start = Instant::now();
    proxy.delay(SLOW_POSTGRES_DELAY);
    load.progress(200).await;

    let newcomers = (0..40).map(|number| {
        let world = &world;
        async move {
            let newcomer = world.caller(&format!("newcomer-{number}")).await;
            newcomer.put_text("a", "note", "x").await
        }
    });
    futures::future::join_all(newcomers).await;

    let end = Instant::now();
    proxy.heal();
    recover(&load, 200, 50).await;
    let mut report = load.stop().await;

    print_report("slow Postgres", &report, start, start + BREAKERS_OPEN, end);
    report.only(&[], &[Outcome::Pending]);
    // If reads waited for Postgres, each of them would take two delays.
    let nearly_all = report.read_quantile(0.9, start, end);
    assert!(
        nearly_all < 2 * SLOW_POSTGRES_DELAY,
        "a tenth of the reads of cached owners took {nearly_all:?} and more"
    );
    check_report(&mut report, &["a"], end, &[]).await;
}

/// Goal: while the bucket is unavailable, reads of cached owners go on and are marked stale, and
/// writes are refused; once the breakers are open, nothing waits. Afterwards all is normal.
///
/// Method: three workers on two shards under load lose the hub with the bucket until a second after
/// all of them noticed: its process is paused (`frozen`), or the link to it is cut. Meanwhile an
/// owner that no shard hosts asks for the first time, and the workers' statistics are read.
async fn bucket_fails(scenario: &str, frozen: bool) {
    let _permit = exclusive().await;
    let (world, mut hub) = World::behind_a_hub().await;
    let _a1 = world.worker("a").await;
    let _a2 = world.worker("a").await;
    let _b = world.worker("b").await;
    let load = Load::start(&world, &["", "a", "b"], 12, false).await;
    load.progress(300).await;

    let start = Instant::now();
    if frozen {
        hub.pause();
    } else {
        hub.link.cut();
    }
    let breakers_open = wait_until_breakers_open(&world, 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let newcomer = world.caller("newcomer").await;
    let refused = check_refused_at_once(&newcomer, "truth_unavailable").await;
    let details = &refused.refusal("truth_unavailable")["details"];
    assert!(details["retry_after_ms"].is_u64(), "{details}");
    for worker in world.stats(3).await {
        let data = &worker["data"];
        assert_eq!(data["state"], "degraded", "{data}");
        assert_eq!(data["reasons"][0]["part"], "truth", "{data}");
    }

    let end = Instant::now();
    if frozen {
        hub.resume();
    } else {
        hub.link.heal();
    }
    recover(&load, 300, 100).await;
    let mut report = load.stop().await;

    print_report(scenario, &report, start, breakers_open, end);
    report.only(&BUCKET_CODES, &[Outcome::Pending, Outcome::Stale]);
    let [_, reads] = report.counts();
    assert!(
        reads.contains_key(&Outcome::Stale),
        "reads go on and are marked stale"
    );
    let slowest = report.slowest(breakers_open, end);
    assert!(
        slowest <= NOT_WAITED,
        "with open breakers a reply took {slowest:?}"
    );
    check_report(&mut report, &["a", "b"], end, &[Outcome::Pending]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_stale_while_the_bucket_is_cut_off() {
    bucket_fails("bucket cut off", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_stale_while_the_bucket_hangs() {
    bucket_fails("bucket hanging", true).await;
}

/// Goal: while the bucket hangs, a worker serves an owner from Postgres within the caller's time,
/// although the owner is not in its cache.
///
/// Method: an owner writes through one worker. A second worker of the shard, which has never seen
/// the owner, gets a read with 400 ms while the hub is paused.
#[tokio::test(flavor = "multi_thread")]
async fn an_uncached_owner_is_served_from_postgres_in_time() {
    let _permit = exclusive().await;
    let (world, mut hub) = World::behind_a_hub().await;
    let first = world.worker("a").await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    let _cold = world.worker("a").await;
    first.stop().await.expect("stopped in order");

    let mut headers = alice.headers();
    headers.insert("Request-Timeout-Ms", "400");

    hub.pause();
    let start = Instant::now();
    let reply = alice.ask_with("a.list", headers, b"{}".to_vec()).await;
    let took = start.elapsed();
    hub.resume();

    assert_eq!(reply.body["stale"], true, "{}", reply.body);
    assert_eq!(reply.body["items"][0], put["item"], "{}", reply.body);
    // A call to the bucket would take 2 seconds.
    assert!(took <= Duration::from_millis(1_500), "{took:?}");
}

/// Goal: while the bucket hangs, each of many reads of one owner is answered from memory in time,
/// although a worker works on few of them at once.
///
/// Method: alice reads 32 times at once, with 4 s each, while the hub is paused.
#[tokio::test(flavor = "multi_thread")]
async fn many_reads_of_one_owner_are_stale_in_time() {
    let _permit = exclusive().await;
    let (world, mut hub) = World::behind_a_hub().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    let mut headers = alice.headers();
    headers.insert("Request-Timeout-Ms", "4000");

    hub.pause();
    let read = || alice.ask_with("a.list", headers.clone(), b"{}".to_vec());
    let replies = futures::future::join_all((0..32).map(|_| read())).await;
    hub.resume();

    for reply in replies {
        assert_eq!(reply.body["stale"], true, "{}", reply.body);
        assert_eq!(reply.body["items"][0], put["item"], "{}", reply.body);
    }
}

/// Goal: while the bucket is unavailable, a worker answers from the newer of its memory and its
/// shard's Postgres.
///
/// Method: two workers of one shard have an owner in memory. The owner writes through one of them,
/// and then the bucket is cut off. Enough reads follow that each of the two answers some of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_has_what_the_shards_postgres_has() {
    let _permit = exclusive().await;
    let (world, hub) = World::behind_a_hub().await;
    let _first = world.worker("a").await;
    let _second = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "before").await;
    for _ in 0..20 {
        alice.done("a.list", &json!({})).await;
    }

    let put = alice.put_text("a", "note", "after").await;
    world.until_projected("a", &put).await;
    hub.link.cut();
    let mut stale = 0;
    for _ in 0..20 {
        let list = alice.done("a.list", &json!({})).await;
        assert_eq!(list["items"][0], put["item"], "{list}");
        stale += usize::from(list["stale"] == true);
    }
    hub.link.heal();

    assert!(stale > 0, "the bucket is cut off");
}

/// Goal: a worker settles a write in doubt itself, and the caller gets an ordinary reply.
///
/// Method: in five rounds, a write is sent while the hub is paused for 2.5 s. No answer comes, and
/// the write lands when the hub goes on. The bucket must then have every write once.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_settles_a_write_in_doubt_itself() {
    let (world, mut hub) = World::behind_a_hub().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let note = json!({"kind": "text", "id": "note", "consistency": "strong"});
    alice.put_text("a", "note", "first").await;

    for round in 0..5 {
        hub.pause();
        let write = tokio::spawn({
            let alice = alice.clone();
            async move { alice.put_text("a", "note", &format!("round {round}")).await }
        });
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        hub.resume();

        let written = write.await.expect("settled within the caller's time");
        let read = alice.done("a.get", &note).await;
        assert_eq!(read["item"], written["item"]);
    }

    let records = world.records().await;
    let count: u64 = records.values().sum();
    assert_eq!(count, 1 + 6, "the key, and six writes: {records:?}");
}

/// Goal: a write that was refused as in doubt is executed once, although its caller repeats it on
/// both shards.
///
/// Method: a put with a request id is sent to shard a while the hub is paused, and refused. After
/// the pause the same request is sent to shard b and to shard a.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_doubt_is_executed_once_when_repeated() {
    let _permit = exclusive().await;
    let (world, mut hub) = World::behind_a_hub().await;
    let _a = world.worker("a").await;
    let _b = world.worker("b").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "first").await;
    alice.done("b.list", &json!({})).await;

    let body = json!({"kind": "text", "id": "note", "data": {"text": "second"}});
    let mut headers = alice.headers();
    headers.insert("Nats-Msg-Id", "once");
    headers.insert("Request-Timeout-Ms", "400");

    hub.pause();
    let bytes = body.to_string().into_bytes();
    let in_doubt = alice.ask_with("a.put", headers, bytes).await;
    in_doubt.refusal("in_doubt");
    hub.resume();

    let on_b = retry(|| alice.ask_once("b.put", "once", &body)).await;
    let on_a = alice.ask_once("a.put", "once", &body).await.body;

    assert_eq!(on_b["item"], on_a["item"]);
    assert_eq!(on_b["owner_version"], on_a["owner_version"]);
    let records: u64 = world.records().await.values().sum();
    assert_eq!(records, 3, "the key and two writes");
}

/// Repeats a request until it succeeds, and returns the body of the reply.
async fn retry<F: Future<Output = Reply>>(ask: impl Fn() -> F) -> Value {
    let start = Instant::now();

    loop {
        let reply = ask().await.body;
        if reply["error"].is_null() {
            return reply;
        }

        assert!(start.elapsed() < RECOVERY_TIMEOUT, "{reply}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Goal: while the auth service fails, only requests that need a new verdict are refused, and
/// once the breaker is open they are refused at once. Afterwards all is normal.
///
/// Method: a worker keeps verdicts for one second. Under load the auth service stops for three
/// seconds, or its link hangs (`frozen`), so that it neither answers nor is seen to be gone.
async fn auth_service_fails(scenario: &str, frozen: bool) {
    let _permit = exclusive().await;
    let mut world = World::without_auth(ACCOUNTS_CONF).await;
    let link = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    let link_url = format!("nats://127.0.0.1:{}", link.port());
    world.start_auth_at(&link_url).await;
    let mut settings = world.settings("a");
    settings.auth.cache_ttl_ms = 1_000;
    let _worker = world.worker_with(settings).await;
    let load = Load::start(&world, &["a"], 8, false).await;
    load.progress(200).await;

    let start = Instant::now();
    if frozen {
        link.freeze();
    } else {
        world.stop_auth().await;
    }
    tokio::time::sleep(OUTAGE).await;

    let newcomer = world.caller("newcomer").await;
    check_refused_at_once(&newcomer, "auth_unavailable").await;

    let end = Instant::now();
    if frozen {
        link.heal();
    } else {
        world.start_auth().await;
    }
    recover(&load, 200, 50).await;
    let mut report = load.stop().await;

    print_report(scenario, &report, start, start + BREAKERS_OPEN, end);
    // Until the breaker is open, a question to a frozen service takes all of the caller's time.
    let codes: &[&str] = if frozen {
        &["auth_unavailable", "deadline_exceeded"]
    } else {
        &["auth_unavailable"]
    };
    report.only(codes, &[Outcome::Pending]);
    let slowest = report.slowest(start + BREAKERS_OPEN, end);
    assert!(slowest <= NOT_WAITED, "{slowest:?}");
    check_report(&mut report, &["a"], end, &[Outcome::Pending]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_callers_are_refused_while_the_auth_service_is_gone() {
    auth_service_fails("auth service gone", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_callers_are_refused_while_the_auth_service_hangs() {
    auth_service_fails("auth service hanging", true).await;
}

/// Goal: when all workers of a shard crash, the workers of the other shard serve its callers.
///
/// Method: a load asks the nearest worker while the only worker of shard a crashes and, later, a
/// new one starts.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_shard_serves_when_all_workers_of_one_crash() {
    let _permit = exclusive().await;
    let (world, a, _b) = World::with_two_shards().await;
    let load = Load::start(&world, &[""], 8, true).await;
    load.progress(200).await;

    let start = Instant::now();
    a.crash().await;
    load.progress(400).await;

    let end = Instant::now();
    let _a = world.worker("a").await;
    load.progress(200).await;
    let mut report = load.stop().await;

    print_report(
        "all workers of a shard gone",
        &report,
        start,
        start + BREAKERS_OPEN,
        end,
    );
    report.only(&["in_doubt"], &[Outcome::NoReply, Outcome::Pending]);
    check_report(&mut report, &["a", "b"], end, &[Outcome::Pending]).await;
}

/// Goal: callers see no error while the workers of two shards are restarted one by one.
///
/// Method: each shard has two workers under load. Five times, each worker stops in order and a new
/// one starts in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_shows_callers_no_error() {
    let world = World::start().await;
    let mut a = vec![world.worker("a").await, world.worker("a").await];
    let mut b = vec![world.worker("b").await, world.worker("b").await];
    let load = Load::start(&world, &["", "a", "b"], 12, false).await;
    load.progress(200).await;

    let start = Instant::now();
    for _ in 0..RESTARTS {
        for shard in ["a", "b", "a", "b"] {
            let workers = if shard == "a" { &mut a } else { &mut b };
            workers.remove(0).stop().await.expect("stopped in order");
            workers.push(world.worker(shard).await);
            load.progress(100).await;
        }
    }
    let end = Instant::now();
    let mut report = load.stop().await;

    print_report(
        "rolling restart",
        &report,
        start,
        start + BREAKERS_OPEN,
        end,
    );
    report.only(&[], &[Outcome::Pending]);
    report.verify(&["a", "b"]).await;
    report.is_clean();
}

/// Goal: a kill of the NATS server loses no acknowledged write, and normal service comes back.
///
/// Method: the server of two shards is killed under load, and starts again after half a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_the_nats_server_loses_nothing() {
    let _permit = exclusive().await;
    let mut world = World::start().await;
    let _a = world.worker("a").await;
    let _b = world.worker("b").await;
    let load = Load::start(&world, &["", "a", "b"], 8, true).await;
    load.progress(200).await;

    let start = Instant::now();
    world.nats.process().kill9().expect("killed");
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.nats.restart().await.expect("started again");

    let end = Instant::now();
    recover(&load, 200, 50).await;
    let mut report = load.stop().await;

    print_report("NATS killed", &report, start, start + BREAKERS_OPEN, end);
    let codes = [&BUCKET_CODES[..], &["auth_unavailable"]].concat();
    let others = [Outcome::NoReply, Outcome::Pending, Outcome::Stale];
    report.only(&codes, &others);
    check_report(&mut report, &["a", "b"], end, &[Outcome::Pending]).await;
}

/// Puts large notes until one is refused. Returns how many were acknowledged, and the refusal.
async fn put_until_full(alice: &Caller) -> (usize, Reply) {
    let text = "x".repeat(20_000);

    for number in 0..100 {
        let id = format!("note-{number}");
        let body = json!({"kind": "text", "id": id, "data": {"text": text}});
        let reply = alice.ask("a.put", &body).await;
        if reply.body["error"].is_object() {
            return (number, reply);
        }
    }

    panic!("the bucket is not full after a hundred notes");
}

/// Fills the bucket to the last byte, so that not even a barrier fits in. A strong read and a
/// refusal need one.
async fn fill_to_the_last_byte(alice: &Caller, strong: &Value) {
    for number in 0..200 {
        let body = json!({"kind": "text", "id": format!("small-{number}"), "data": {"text": "x"}});
        if alice.ask("a.put", &body).await.body["error"].is_object() {
            break;
        }
    }

    for _ in 0..100 {
        if alice.ask("a.list", strong).await.body["error"].is_object() {
            break;
        }
    }
}

/// Checks that a head read returns all acknowledged notes and is not stale.
async fn check_served(alice: &Caller, notes: usize) {
    let head = json!({"limit": 500, "consistency": "head"});
    let list = alice.done("a.list", &head).await;

    let listed = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["id"].as_str())
        .filter(|id| id.starts_with("note-"))
        .count();
    assert_eq!(listed, notes, "every acknowledged note is listed");
    assert!(list["stale"].is_null());
}

/// Goal: a full bucket refuses writes and strong reads with a clear message. All other reads go on,
/// also at a worker that has the owner only in Postgres.
///
/// Method: the account may store 400 KB, which has the effect of a full disk. One owner fills it,
/// then reads at the present worker and at a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_bucket_refuses_writes_and_serves_reads() {
    let accounts = ACCOUNTS_CONF.replace("jetstream: enabled", "jetstream: { max_file: 400KB }");
    let world = World::with_accounts(&accounts).await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    let strong = json!({"limit": 500, "consistency": "strong"});
    let conflict = json!({"kind": "text", "id": "note-0", "data": {"text": "y"}, "if_version": 1});

    let (notes, refused) = put_until_full(&alice).await;
    let message = &refused.refusal("truth_unavailable")["message"];
    let message = message.as_str().expect("a text");
    assert!(message.contains("takes no more"), "{message}");

    fill_to_the_last_byte(&alice, &strong).await;
    let strong_read = alice.ask("a.list", &strong).await;
    strong_read.refusal("truth_unavailable");
    let conflicting_put = alice.ask("a.put", &conflict).await;
    conflicting_put.refusal("truth_unavailable");

    check_served(&alice, notes).await;
    worker.stop().await.expect("stopped in order");
    let _another = world.worker("a").await;
    check_served(&alice, notes).await;
}
