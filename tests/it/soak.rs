//! A soak test with random faults: nothing is lost or executed twice, no worker's memory grows
//! without limit, and no task is left behind.

use crate::harness::load::Load;
use crate::harness::{Caller, exclusive, start_platform};
use async_nats::ConnectOptions;
use futures::StreamExt as _;
use gofavorites::dev::process::ChildProcess;
use gofavorites::dev::{Platform, tokens};
use gofavorites::seal::random;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The time from one fault to the next.
const FAULT_INTERVAL: Duration = Duration::from_secs(10);

/// How much longer than 100 ms a fault may last.
const FAULT_MAX_MS: u64 = 2_500;

/// The number of owners, each with one client.
const CLIENTS: usize = 24;

const SHARDS: [&str; 3] = ["a", "b", "c"];

/// How much a worker's memory may grow between its first faults and the end.
const GROWTH_MAX_KIB: u64 = 48 * 1_024;

/// How many more files a worker may have open at the end than after its first faults.
const FILES_GROWTH_MAX: u64 = 64;

/// How many more tasks a worker may have at the end than at the beginning.
const TASKS_GROWTH_MAX: u64 = 40;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    NatsKilled,
    NatsPaused,
    PostgresKilled,
    PostgresPaused,
    AuthKilled,
    AuthPaused,
    WorkerKilled,
    WorkerPaused,
}

const FAULTS: [Fault; 8] = [
    Fault::NatsKilled,
    Fault::NatsPaused,
    Fault::PostgresKilled,
    Fault::PostgresPaused,
    Fault::AuthKilled,
    Fault::AuthPaused,
    Fault::WorkerKilled,
    Fault::WorkerPaused,
];

/// Returns a random number below `limit`.
fn pick(limit: u64) -> u64 {
    u64::from_be_bytes(random::<8>()) % limit
}

/// Pauses a process for a time, and resumes it.
async fn pause(process: &mut ChildProcess, duration: Duration) {
    process.signal(Signal::SIGSTOP).expect("paused");

    tokio::time::sleep(duration).await;

    process.signal(Signal::SIGCONT).expect("resumed");
}

/// Makes a fault for a random time, and repairs it.
async fn inject(platform: &mut Platform, fault: Fault) {
    let duration = Duration::from_millis(100 + pick(FAULT_MAX_MS));
    let shard = pick(SHARDS.len() as u64) as usize;

    match fault {
        Fault::NatsKilled => {
            platform.nats().process().kill9().expect("killed");
            tokio::time::sleep(duration).await;
            platform.restart_nats().await.expect("started again");
        }
        Fault::PostgresKilled => {
            platform.postgres().process().kill9().expect("killed");
            tokio::time::sleep(duration).await;
            platform.restart_postgres().await.expect("started again");
        }
        Fault::AuthKilled => {
            platform.auth().kill9().expect("killed");
            tokio::time::sleep(duration).await;
            platform.restart_auth().expect("started again");
        }
        // The first worker of each shard is never killed, because its memory is measured.
        Fault::WorkerKilled => {
            platform.kill_worker(shard, 1).expect("killed");
            tokio::time::sleep(duration).await;
            let restarted = platform.restart_worker(shard, 1).await;
            restarted.expect("started again");
        }
        Fault::NatsPaused => pause(platform.nats().process(), duration).await,
        Fault::PostgresPaused => pause(platform.postgres().process(), duration).await,
        Fault::AuthPaused => pause(platform.auth(), duration).await,
        Fault::WorkerPaused => {
            let worker = pick(2) as usize;
            pause(&mut platform.workers()[shard][worker], duration).await;
        }
    }
}

/// What the first worker of a shard uses at one moment.
#[derive(Clone, Copy, Debug)]
struct Use {
    memory_kib: u64,
    files: u64,
}

/// What the first worker of each shard uses, each time with the seconds since the start.
#[derive(Default)]
struct Samples(Vec<(f64, Vec<Use>)>);

impl Samples {
    fn take(&mut self, platform: &mut Platform, seconds: f64) {
        let workers = platform.workers();
        let uses = workers.iter().map(|workers| use_of(workers[0].pid()));

        self.0.push((seconds, uses.collect()));
    }

    /// Returns the worker's use after the first faults, and at the end.
    fn ends(&self, worker: usize) -> (Use, Use) {
        let early = &self.0[usize::min(2, self.0.len() - 1)];
        let late = self.0.last().expect("a sample");

        (early.1[worker], late.1[worker])
    }

    /// Returns how fast the value of a worker grows, in an hour: the slope of the line that fits the
    /// second half of the samples best.
    fn slope(&self, worker: usize, value: fn(&Use) -> u64) -> f64 {
        let half = &self.0[self.0.len() / 2..];
        let points = half
            .iter()
            .map(|(seconds, uses)| (*seconds, value(&uses[worker]) as f64));
        let count = half.len() as f64;
        let (x, y) = points.clone().fold((0.0, 0.0), |sum, point| {
            (sum.0 + point.0 / count, sum.1 + point.1 / count)
        });
        let (rise, run) = points.fold((0.0, 0.0), |sum, point| {
            let dx = point.0 - x;
            (sum.0 + dx * (point.1 - y), sum.1 + dx * dx)
        });

        if run > 0.0 { rise / run * 3_600.0 } else { 0.0 }
    }
}

/// Returns what a process uses, from `/proc`.
fn use_of(pid: u32) -> Use {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory_kib = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files");

    Use {
        memory_kib: memory_kib.expect("a number"),
        files: files.count() as u64,
    }
}

