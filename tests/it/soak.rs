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
use std::process::Command;
use std::time::{Duration, Instant};

/// The time from one fault to the next.
const FAULT_INTERVAL: Duration = Duration::from_secs(10);

/// How much longer than 100 ms a fault may last.
const FAULT_MAX_MS: u64 = 2_500;

/// The number of owners, each with one client.
const CLIENTS: usize = 24;

/// How much a worker's memory may grow between its first faults and the end.
const GROWTH_MAX_KIB: u64 = 48 * 1_024;

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
    let shard = pick(2) as usize;

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

/// Returns the resident memory of the first worker of each shard, in KiB.
fn memory_kib(platform: &mut Platform) -> Vec<u64> {
    let resident = |pid: u32| {
        let ps = Command::new("ps")
            .args(["-o", "rss=", "-p", &pid.to_string()])
            .output()
            .expect("ps");
        let text = String::from_utf8_lossy(&ps.stdout);
        text.trim().parse().expect("a number")
    };

    platform
        .workers()
        .iter()
        .map(|workers| resident(workers[0].pid()))
        .collect()
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

/// Injects a fault every ten seconds for that time. Returns how often each kind came, and the
/// memory of the workers after the second fault.
async fn inject_faults(
    platform: &mut Platform,
    load: &Load,
    time: Duration,
) -> (BTreeMap<Fault, usize>, Vec<u64>) {
    let start = Instant::now();
    let first = pick(FAULTS.len() as u64) as usize;

    let mut injected = BTreeMap::new();
    let mut early = None;
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

        if round == 1 {
            early = Some(memory_kib(platform));
        }
    }

    (injected, early.expect("more than one fault"))
}

/// Goal: no random fault of a server or a worker loses a write or makes one twice, and the workers
/// leak neither memory nor tasks.
///
/// Method: 24 callers load a platform of two shards with two workers each. Every ten seconds a
/// process is killed or paused for up to 2.6 s. The load checks every reply, and in the end every
/// owner is read on both shards.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as SOAK_S says: make soak"]
async fn random_faults_lose_nothing_and_leak_nothing() {
    let _permit = exclusive().await;
    let seconds = std::env::var("SOAK_S")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(600);
    let state = tempfile::tempdir().expect("a directory");
    let mut platform = start_platform(state.path()).await;
    let tasks_before = task_counts(&platform).await;

    let mut callers = Vec::new();
    for number in 0..CLIENTS {
        callers.push(caller(&platform, &format!("soak-{number}")).await);
    }
    let load = Load::of(callers, &["", "a", "b"], true);
    load.progress(1_000).await;

    let start = Instant::now();
    let time = Duration::from_secs(seconds);
    let (injected, early) = inject_faults(&mut platform, &load, time).await;

    load.progress(500).await;
    let mut report = load.stop().await;
    let late = memory_kib(&mut platform);
    report.verify(&["a", "b"]).await;
    let tasks_after = task_counts(&platform).await;

    let [writes, reads] = report.counts();
    println!("{} s, faults {injected:?}", start.elapsed().as_secs());
    println!("writes {writes:?}\nreads {reads:?}");
    println!("memory in KiB: {early:?}, in the end {late:?}");
    println!("tasks: {tasks_before:?}, in the end {tasks_after:?}");

    report.is_clean();
    for (early, late) in early.iter().zip(&late) {
        assert!(
            *late <= early + GROWTH_MAX_KIB,
            "memory grew from {early} to {late} KiB"
        );
    }

    let tasks_max = tasks_before.iter().max().expect("workers") + TASKS_GROWTH_MAX;
    assert_eq!(tasks_after.len(), 4, "every worker answers");
    for tasks in tasks_after {
        assert!(tasks <= tasks_max, "{tasks} tasks are left behind");
    }
    platform.stop().expect("stopped in order");
}
