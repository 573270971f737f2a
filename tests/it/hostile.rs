//! Owners at their limits beside ordinary ones: what the others notice of them, and what memory the
//! worker takes.

use crate::harness::{Caller, Process, SeededNumbers, World, exclusive};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gofavorites::config::Settings;
use gofavorites::handler::Limits;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;

const MIB: u64 = 1 << 20;
/// What a worker takes beside sets, by docs/operations.md.
const PROCESS_BYTES: u64 = 128 * MIB;

/// The items of a hostile owner, and the bytes of the text of each: together nearly as many as an
/// owner may have.
const HEAVY_ITEMS: usize = 500;
const HEAVY_TEXT_BYTES: usize = 7_900;
/// How many of them fit into one request.
const HEAVY_BATCH: usize = 30;
/// The items of an ordinary owner.
const LIGHT_ITEMS: usize = 10;

/// The longest that a refused hostile caller waits, whatever the refusal says.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long an owner's batch may take before the measurement.
const FILL_TIMEOUT: Duration = Duration::from_secs(30);
/// What an ordinary caller does between two requests.
const THINK_TIME: Duration = Duration::from_millis(50);

/// Who sends requests at the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The ordinary callers alone.
    Quiet,
    /// The hostile ones too.
    Hostile,
    Over,
}

/// How much is done.
struct Extent {
    hostile: usize,
    /// The requests of each hostile owner that are under way.
    in_flight: usize,
    ordinary: usize,
    rounds: usize,
    /// How long each phase of a round takes.
    phase: Duration,
}

/// What was seen.
struct Outcome {
    /// The times of the ordinary requests in each phase, in order.
    times: BTreeMap<Phase, Vec<Duration>>,
    /// How often each code was answered to ordinary and to hostile requests.
    ordinary: BTreeMap<String, usize>,
    hostile: BTreeMap<String, usize>,
    /// The most memory that the worker ever took, in bytes.
    memory: u64,
}

type Codes = BTreeMap<String, usize>;

impl Outcome {
    /// Returns the time within which that share of the ordinary requests was answered.
    fn quantile(&self, phase: Phase, share: f64) -> Duration {
        let times = &self.times[&phase];
        let rank = (times.len() as f64 * share) as usize;
        times[rank.min(times.len() - 1)]
    }

    fn print(&self) {
        for phase in [Phase::Quiet, Phase::Hostile] {
            let times: Vec<Duration> = [0.5, 0.9, 0.99, 0.999]
                .map(|share| self.quantile(phase, share))
                .into();
            println!(
                "hostile: {phase:?}: {} ordinary requests, p50 p90 p99 p99.9 {times:?}",
                self.times[&phase].len()
            );
        }

        println!("hostile: p99 grew by a factor of {:.2}", self.growth());
        println!("hostile: ordinary answers {:?}", self.ordinary);
        println!("hostile: hostile answers {:?}", self.hostile);
        let bound = memory_bound();
        println!(
            "hostile: the worker took {} MiB at most, and the bound is {} MiB",
            self.memory / MIB,
            bound / MIB
        );
    }

    /// How many times as long the ordinary requests took because of the hostile ones, by their 99th
    /// percentile.
    fn growth(&self) -> f64 {
        let p99 = |phase| self.quantile(phase, 0.99).as_secs_f64();
        p99(Phase::Hostile) / p99(Phase::Quiet)
    }

    /// Fails unless the ordinary owners were served, the hostile ones were served and refused for
    /// what they cost, and the memory is within its bound.
    fn check(&self) {
        let served = self.ordinary["ok"];
        let sent: usize = self.ordinary.values().sum();
        assert!(served * 100 >= sent * 99, "{:?}", self.ordinary);
        for code in ["rate_limited", "overloaded"] {
            assert!(!self.ordinary.contains_key(code), "{:?}", self.ordinary);
        }

        for code in ["internal", "no reply"] {
            assert!(!self.hostile.contains_key(code), "{:?}", self.hostile);
        }
        assert!(self.hostile["ok"] > 0, "{:?}", self.hostile);
        assert!(self.hostile["rate_limited"] > 0, "{:?}", self.hostile);
        assert!(self.memory <= memory_bound(), "{} bytes", self.memory);
    }
}

