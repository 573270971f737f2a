//! The checker detects what it is there for: each test plants one fault between workers and their
//! servers, and a history must show it. The service itself has no switch for these faults.

use super::clients::{CLIENTS, Client, Clock, OPERATIONS, SHARDS, collect};
use super::history::{Entry, History, NO_ORDER};
use super::model::{Answer, Change, Op};
use super::wire::answer;
use crate::harness::{Caller, Leaves, Proxy, Worker, World};
use gofavorites::config::Settings;
use gofavorites::dev::tokens;
use gofavorites::owners::Consistency;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Histories in which a fault must show.
const HISTORIES: usize = 10;

/// Operations of the batch that may be split.
const BATCH_OPS: u8 = 3;

/// How long a shard may take to read from the bucket again after a cut.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns a server's host and port.
fn address(url: &str) -> String {
    url.replace("nats://", "")
}

/// Opens a proxy for each of the three shards.
async fn three(open: impl AsyncFn() -> Proxy) -> [Proxy; 3] {
    [open().await, open().await, open().await]
}

/// Starts the workers of three shards, each behind a proxy of its own.
async fn start_workers(
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

/// Records the history of a new owner.
async fn record_history(world: &World, gateway: &async_nats::Client, number: usize) -> History {
    let name = format!("owner-{number}");
    let token = world.token(&name, tokens::ALL_SCOPES, Duration::from_secs(600));
    let clock = Arc::new(Clock::default());

    let start = |number| {
        let caller = Caller::new(gateway.clone(), token.clone());
        let mut client = Client::new(number, caller, clock.clone());
        // A broken service may never answer, so a client without an answer asks no more.
        client.operation_timeout = Duration::ZERO;

        tokio::spawn(client.ask_all(OPERATIONS, Duration::from_millis(5)))
    };
    let (history, _) = collect((0..CLIENTS).map(start).collect()).await;

    history
}

/// Returns the number of the first history without a linear order; `None` if all have one.
async fn first_without_order(world: &World) -> Option<usize> {
    let gateway = world.connect("gateway").await;

    for number in 1..=HISTORIES {
        let history = record_history(world, &gateway, number).await;
        let verdict = history.check().await;

        println!(
            "history {number}: {} operations, {} unanswered",
            verdict.operations, verdict.pending
        );
        let has_no_order = verdict
            .violations
            .iter()
            .any(|violation| violation.starts_with(NO_ORDER));
        if has_no_order {
            return Some(number);
        }
    }

    None
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_planted_fault_every_history_is_linearizable() {
    let world = World::start().await;
    let target = address(&world.nats.url());
    let proxies = three(async || Proxy::start(&target).await).await;
    let _workers = start_workers(&proxies, &world, |_| {}).await;

    let found = first_without_order(&world).await;

    assert_eq!(found, None);
}

/// Goal: the checker detects workers that write without a compare-and-set.
///
/// Method: between each worker and its server, a proxy misspells the header with the expected
/// version, which the server then ignores. Ten clients of each owner write on three shards.
#[tokio::test(flavor = "multi_thread")]
async fn writes_without_compare_and_set_are_detected() {
    let world = World::start().await;
    let target = address(&world.nats.url());
    let proxies = three(async || {
        let from = "Nats-Expected-Last-Subject-Sequence";
        let to = "Nats-Expected-Last-Subject-Sequenze";

        Proxy::rewriting_requests(&target, from, to).await
    })
    .await;
    let _workers = start_workers(&proxies, &world, |_| {}).await;

    let found = first_without_order(&world).await;

    println!("without compare-and-set: detected in history {found:?}");
    assert!(found.is_some());
}

/// Goal: the checker detects workers that answer strong reads from their cache.
///
/// Method: between each worker and its server, a proxy replaces the wish for a strong read in
/// requests by a version that every copy has. Workers keep copies for a minute. Ten clients of each
/// owner read and write on three shards.
#[tokio::test(flavor = "multi_thread")]
async fn strong_reads_from_the_cache_are_detected() {
    let world = World::start().await;
    let target = address(&world.nats.url());
    let proxies = three(async || {
        let from = r#""consistency":"strong""#;
        let to = r#""min_version":0       "#;

        Proxy::rewriting(&target, from, to).await
    })
    .await;
    let _workers = start_workers(&proxies, &world, |settings| {
        settings.read.consistency = Consistency::Eventual;
        settings.read.max_age_ms = 60_000;
        settings.read.follow = false;
    })
    .await;

    let found = first_without_order(&world).await;

    println!("strong reads from the cache: detected in history {found:?}");
    assert!(found.is_some());
}

/// Goal: the checker detects workers that miss records while they follow the bucket, and answer strong
/// reads from their memory because they have come as far as the barrier.
///
/// Method: between each worker and its server, a proxy adds a filter to the consumers, so that they bring
/// barriers only. Ten clients of each owner read and write on three shards.
#[tokio::test(flavor = "multi_thread")]
async fn strong_reads_that_follow_barriers_only_are_detected() {
    let world = World::start().await;
    let target = address(&world.nats.url());
    let proxies = three(async || {
        let from = r#""max_deliver":1,"mem_storage":true"#;
        let to = r#""filter_subject":"*.*._b.>"       "#;

        Proxy::rewriting_requests(&target, from, to).await
    })
    .await;
    let _workers = start_workers(&proxies, &world, |settings| {
        settings.write.local_wait_ms = 1;
    })
    .await;

    let found = first_without_order(&world).await;

    println!("strong reads that follow barriers only: detected in history {found:?}");
    assert!(found.is_some());
}

/// Returns the entry of an operation that a client of no importance executed at that tick.
fn entry(op: Op, answer: Answer, tick: u64, by_default: bool) -> Entry {
    Entry {
        client: 0,
        op,
        answer,
        began: tick,
        ended: tick + 1,
        by_default,
        min_version: None,
        worker: None,
        during_fault: false,
    }
}

/// An owner's callers at two leaves.
struct TwoCallers {
    at_a: Caller,
    at_b: Caller,
    /// The version of the owner's first write.
    first: u64,
}

/// Creates owners who have one item, on both shards.
async fn create_owners(world: &World, leaves: &Leaves) -> Vec<TwoCallers> {
    let mut owners = Vec::new();

    for number in 0..HISTORIES {
        let name = format!("owner-{number}");
        let at_a = world.caller(&name).await;
        let at_b = world.caller_at(&leaves.b.url(), &name).await;

        let put = at_a.put_text("a", "first", "a-favourite-text-0").await;
        at_b.done("b.list", &json!({})).await;
        world.until_projected("b", &put).await;

        let first = put["item"]["version"].as_u64().expect("a version");
        owners.push(TwoCallers { at_a, at_b, first });
    }

    owners
}

/// The worker of shard b, with proxies between it and its servers. It projects one record in a
/// transaction.
struct SlowShard {
    _worker: Worker,
    postgres: Proxy,
    _nats: Proxy,
}

impl SlowShard {
    /// Starts the worker. What it receives from NATS has `to` in the place of `from`.
    async fn start(world: &World, leaves: &Leaves, from: &str, to: &str) -> Self {
        let nats = Proxy::rewriting(&address(&leaves.b.url()), from, to).await;
        let mut settings = world.settings("b");
        let url = settings.postgres.url.clone();
        let (_, rest) = url.rsplit_once('@').expect("a URL");
        let (target, _) = rest.split_once('/').expect("a URL");
        let postgres = Proxy::start(target).await;

        settings.postgres.url = url.replace(target, &format!("127.0.0.1:{}", postgres.port()));
        settings.nats.url = format!("nats://127.0.0.1:{}", nats.port());
        settings.projection.batch = 1;
        settings.truth.call_ms = 300;

        Self {
            _worker: world.worker_with(settings).await,
            postgres,
            _nats: nats,
        }
    }
}

/// How many histories show half of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
struct HalfBatches {
    /// To a reader of the shard's rows.
    in_rows: usize,
    /// To a caller of the shard's worker, which uses no write without all of its records.
    in_answers: usize,
}

/// Cuts shard b off while it projects a batch, and counts who sees half of it.
///
/// Several owners write a batch at one leaf, one after the other, while the Postgres of the other
/// leaf's shard is slow. The link of that leaf is cut while the shard is within the batch. What its
/// worker receives has `to` in the place of `from`.
async fn count_half_batches(from: &str, to: &str) -> HalfBatches {
    let (world, leaves) = World::with_leaves().await;
    let _a = world.worker("a").await;
    let b = world.worker("b").await;
    let owners = create_owners(&world, &leaves).await;
    b.stop().await.expect("stopped in order");
    let shard = SlowShard::start(&world, &leaves, from, to).await;
    let mut half_batches = HalfBatches::default();

    for TwoCallers { at_a, at_b, first } in &owners {
        // This caches the verdict about the caller, and no record of the owner.
        let reply = at_b.ask("b.get", &json!({})).await;
        reply.refusal("bad_request");

        shard.postgres.delay(Duration::from_millis(30));
        let batch = Batch::write(at_a, *first).await;
        let has_begun = format!("select sequence >= {} from cursor", batch.versions[0]);
        world.until("b", &has_begun, "t").await;
        leaves.links[1].cut();
        let rows = batch.history_of_rows(&world);
        let answers = batch.history_of_answers(at_b).await;
        shard.postgres.heal();
        leaves.links[1].heal();

        half_batches.in_rows += rows.check().await.violations.len();
        half_batches.in_answers += answers.check().await.violations.len();

        wait_for_strong_read(at_b).await;
    }

    half_batches
}

/// Waits until shard b answers a strong read.
async fn wait_for_strong_read(caller: &Caller) {
    let strong = json!({"consistency": "strong"});
    let start = Instant::now();

    while caller.ask("b.list", &strong).await.body["error"].is_object() {
        assert!(
            start.elapsed() < RECOVERY_TIMEOUT,
            "the link does not recover"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// An owner's second write: a batch.
struct Batch {
    /// The version of the owner's first write.
    first: u64,
    versions: Vec<u64>,
}

impl Batch {
    async fn write(caller: &Caller, first: u64) -> Self {
        let put = |item: u8| {
            let id = format!("item-{item}");
            let text = format!("a-favourite-text-{}", item + 1);

            json!({"op": "put", "kind": "text", "id": id, "data": {"text": text}})
        };
        let ops: Vec<Value> = (0..BATCH_OPS).map(put).collect();

        let body = json!({"mode": "atomic", "ops": ops});
        let done = caller.done("a.batch", &body).await;

        let last = done["owner_version"].as_u64().expect("a version");
        Self {
            first,
            versions: (last + 1 - u64::from(BATCH_OPS)..=last).collect(),
        }
    }

    /// Returns both writes, and then reads of the batch's items with these answers.
    fn history(&self, answers: impl IntoIterator<Item = (u8, Answer)>) -> History {
        let put = |item: u8, text: u32| Change {
            item,
            text: Some(text),
            if_version: None,
        };
        let write = |changes| Op::Write {
            changes,
            if_owner_version: None,
        };
        let read = |(item, answer): (u8, Answer)| {
            let tick = 4 + u64::from(item) * 2;
            entry(Op::Get { item }, answer, tick, true)
        };

        // No read is about the item of the first write.
        let first_write = write(vec![put(u8::MAX, 0)]);
        let first_answer = Answer::Written {
            versions: vec![self.first],
        };
        let changes = (0..BATCH_OPS).map(|item| put(item, u32::from(item) + 1));
        let batch = write(changes.collect());
        let batch_answer = Answer::Written {
            versions: self.versions.clone(),
        };

        let mut entries = vec![
            entry(first_write, first_answer, 0, false),
            entry(batch, batch_answer, 2, false),
        ];
        entries.extend(answers.into_iter().map(read));

        History { entries }
    }

    /// Returns the history that a reader of the shard's rows sees in one statement.
    fn history_of_rows(&self, world: &World) -> History {
        let first = self.versions.first().expect("a version");
        let last = self.versions.last().expect("a version");
        let statement =
            format!("select version from item where version between {first} and {last}");

        let rows = world.query("b", &statement);
        let stored: Vec<u64> = rows
            .lines()
            .map(|version| version.parse().expect("a version"))
            .collect();
        let owner = stored.iter().max().copied().unwrap_or(self.first);

        let answer = |(item, version): (u8, &u64)| {
            let answer = if stored.contains(version) {
                Answer::Found {
                    owner,
                    version: *version,
                    text: u32::from(item) + 1,
                }
            } else {
                Answer::NotFound { owner, index: 0 }
            };

            (item, answer)
        };

        self.history((0..).zip(&self.versions).map(answer))
    }

    /// Returns the history that a caller of the shard's worker sees.
    async fn history_of_answers(&self, caller: &Caller) -> History {
        let mut answers = Vec::new();

        for item in 0..BATCH_OPS {
            let get = json!({"kind": "text", "id": format!("item-{item}")});
            let reply = caller.ask("b.get", &get).await.body;

            let answer = answer(&Op::Get { item }, &reply);
            answers.extend(answer.map(|answer| (item, answer)));
        }

        self.history(answers)
    }
}

/// Goal: the checker detects a batch of which a shard has stored only a part.
///
/// Method: the worker of shard b cannot recognise the batch, because its header is misspelled. The
/// shard is cut off within the batch. Its rows must show half of the batch, its worker must not.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_split_by_the_projection_is_detected() {
    let HalfBatches {
        in_rows,
        in_answers,
    } = count_half_batches("Nats-Batch-Id", "Nats-Batch-Ix").await;

    println!("half of a batch: {in_rows} times in rows, {in_answers} times in answers");
    assert!(in_rows > 0);
    assert_eq!(in_answers, 0);
}

/// Goal: without that fault, no reader sees half of a batch, whenever the shard is cut off.
///
/// Method: as above, with the header unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_cut_off_within_a_batch_shows_all_or_nothing() {
    let half_batches = count_half_batches("Nats-Batch-Id", "Nats-Batch-Id").await;

    assert_eq!(half_batches, HalfBatches::default());
}