/// Returns how many tasks each worker has, once no request is under way.
async fn task_counts(platform: &Platform) -> Vec<u64> {
    let password = platform.secrets().nats("operator").into();
    let operator = ConnectOptions::with_user_and_password("operator".into(), password)
        .connect(platform.nats_url())
        .await
        .expect("a connection");

    let inbox = operator.new_inbox();
    let mut replies = operator.subscribe(inbox.clone()).await.expect("subscribed");
    operator
        .publish_with_reply("$SRV.STATS.favorites", inbox, "".into())
        .await
        .expect("sent");

    let mut counts = Vec::new();
    let wait = Duration::from_secs(1);
    while let Ok(Some(reply)) = tokio::time::timeout(wait, replies.next()).await {
        let stats: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        counts.push(stats["data"]["tasks"].as_u64().expect("a number"));
    }

    counts
}

async fn caller(platform: &Platform, name: &str) -> Caller {
    let password = platform.secrets().nats("gateway").into();
    let client = ConnectOptions::with_user_and_password("gateway".into(), password)
        .connect(platform.nats_url())
        .await
        .expect("a connection");

    let secrets = platform.secrets();
    let lifetime = Duration::from_secs(7_200);
    let token = tokens::token(secrets, name, tokens::ALL_SCOPES, lifetime);

    Caller::new(client, token.expect("a token"))
}

/// Injects a fault every ten seconds for that time. Returns how often each kind came, and what the
/// workers used.
async fn inject_faults(
    platform: &mut Platform,
    load: &Load,
    time: Duration,
) -> (BTreeMap<Fault, usize>, Samples) {
    let start = Instant::now();
    let first = pick(FAULTS.len() as u64) as usize;

    let mut injected = BTreeMap::new();
    let mut samples = Samples::default();
    for round in 0.. {
        if start.elapsed() + FAULT_INTERVAL > time {
            break;
        }

        let next = tokio::time::Instant::now() + FAULT_INTERVAL;
        // Each kind comes once before any comes twice.
        let fault = FAULTS[(first + round * 3) % FAULTS.len()];
        inject(platform, fault).await;
        *injected.entry(fault).or_default() += 1;

        load.progress(200).await;
        tokio::time::sleep_until(next).await;

        samples.take(platform, start.elapsed().as_secs_f64());
    }

    (injected, samples)
}

/// Prints what the first worker of a shard uses, and fails if that has grown too much.
fn check_use(shard: &str, samples: &Samples, worker: usize) {
    let (early, late) = samples.ends(worker);
    println!(
        "{shard}: {early:?}, in the end {late:?}; grows by {:.0} KiB and {:.1} files an hour",
        samples.slope(worker, |used| used.memory_kib),
        samples.slope(worker, |used| used.files),
    );

    assert!(
        late.memory_kib <= early.memory_kib + GROWTH_MAX_KIB,
        "memory grew from {early:?} to {late:?}"
    );
    assert!(
        late.files <= early.files + FILES_GROWTH_MAX,
        "files stayed open: {early:?}, {late:?}"
    );
}

/// Compares the shard's copies with the bucket, as an operator does.
fn verify(state: &Path, shard: &str) {
    let verified = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
        .args(["verify", "--config"])
        .arg(state.join(format!("dev/worker-{shard}-0.toml")))
        .output()
        .expect("started");
    let printed = String::from_utf8_lossy(&verified.stdout);

    println!("verify {shard}: {}", printed.trim());
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
}

/// Goal: no random fault of a server or a worker loses a write or makes one twice, and the workers
/// leak neither memory nor tasks.
///
/// Method: 24 callers load a platform of three shards with two workers each. Every ten seconds a
/// process is killed or paused for up to 2.6 s. The load checks every reply, and in the end every
/// owner is read on all shards, and `verify` compares each shard with the bucket.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as SOAK_S says: make soak"]
async fn random_faults_lose_nothing_and_leak_nothing() {
    let _permit = exclusive().await;
    let seconds = std::env::var("SOAK_S")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(600);
    let state = tempfile::tempdir().expect("a directory");
    let mut platform = start_platform(state.path(), &SHARDS).await;
    let tasks_before = task_counts(&platform).await;

    let mut callers = Vec::new();
    for number in 0..CLIENTS {
        callers.push(caller(&platform, &format!("soak-{number}")).await);
    }
    let load = Load::of(callers, &["", "a", "b", "c"], true);
    load.progress(1_000).await;

    let start = Instant::now();
    let time = Duration::from_secs(seconds);
    let (injected, mut samples) = inject_faults(&mut platform, &load, time).await;

    load.progress(500).await;
    let mut report = load.stop().await;
    samples.take(&mut platform, start.elapsed().as_secs_f64());
    report.verify(&SHARDS).await;
    let tasks_after = task_counts(&platform).await;

    let [writes, reads] = report.counts();
    println!("{} s, faults {injected:?}", start.elapsed().as_secs());
    println!("writes {writes:?}\nreads {reads:?}");
    println!("tasks: {tasks_before:?}, in the end {tasks_after:?}");
    report.is_clean();
    for (worker, shard) in SHARDS.iter().enumerate() {
        check_use(shard, &samples, worker);
    }

    let tasks_max = tasks_before.iter().max().expect("workers") + TASKS_GROWTH_MAX;
    assert_eq!(tasks_after.len(), SHARDS.len() * 2, "every worker answers");
    for tasks in tasks_after {
        assert!(tasks <= tasks_max, "{tasks} tasks are left behind");
    }
    for shard in SHARDS {
        verify(state.path(), shard);
    }
    platform.stop().expect("stopped in order");
}