/// The bound of a worker's memory that its settings name.
fn memory_bound() -> u64 {
    let read = Settings::default().read;
    read.cache_bytes + read.in_use_bytes + PROCESS_BYTES
}

/// A worker with the default limits on owners.
fn settings(world: &World) -> Settings {
    let mut settings = world.settings("a");
    let Limits {
        owner_bytes,
        rate_per_s,
        ..
    } = Limits::default();
    settings.limits.owner_bytes = owner_bytes;
    settings.limits.rate_per_s = rate_per_s;

    settings
}

fn text(number: usize, bytes: usize) -> Value {
    json!({"kind": "text", "id": number.to_string(), "data": {"text": "x".repeat(bytes)}})
}

fn batch(numbers: impl Iterator<Item = usize>, bytes: usize) -> Value {
    let op = |number| {
        let mut op = text(number, bytes);
        op["op"] = json!("put");
        op
    };
    json!({"mode": "each", "ops": numbers.map(op).collect::<Vec<_>>()})
}

/// Gives the owners their items, by a worker that sets no rate.
async fn fill(world: &World, hostile: &[Caller], ordinary: &[Caller]) {
    let mut settings = settings(world);
    settings.limits.rate_per_s = 0;
    let worker = world.worker_with(settings).await;

    let heavy = hostile.iter().map(|caller| async move {
        for first in (0..HEAVY_ITEMS).step_by(HEAVY_BATCH) {
            let numbers = first..HEAVY_ITEMS.min(first + HEAVY_BATCH);
            write(caller, &batch(numbers, HEAVY_TEXT_BYTES)).await;
        }
        let usage = caller.done("a.usage", &json!({})).await;
        let used = usage["bytes"]["used"].as_u64().expect("a number");
        assert!(used > 7 * MIB / 2, "{usage}");
    });
    stream::iter(heavy)
        .buffer_unordered(3)
        .collect::<()>()
        .await;
    let light = batch(0..LIGHT_ITEMS, 100);
    let light = ordinary.iter().map(|caller| write(caller, &light));
    stream::iter(light)
        .buffer_unordered(8)
        .collect::<()>()
        .await;

    worker.stop().await.expect("stopped in order");
}

/// Sends a batch until it is done: a machine that is busy with other tests may need some time.
async fn write(caller: &Caller, batch: &Value) {
    let start = Instant::now();

    loop {
        let (code, reply) = send(caller, "batch", bytes_of(batch)).await;
        match code.as_str() {
            "ok" => return,
            "truth_unavailable" | "overloaded" | "in_doubt" | "deadline_exceeded" => {}
            other => panic!("{other}"),
        }
        assert!(start.elapsed() < FILL_TIMEOUT, "{code}");
        sleep(wait_of(&reply)).await;
    }
}

/// Sends a request. Returns the code of its answer, `ok` for one that is no refusal, and its body.
async fn send(caller: &Caller, operation: &str, body: Bytes) -> (String, Bytes) {
    let reply = caller
        .client
        .request_with_headers(
            format!("favorites.v1.shard.a.{operation}"),
            caller.headers(),
            body,
        )
        .await;
    let Ok(reply) = reply else {
        return ("no reply".into(), Bytes::new());
    };

    let has_failed = reply
        .headers
        .as_ref()
        .is_some_and(|headers| headers.get("Nats-Service-Error-Code").is_some());
    if !has_failed {
        return ("ok".into(), reply.payload);
    }
    let refusal: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    let code = refusal["error"]["code"].as_str().expect("a code").into();
    (code, reply.payload)
}

fn bytes_of(body: &Value) -> Bytes {
    body.to_string().into()
}

