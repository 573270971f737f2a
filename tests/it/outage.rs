//! What happens when something is down: each outage made for real, under a load whose every answer is checked.

use crate::harness::load::{Load, Outcome, Report};
use crate::harness::{Proxy, World, exclusive};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Far from every time-out: the shortest call to what is down may take a second. An answer within this time has not waited
/// for it, however busy the machine is.
const NOT_WAITED: Duration = Duration::from_millis(500);
/// How long the service may take to serve normally again after the outage has ended.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(4);
/// How long an outage lasts.
const OUTAGE: Duration = Duration::from_secs(3);
/// After this time of an outage its breakers are open: a call to the bucket, and a probe, may take that long.
const BREAKERS_OPEN: Duration = Duration::from_millis(2_300);

/// How often every worker is restarted: what is lost between a worker and its server shows once in some thousand requests.
const RESTARTS: usize = 5;

const PENDING_OR_STALE: [Outcome; 2] = [Outcome::Pending, Outcome::Stale];

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

/// Everything is as it was acknowledged, and was so all the time; normal service came back in time.
async fn is_as_acknowledged(report: &mut Report, shards: &[&str], ended: Instant) {
    let normal = report.normal_after(ended);
    report.verify(shards).await;
    report.is_clean();
    assert!(normal <= RECOVERY_TIMEOUT, "normal service after {normal:?}");
}

/// Workers whose way to Postgres can be cut and frozen.
async fn through_a_link(world: &World, shard: &str) -> (Settings, Proxy) {
    let mut settings = world.settings(shard);
    let (start, rest) = settings.postgres.url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");
    let link = Proxy::start(target).await;
    settings.postgres.url = format!("{start}@127.0.0.1:{}/{database}", link.port());
    (settings, link)
}

async fn postgres_goes(what: &str, go: impl FnOnce(&Proxy)) {
    let _permit = exclusive().await;
    let world = World::start().await;
    let (settings, link) = through_a_link(&world, "a").await;
    let _workers = (
        world.worker_with(settings.clone()).await,
        world.worker_with(settings).await,
    );
    let load = Load::start(&world, &["a"], 12, false).await;
    load.progress(200).await;
    let began = Instant::now();
    go(&link);
    tokio::time::sleep(OUTAGE).await;
    // Somebody who has never been here is served from the truth.
    let newcomer = world.caller("newcomer").await;
    let put = newcomer.put_text("a", "note", "x").await;
    assert_eq!(put["local"], "pending");
    assert!(newcomer.done("a.list", &json!({})).await["stale"].is_null());
    let ended = Instant::now();
    link.heal();
    load.progress(400).await;
    tokio::time::sleep(RECOVERY_TIMEOUT).await;
    load.progress(100).await;
    let mut report = load.stop().await;
    tell(what, &report, began, ended);
    report.only(&[], &[Outcome::Pending]);
    let slowest = report.slowest(began + BREAKERS_OPEN, ended);
    assert!(
        slowest <= NOT_WAITED,
        "somebody waited for Postgres: {slowest:?}"
    );
    is_as_acknowledged(&mut report, &["a"], ended).await;
    // What was acknowledged while it was away is there. The newcomer could not be hosted then, and is on coming again.
    newcomer.done("a.list", &json!({})).await;
    let mut acknowledged = report.versions();
    acknowledged.insert(put["item"]["version"].as_u64().expect("a version"));
    wait_for_rows(&world, "a", acknowledged).await;
}

