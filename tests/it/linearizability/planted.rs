//! The checker finds what it is there for: each of these tests breaks one thing between a worker and its servers, and
//! ends when a history tells of it. No switch for that is in the service.

use super::clients::{CLIENTS, Client, Clock, OPERATIONS, SHARDS, of_all};
use super::history::{Entry, History};
use super::model::{Change, Op, Told};
use super::wire::told;
use crate::harness::{Caller, Proxy, Worker, World};
use gofavorites::config::Settings;
use gofavorites::dev::tokens;
use gofavorites::owners::Consistency;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// In so many histories the fault has to show.
const HISTORIES: usize = 10;
/// Items of the batch that may be split.
const MEMBERS: u8 = 3;

fn address(url: &str) -> String {
    url.replace("nats://", "")
}

/// Three shards, each with a worker behind a proxy of its own.
async fn shards(
    proxies: &[Proxy; 3],
    world: &World,
    change: impl Fn(&mut Settings),
) -> Vec<Worker> {
    let mut workers = Vec::new();
    for (shard, proxy) in SHARDS.iter().zip(proxies) {
        let mut settings = world.settings(shard);
        settings.nats.url = format!("nats://127.0.0.1:{}", proxy.port());
        change(&mut settings);
        workers.push(world.worker_with(settings).await);
    }
    workers
}