/// Sends an ordinary owner's requests, one after the other, until all is over. Returns the time of
/// each that began and ended in the same phase.
async fn be_ordinary(
    caller: Caller,
    phase: watch::Receiver<Phase>,
    seed: u64,
) -> (BTreeMap<Phase, Vec<Duration>>, Codes) {
    let mut numbers = SeededNumbers(seed + 1);
    let mut times: BTreeMap<Phase, Vec<Duration>> = BTreeMap::new();
    let mut codes = Codes::new();
    let name = |number: usize| json!({"kind": "text", "id": number.to_string()});

    loop {
        let before = *phase.borrow();
        if before == Phase::Over {
            return (times, codes);
        }

        let item = numbers.next(LIGHT_ITEMS);
        let (operation, body) = match numbers.next(4) {
            0 => ("put", text(item, 100)),
            1 => ("list", json!({})),
            _ => ("get", name(item)),
        };
        let start = Instant::now();
        let (code, _) = send(&caller, operation, bytes_of(&body)).await;
        let took = start.elapsed();

        *codes.entry(code).or_default() += 1;
        if *phase.borrow() == before {
            times.entry(before).or_default().push(took);
        }
        sleep(THINK_TIME).await;
    }
}

/// What the requests of one hostile owner share.
struct HostileOwner {
    caller: Caller,
    put: Bytes,
    batch: Bytes,
    small_batch: Bytes,
    /// Whether some of the requests and replies are as large as they may be. Large ones cost much of
    /// the owner's rate, so an owner without them sends more requests.
    is_large: bool,
    /// The owner's version as far as it is known.
    version: AtomicU64,
}

impl HostileOwner {
    fn new(caller: &Caller, is_large: bool) -> Self {
        Self {
            is_large,
            caller: caller.clone(),
            put: bytes_of(&text(7, HEAVY_TEXT_BYTES)),
            batch: bytes_of(&batch(0..HEAVY_BATCH, HEAVY_TEXT_BYTES)),
            small_batch: bytes_of(&batch(100..102, HEAVY_TEXT_BYTES)),
            version: AtomicU64::new(0),
        }
    }

    /// The owner's request of that number. Half of them write, and the others look at the complete
    /// set after that.
    fn request(&self, number: usize) -> (&'static str, Bytes) {
        let since = |since: u64| bytes_of(&json!({"since": since, "limit": 500}));

        match number % 16 {
            3 if self.is_large => ("list", bytes_of(&json!({"limit": 500}))),
            7 if self.is_large => ("batch", self.batch.clone()),
            11 if self.is_large => ("changes", since(0)),
            15 => ("batch", self.small_batch.clone()),
            even if even % 2 == 0 => ("put", self.put.clone()),
            1 | 9 => ("usage", bytes_of(&json!({}))),
            5 => ("list", bytes_of(&json!({"tag": "none"}))),
            _ => ("changes", since(self.version.load(Ordering::Relaxed))),
        }
    }

    /// Sends one request after the other while the hostile phases last, as fast as the limits let
    /// this owner.
    async fn send_requests(
        self: Arc<Self>,
        mut phase: watch::Receiver<Phase>,
        first: usize,
    ) -> Codes {
        let mut codes = Codes::new();
        for number in first.. {
            let now = phase.wait_for(|phase| *phase != Phase::Quiet).await;
            if *now.expect("the test runs") == Phase::Over {
                break;
            }

            let (operation, body) = self.request(number);
            let (code, reply) = send(&self.caller, operation, body).await;
            if code != "ok" {
                sleep(wait_of(&reply)).await;
            } else if operation == "put" {
                let reply: Value = serde_json::from_slice(&reply).expect("JSON");
                let version = reply["owner_version"].as_u64().expect("a version");
                self.version.fetch_max(version, Ordering::Relaxed);
            }
            *codes.entry(code).or_default() += 1;
        }

        codes
    }
}

/// How long a caller waits after that refusal.
fn wait_of(refusal: &[u8]) -> Duration {
    let refusal: Value = serde_json::from_slice(refusal).unwrap_or_default();
    let wait = refusal["error"]["details"]["retry_after_ms"].as_u64();
    Duration::from_millis(wait.unwrap_or(100)).min(WAIT_MAX)
}