/// Ends when each of the versions that were acknowledged last of an item is a row of the shard's Postgres.
async fn wait_for_rows(world: &World, shard: &str, mut acknowledged: BTreeSet<u64>) {
    let (since, all) = (Instant::now(), acknowledged.len());
    loop {
        for version in world.query(shard, "select version from item").lines() {
            acknowledged.remove(&version.trim().parse().expect("a number"));
        }
        if acknowledged.is_empty() {
            return println!("{all} acknowledged items have their rows");
        }
        assert!(
            since.elapsed() < RECOVERY_TIMEOUT,
            "{} of {all} acknowledged items have no row",
            acknowledged.len()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_gone() {
    postgres_goes("Postgres gone", Proxy::cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_hangs() {
    postgres_goes("Postgres hanging", Proxy::freeze).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_postgres_slows_nobody_who_is_known() {
    let _permit = exclusive().await;
    let world = World::start().await;
    let (mut settings, link) = through_a_link(&world, "a").await;
    settings.postgres.call_ms = 3_000;
    let _worker = world.worker_with(settings).await;
    let load = Load::start(&world, &["a"], 8, false).await;
    load.progress(200).await;

    let began = Instant::now();
    // Each way: one question to Postgres takes longer than `NOT_WAITED`.
    link.delay(Duration::from_millis(300));
    load.progress(200).await;
    // Newcomers, who need Postgres, take their time; the others do not wait for them.
    let newcomers = (0..40).map(|number| {
        let world = &world;
        async move {
            world
                .caller(&format!("newcomer-{number}"))
                .await
                .put_text("a", "note", "x")
                .await
        }
    });
    futures::future::join_all(newcomers).await;
    let ended = Instant::now();
    link.heal();
    load.progress(200).await;
    tokio::time::sleep(RECOVERY_TIMEOUT).await;
    load.progress(50).await;
    let mut report = load.stop().await;
    tell("slow Postgres", &report, began, ended);
    report.only(&[], &[Outcome::Pending]);
    let slowest_read = report.slowest_read(began, ended);
    assert!(
        slowest_read < NOT_WAITED,
        "a read of a known owner took {slowest_read:?}"
    );
    is_as_acknowledged(&mut report, &["a"], ended).await;
}

async fn the_truth_goes(what: &str, frozen: bool) {
    let _permit = exclusive().await;
    let (world, mut hub) = World::behind_a_hub().await;
    let _workers = (
        world.worker("a").await,
        world.worker("a").await,
        world.worker("b").await,
    );
    let load = Load::start(&world, &["", "a", "b"], 12, false).await;
    load.progress(300).await;
    let began = Instant::now();
    match frozen {
        true => hub
            .server
            .process()
            .signal(Signal::SIGSTOP)
            .expect("stopped"),
        false => hub.link.cut(),
    }
    tokio::time::sleep(OUTAGE).await;
    // Somebody whom the shard does not host can only be refused, at once.
    let newcomer = world.caller("newcomer").await;
    let asked = Instant::now();
    let refused = newcomer.ask("a.list", &json!({})).await;
    assert!(refused.refusal("truth_unavailable")["details"]["retry_after_ms"].is_u64());
    assert!(
        asked.elapsed() <= NOT_WAITED,
        "refused after {:?}",
        asked.elapsed()
    );
    let told = world.stats(3).await;
    let knows = |one: &Value| {
        one["data"]["state"] == "degraded" && one["data"]["reasons"][0]["part"] == "truth"
    };
    assert!(told.iter().all(knows), "somebody does not know: {told:#?}");
    let ended = Instant::now();
    match frozen {
        true => hub
            .server
            .process()
            .signal(Signal::SIGCONT)
            .expect("continued"),
        false => hub.link.heal(),
    }
    load.progress(300).await;
    tokio::time::sleep(RECOVERY_TIMEOUT).await;
    load.progress(100).await;
    let mut report = load.stop().await;
    tell(what, &report, began, ended);
    report.only(
        &[
            "truth_unavailable",
            "in_doubt",
            "deadline_exceeded",
            "overloaded",
        ],
        &PENDING_OR_STALE,
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
    is_as_acknowledged(&mut report, &["a", "b"], ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_truth_is_cut_off() {
    the_truth_goes("truth cut off", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_truth_hangs() {
    the_truth_goes("truth hanging", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_is_not_in_memory_is_served_from_postgres_in_the_callers_time() {
    let _permit = exclusive().await;
    let (world, mut hub) = World::behind_a_hub().await;
    let first = world.worker("a").await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    let _cold = world.worker("a").await;
    first.stop().await.expect("stopped in order");
    hub.server
        .process()
        .signal(Signal::SIGSTOP)
        .expect("stopped");
    let mut headers = alice.headers();
    headers.insert("Request-Timeout-Ms", "400");
    let asked = Instant::now();
    let reply = alice.ask_with("a.list", headers, b"{}".to_vec()).await;
    let took = asked.elapsed();
    hub.server
        .process()
        .signal(Signal::SIGCONT)
        .expect("continued");
    assert_eq!(
        (&reply.body["stale"], &reply.body["items"][0]),
        (&json!(true), &put["item"]),
        "{}",
        reply.body
    );
    // Not the 2 seconds that a call to the bucket may take.
    assert!(took <= Duration::from_millis(1_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_doubt_is_settled_by_the_worker_itself() {
    let (world, mut hub) = World::behind_a_hub().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "first").await;
    for round in 0..5 {
        // Sent to a server that is paused: no answer comes, and it lands when the server goes on.
        hub.server
            .process()
            .signal(Signal::SIGSTOP)
            .expect("stopped");
        let write = tokio::spawn({
            let alice = alice.clone();
            async move { alice.put_text("a", "note", &format!("round {round}")).await }
        });
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        hub.server
            .process()
            .signal(Signal::SIGCONT)
            .expect("continued");
        let written = write
            .await
            .expect("not refused: it was settled within the caller's time");
        let read = alice
            .done(
                "a.get",
                &json!({"kind": "text", "id": "note", "consistency": "strong"}),
            )
            .await;
        assert_eq!(read["item"], written["item"]);
    }
    let records = world.records().await;
    let kept: u64 = records.values().sum();
    assert_eq!(
        kept,
        1 + 6,
        "the key, and each of the six writes once: {records:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_doubt_is_done_once_when_it_is_asked_for_again() {
    let _permit = exclusive().await;
    let (world, mut hub) = World::behind_a_hub().await;
    let (_a, _b) = (world.worker("a").await, world.worker("b").await);
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "first").await;
    alice.done("b.list", &json!({})).await;
    let body = json!({"kind": "text", "id": "note", "data": {"text": "second"}});
    hub.server
        .process()
        .signal(Signal::SIGSTOP)
        .expect("stopped");
    let mut headers = alice.headers();
    headers.insert("Nats-Msg-Id", "once");
    headers.insert("Request-Timeout-Ms", "400");
    alice
        .ask_with("a.put", headers, body.to_string().into_bytes())
        .await
        .refusal("in_doubt");
    hub.server
        .process()
        .signal(Signal::SIGCONT)
        .expect("continued");
    let again = retry(|| alice.ask_once("b.put", "once", &body)).await;
    let once_more = alice.ask_once("a.put", "once", &body).await.body;
    assert_eq!(
        (&again["item"], &again["owner_version"]),
        (&once_more["item"], &once_more["owner_version"])
    );
    assert_eq!(
        world.records().await.values().sum::<u64>(),
        3,
        "the key and two writes"
    );
}

/// Asks until it is not refused for something that is away; for two seconds at most.
async fn retry<F: Future<Output = crate::harness::Reply>>(ask: impl Fn() -> F) -> Value {
    let since = Instant::now();
    loop {
        let reply = ask().await.body;
        if reply["error"].is_null() {
            return reply;
        }
        assert!(since.elapsed() < RECOVERY_TIMEOUT, "{reply}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn the_auth_service_goes(what: &str, frozen: bool) {
    let _permit = exclusive().await;
    let mut world = World::without_auth(ACCOUNTS_CONF).await;
    // Its own way to NATS, which can be frozen: then it neither answers nor is known to be gone.
    let link = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    world
        .start_auth_at(&format!("nats://127.0.0.1:{}", link.port()))
        .await;
    let mut settings = world.settings("a");
    settings.auth.cache_ttl_ms = 1_000;
    let _worker = world.worker_with(settings).await;
    let load = Load::start(&world, &["a"], 8, false).await;
    load.progress(200).await;
    let began = Instant::now();
    match frozen {
        true => link.freeze(),
        false => world.stop_auth().await,
    }
    tokio::time::sleep(OUTAGE).await;
    let newcomer = world.caller("newcomer").await;
    let asked = Instant::now();
    newcomer
        .ask("a.list", &json!({}))
        .await
        .refusal("auth_unavailable");
    assert!(
        asked.elapsed() <= NOT_WAITED,
        "refused after {:?}",
        asked.elapsed()
    );
    let ended = Instant::now();
    match frozen {
        true => link.heal(),
        false => world.start_auth().await,
    }
    load.progress(200).await;
    tokio::time::sleep(RECOVERY_TIMEOUT).await;
    load.progress(50).await;
    let mut report = load.stop().await;
    tell(what, &report, began, ended);
    // Until it is known to hang, a question to it takes all of the caller's time.
    report.only(
        if frozen {
            &["auth_unavailable", "deadline_exceeded"]
        } else {
            &["auth_unavailable"]
        },
        &[],
    );
    assert!(report.slowest(began + BREAKERS_OPEN, ended) <= NOT_WAITED);
    is_as_acknowledged(&mut report, &["a"], ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auth_service_is_gone() {
    the_auth_service_goes("auth service gone", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auth_service_hangs() {
    the_auth_service_goes("auth service hanging", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_of_a_shard_are_gone() {
    let _permit = exclusive().await;
    let (world, a, _b) = World::with_two_shards().await;
    let load = Load::start(&world, &[""], 8, true).await;
    load.progress(200).await;
    let began = Instant::now();
    a.crash().await;
    load.progress(400).await;
    let ended = Instant::now();
    let _a = world.worker("a").await;
    load.progress(200).await;
    let mut report = load.stop().await;
    tell("all workers of a shard gone", &report, began, ended);
    report.only(&["in_doubt"], &[Outcome::NoReply, Outcome::Pending]);
    is_as_acknowledged(&mut report, &["a", "b"], ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_shows_callers_not_one_error() {
    let world = World::start().await;
    let (mut a, mut b) = (
        vec![world.worker("a").await, world.worker("a").await],
        vec![world.worker("b").await, world.worker("b").await],
    );
    let load = Load::start(&world, &["", "a", "b"], 12, false).await;
    load.progress(200).await;
    let began = Instant::now();
    for _ in 0..RESTARTS {
        for shard in ["a", "b", "a", "b"] {
            let workers = if shard == "a" { &mut a } else { &mut b };
            workers.remove(0).stop().await.expect("stopped in order");
            workers.push(world.worker(shard).await);
            load.progress(100).await;
        }
    }
    let ended = Instant::now();
    let mut report = load.stop().await;
    tell("rolling restart", &report, began, ended);
    report.only(&[], &[Outcome::Pending]);
    report.verify(&["a", "b"]).await;
    report.is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_server_is_killed() {
    let _permit = exclusive().await;
    let mut world = World::start().await;
    let _workers = (world.worker("a").await, world.worker("b").await);
    let load = Load::start(&world, &["", "a", "b"], 8, true).await;
    load.progress(200).await;
    let began = Instant::now();
    world.nats.process().kill9().expect("killed");
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.nats.restart().await.expect("started again");
    let ended = Instant::now();
    load.progress(200).await;
    tokio::time::sleep(RECOVERY_TIMEOUT).await;
    load.progress(50).await;
    let mut report = load.stop().await;
    tell("NATS killed", &report, began, ended);
    let codes = [
        "truth_unavailable",
        "auth_unavailable",
        "in_doubt",
        "deadline_exceeded",
        "overloaded",
    ];
    report.only(
        &codes,
        &[Outcome::NoReply, Outcome::Pending, Outcome::Stale],
    );
    is_as_acknowledged(&mut report, &["a", "b"], ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_bucket_refuses_writes_and_serves_reads() {
    // The account may store little: what a full disk comes to, without filling the machine's.
    let accounts = ACCOUNTS_CONF.replace("jetstream: enabled", "jetstream: { max_file: 400KB }");
    let world = World::with_accounts(&accounts).await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let (mut kept, text) = (Vec::new(), "x".repeat(20_000));
    let refused = loop {
        let id = format!("note-{}", kept.len());
        let reply = alice
            .ask(
                "a.put",
                &json!({"kind": "text", "id": id, "data": {"text": text}}),
            )
            .await;
        if reply.body["error"].is_object() {
            break reply;
        }
        kept.push(reply.body["item"].clone());
        assert!(kept.len() < 100, "it never gets full");
    };
    assert!(
        refused.refusal("truth_unavailable")["message"]
            .as_str()
            .is_some_and(|text| text.contains("takes no more"))
    );
    // To the last byte: so that not even what confirms a refusal or a strong read finds room.
    for number in 0..200 {
        let small = json!({"kind": "text", "id": format!("small-{number}"), "data": {"text": "x"}});
        if alice.ask("a.put", &small).await.body["error"].is_object() {
            break;
        }
    }
    let strong = json!({"limit": 500, "consistency": "strong"});
    for _ in 0..100 {
        if alice.ask("a.list", &strong).await.body["error"].is_object() {
            break;
        }
    }
    alice
        .ask("a.list", &strong)
        .await
        .refusal("truth_unavailable");
    let conflict = json!({"kind": "text", "id": "note-0", "data": {"text": "y"}, "if_version": 1});
    alice
        .ask("a.put", &conflict)
        .await
        .refusal("truth_unavailable");
    // Who is known is served, also by a worker that has them from Postgres only.
    let is_served = async || {
        let listed = alice
            .done("a.list", &json!({"limit": 500, "consistency": "head"}))
            .await;
        let listed_ids = listed["items"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|item| item["id"].as_str());
        let notes = listed_ids.filter(|id| id.starts_with("note-")).count();
        assert_eq!(notes, kept.len(), "what was acknowledged is there");
        assert!(listed["stale"].is_null());
    };
    is_served().await;
    worker.stop().await.expect("stopped in order");
    let _another = world.worker("a").await;
    is_served().await;
}