/// The number of the first history that has no order; none if all have one.
async fn first_without_an_order(world: &World) -> Option<usize> {
    let gateway = world.connect("gateway").await;
    for number in 1..=HISTORIES {
        let token = world.token(
            &format!("owner-{number}"),
            tokens::ALL_SCOPES,
            Duration::from_secs(600),
        );
        let clock = Arc::new(Clock::default());
        let client = |number| {
            let mut client = Client::new(
                number,
                Caller::new(gateway.clone(), token.clone()),
                clock.clone(),
            );
            // A broken service may never answer; who gets no answer asks no more.
            client.patience = Duration::ZERO;
            tokio::spawn(client.ask_all(OPERATIONS, Duration::from_millis(5)))
        };
        let (history, _) = of_all((0..CLIENTS).map(client).collect()).await;
        let verdict = history.check().await;
        println!(
            "history {number}: {} operations, {} unanswered",
            verdict.operations, verdict.pending
        );
        if verdict
            .violations
            .iter()
            .any(|found| found.starts_with("there is no order"))
        {
            return Some(number);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_planted_fault_every_history_has_an_order() {
    let world = World::start().await;
    let target = address(&world.nats.url());
    let proxies = [
        Proxy::start(&target).await,
        Proxy::start(&target).await,
        Proxy::start(&target).await,
    ];
    let _workers = shards(&proxies, &world, |_| {}).await;
    assert_eq!(first_without_an_order(&world).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_without_an_expectation_are_found() {
    let world = World::start().await;
    let target = address(&world.nats.url());
    let unknown = async || {
        let (from, to) = (
            "Nats-Expected-Last-Subject-Sequence",
            "Nats-Expected-Last-Subject-Sequenze",
        );
        Proxy::rewriting_requests(&target, from, to).await
    };
    let proxies = [unknown().await, unknown().await, unknown().await];
    let _workers = shards(&proxies, &world, |_| {}).await;
    let found = first_without_an_order(&world).await;
    println!("no expectation: found in history {found:?}");
    assert!(found.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_reads_that_are_answered_from_the_cache_are_found() {
    let world = World::start().await;
    let target = address(&world.nats.url());
    // What a worker hears asks for nothing; by default it answers from the copy at hand.
    let weak = async || {
        Proxy::rewriting(
            &target,
            r#""consistency":"strong""#,
            r#""min_version":0       "#,
        )
        .await
    };
    let proxies = [weak().await, weak().await, weak().await];
    let _workers = shards(&proxies, &world, |settings| {
        (settings.read.consistency, settings.read.max_age_ms) = (Consistency::Eventual, 60_000);
    })
    .await;
    let found = first_without_an_order(&world).await;
    println!("strong from the cache: found in history {found:?}");
    assert!(found.is_some());
}

/// What was answered to that operation.
fn entry(op: Op, told: Told, tick: u64, by_default: bool) -> Entry {
    let (began, ended, min_version, worker, struck) = (tick, tick + 1, None, None, false);
    Entry {
        client: 0,
        op,
        told,
        began,
        ended,
        by_default,
        min_version,
        worker,
        struck,
    }
}

/// A batch is written at one leaf while the other's Postgres is slow; the other's link is cut while that shard is in the
/// middle of it. What its worker hears has `from` for `to`. How often half of it was seen, over several owners: by who
/// reads the shard's rows, and by who asks its worker, which believes no write that is not there with all its records.
async fn half_batches_seen(from: &str, to: &str) -> [usize; 2] {
    let (world, leaves) = World::with_leaves().await;
    let (_a, b) = (world.worker("a").await, world.worker("b").await);
    let mut owners = Vec::new();
    for number in 0..HISTORIES {
        let name = format!("owner-{number}");
        let (here, there) = (
            world.caller(&name).await,
            world.caller_at(&leaves.b.url(), &name).await,
        );
        let first = here.put_text("a", "first", "a-favourite-text-0").await;
        there.done("b.list", &json!({})).await;
        world.until_projected("b", &first).await;
        owners.push((
            here,
            there,
            first["item"]["version"].as_u64().expect("a version"),
        ));
    }
    b.stop().await.expect("stopped in order");
    let nats = Proxy::rewriting(&address(&leaves.b.url()), from, to).await;
    let mut settings = world.settings("b");
    let url = settings.postgres.url.clone();
    let (_, place) = url.rsplit_once('@').expect("a URL");
    let (place, _) = place.split_once('/').expect("a URL");
    let slow = Proxy::start(place).await;
    settings.postgres.url = url.replace(place, &format!("127.0.0.1:{}", slow.port()));
    settings.nats.url = format!("nats://127.0.0.1:{}", nats.port());
    (settings.projection.batch, settings.truth.call_ms) = (1, 300);
    let _b = world.worker_with(settings).await;
    let mut found = [0, 0];
    for (here, there, first) in &owners {
        // Its verdict is known there from then on; nothing of the owner is in memory.
        there.ask("b.get", &json!({})).await.refusal("bad_request");
        slow.delay(Duration::from_millis(30));
        let batch = Batch::write(here, *first).await;
        // Until the other shard has begun with it.
        world
            .until(
                "b",
                &format!("select sequence >= {} from cursor", batch.versions[0]),
                "t",
            )
            .await;
        leaves.links[1].cut();
        let histories = [batch.as_rows_tell(&world), batch.as_told(there).await];
        slow.heal();
        leaves.links[1].heal();
        for (found, history) in found.iter_mut().zip(histories) {
            *found += history.check().await.violations.len();
        }
        let since = Instant::now();
        while there
            .ask("b.list", &json!({"consistency": "strong"}))
            .await
            .body["error"]
            .is_object()
        {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "the link does not heal"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
    found
}

/// An owner's second write: a batch.
struct Batch {
    /// The version of their first write.
    first: u64,
    versions: Vec<u64>,
}

impl Batch {
    async fn write(caller: &Caller, first: u64) -> Self {
        let put = |item: u8| {
            let text = format!("a-favourite-text-{}", item + 1);
            json!({"op": "put", "kind": "text", "id": format!("item-{item}"), "data": {"text": text}})
        };
        let ops: Vec<Value> = (0..MEMBERS).map(put).collect();
        let done = caller
            .done("a.batch", &json!({"mode": "atomic", "ops": ops}))
            .await;
        let last = done["owner_version"].as_u64().expect("a version");
        Self {
            first,
            versions: (last + 1 - u64::from(MEMBERS)..=last).collect(),
        }
    }

    /// Both writes, and then what was told of each item of the batch.
    fn history(&self, told: impl IntoIterator<Item = (u8, Told)>) -> History {
        let change = |item: u8| Change {
            item,
            text: Some(u32::from(item) + 1),
            if_version: None,
        };
        let write = |changes| Op::Write {
            changes,
            if_owner_version: None,
        };
        // The item that was there before is none of those that are read.
        let before = write(vec![Change {
            item: u8::MAX,
            text: Some(0),
            if_version: None,
        }]);
        let versions = self.versions.clone();
        let mut entries = vec![
            entry(
                before,
                Told::Written {
                    versions: vec![self.first],
                },
                0,
                false,
            ),
            entry(
                write((0..MEMBERS).map(change).collect()),
                Told::Written { versions },
                2,
                false,
            ),
        ];
        let reads = told
            .into_iter()
            .map(|(item, told)| entry(Op::Get { item }, told, 4 + u64::from(item) * 2, true));
        entries.extend(reads);
        History { entries }
    }

    /// As a reader of the shard's rows sees it, in one look.
    fn as_rows_tell(&self, world: &World) -> History {
        let [first, last] =
            [self.versions.first(), self.versions.last()].map(|end| *end.expect("a version"));
        let rows = world.query(
            "b",
            &format!("select version from item where version between {first} and {last}"),
        );
        let there: Vec<u64> = rows
            .lines()
            .map(|version| version.parse().expect("a version"))
            .collect();
        let owner = there.iter().max().copied().unwrap_or(self.first);
        let told = |(item, version): (u8, &u64)| match there.contains(version) {
            true => (
                item,
                Told::Found {
                    owner,
                    version: *version,
                    text: u32::from(item) + 1,
                },
            ),
            false => (item, Told::NotFound { owner, at: 0 }),
        };
        self.history((0..).zip(&self.versions).map(told))
    }

    /// As the shard's worker tells it.
    async fn as_told(&self, caller: &Caller) -> History {
        let mut all = Vec::new();
        for item in 0..MEMBERS {
            let reply = caller
                .ask(
                    "b.get",
                    &json!({"kind": "text", "id": format!("item-{item}")}),
                )
                .await
                .body;
            all.extend(told(&Op::Get { item }, &reply).map(|told| (item, told)));
        }
        self.history(all)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_projection_splits_is_found() {
    let [rows, told] = half_batches_seen("Nats-Batch-Id", "Nats-Batch-Ix").await;
    println!("a split batch: half of it was seen {rows} times in rows, and told {told} times");
    assert!(rows > 0 && told == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_cut_off_within_a_batch_shows_all_of_it_or_nothing() {
    assert_eq!(
        half_batches_seen("Nats-Batch-Id", "Nats-Batch-Id").await,
        [0, 0]
    );
}