/// Lets ordinary owners send requests to one worker, with the hostile ones beside them in every
/// second phase.
async fn run(extent: &Extent, program: Option<PathBuf>) -> Outcome {
    let world = World::start().await;
    let mut hostile = Vec::new();
    let mut ordinary = Vec::new();
    for number in 0..extent.hostile {
        hostile.push(world.caller(&format!("hostile-{number}")).await);
    }
    for number in 0..extent.ordinary {
        ordinary.push(world.caller(&format!("ordinary-{number}")).await);
    }
    fill(&world, &hostile, &ordinary).await;
    let mut worker = serve(&world, program);
    worker.is_ready().await;

    let (announce, phase) = watch::channel(Phase::Quiet);
    let ordinary_runs = (1..)
        .zip(ordinary)
        .map(|(seed, caller)| tokio::spawn(be_ordinary(caller, phase.clone(), seed)));
    let ordinary_runs: Vec<_> = ordinary_runs.collect();
    let mut hostile_runs = Vec::new();
    for (number, caller) in hostile.iter().enumerate() {
        let owner = Arc::new(HostileOwner::new(caller, number % 2 == 0));
        for first in 0..extent.in_flight {
            let requests = owner.clone().send_requests(phase.clone(), first);
            hostile_runs.push(tokio::spawn(requests));
        }
    }

    for _ in 0..extent.rounds {
        for phase in [Phase::Quiet, Phase::Hostile] {
            announce.send_replace(phase);
            sleep(extent.phase).await;
        }
    }
    announce.send_replace(Phase::Over);

    let mut outcome = Outcome {
        times: BTreeMap::new(),
        ordinary: Codes::new(),
        hostile: Codes::new(),
        memory: 0,
    };
    for run in ordinary_runs {
        let (times, codes) = run.await.expect("no panic");
        for (phase, times) in times {
            outcome.times.entry(phase).or_default().extend(times);
        }
        add(&mut outcome.ordinary, codes);
    }
    for run in hostile_runs {
        add(&mut outcome.hostile, run.await.expect("no panic"));
    }
    outcome.times.values_mut().for_each(|times| times.sort());
    outcome.memory = worker.peak_memory();
    outcome.print();
    outcome
}

fn serve(world: &World, program: Option<PathBuf>) -> Process {
    match program {
        Some(program) => world.serve_by(&program, settings(world)),
        None => world.serve(settings(world)),
    }
}

fn add(sum: &mut Codes, codes: Codes) {
    for (code, count) in codes {
        *sum.entry(code).or_default() += count;
    }
}

/// Goal: owners at their limits cost nobody else an answer, and the worker no more memory than its
/// settings name.
///
/// Method: three owners of 500 items and nearly 4 MiB write and read as fast as their limits let
/// them, with 24 requests under way each, beside sixteen ordinary owners.
#[tokio::test(flavor = "multi_thread")]
async fn owners_at_their_limits_take_nothing_from_others() {
    let extent = Extent {
        hostile: 3,
        in_flight: 24,
        ordinary: 16,
        rounds: 1,
        phase: Duration::from_secs(3),
    };
    let _permit = exclusive().await;

    run(&extent, None).await.check();
}

/// Goal: beside ten owners at their limits, the 99th percentile of the times of ordinary requests is
/// at most three times what it is without them.
///
/// Method: as the test above, with ten such owners, 64 requests under way each, and 64 ordinary
/// owners, for a minute and a half. The program may be another build: `HOSTILE_PROGRAM` names it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for two minutes: make hostile"]
async fn ten_hostile_owners_beside_64_ordinary_ones() {
    let _permit = exclusive().await;
    let extent = Extent {
        hostile: 10,
        in_flight: 64,
        ordinary: 64,
        rounds: 8,
        phase: Duration::from_secs(6),
    };
    let program = std::env::var_os("HOSTILE_PROGRAM").map(PathBuf::from);

    let outcome = run(&extent, program).await;

    outcome.check();
    assert!(outcome.growth() <= 3.0, "{:.2}", outcome.growth());
}
