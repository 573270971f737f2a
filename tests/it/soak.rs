//! Faults at random, again and again: nothing lost, nothing doubled, memory flat, no task leaked.

use crate::harness::load::Load;
use crate::harness::{Caller, exclusive};
use async_nats::ConnectOptions;
use futures::StreamExt as _;
use gofavorites::dev::{Platform, PlatformOptions, Topology, tokens};
use gofavorites::seal::random;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// From one fault to the next.
const EVERY: Duration = Duration::from_secs(10);
/// How long a fault lasts at most.
const LONGEST_MS: u64 = 2_500;
/// Owners, each asked for by one client.
const CLIENTS: usize = 24;
/// What a worker's memory may grow by, in KiB, between its first faults and the end.
const GROWTH_KIB: u64 = 48 * 1_024;

/// What can happen.
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

fn pick(most: u64) -> u64 {
    u64::from_be_bytes(random::<8>()) % most
}

/// Makes it happen, lasting a while, and undoes it.
async fn strike(platform: &mut Platform, error: Fault) {
    let lasts = Duration::from_millis(100 + pick(LONGEST_MS));
    let (shard, wait) = (pick(2) as usize, tokio::time::sleep(lasts));
    let pause = |stop: bool| {
        if stop {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        }
    };
    match error {
        Fault::NatsKilled => {
            platform.nats().process().kill9().expect("killed");
            wait.await;
            platform.restart_nats().await.expect("started again");
        }
        Fault::PostgresKilled => {
            platform.postgres().process().kill9().expect("killed");
            wait.await;
            platform.restart_postgres().await.expect("started again");
        }
        Fault::AuthKilled => {
            platform.auth().kill9().expect("killed");
            wait.await;
            platform.restart_auth().expect("started again");
        }
        // The first worker of each shard is never killed: its memory is looked at in the end.
        Fault::WorkerKilled => {
            platform.kill_worker(shard, 1).expect("killed");
            wait.await;
            platform
                .restart_worker(shard, 1)
                .await
                .expect("started again");
        }
        Fault::NatsPaused => {
            platform
                .nats()
                .process()
                .signal(pause(true))
                .expect("paused");
            wait.await;
            platform
                .nats()
                .process()
                .signal(pause(false))
                .expect("continued");
        }
        Fault::PostgresPaused => {
            platform
                .postgres()
                .process()
                .signal(pause(true))
                .expect("paused");
            wait.await;
            platform
                .postgres()
                .process()
                .signal(pause(false))
                .expect("continued");
        }
        Fault::AuthPaused => {
            platform.auth().signal(pause(true)).expect("paused");
            wait.await;
            platform.auth().signal(pause(false)).expect("continued");
        }
        Fault::WorkerPaused => {
            let worker = pick(2) as usize;
            platform.workers()[shard][worker]
                .signal(pause(true))
                .expect("paused");
            wait.await;
            platform.workers()[shard][worker]
                .signal(pause(false))
                .expect("continued");
        }
    }
}

/// The memory of the first worker of each shard, in KiB.
fn memory(platform: &mut Platform) -> Vec<u64> {
    let pids: Vec<u32> = platform
        .workers()
        .iter()
        .map(|workers| workers[0].pid())
        .collect();
    let resident = |pid: u32| {
        let told = Command::new("ps")
            .args(["-o", "rss=", "-p", &pid.to_string()])
            .output()
            .expect("ps");
        String::from_utf8_lossy(&told.stdout)
            .trim()
            .parse()
            .expect("a number")
    };
    pids.into_iter().map(resident).collect()
}

/// The tasks of each worker, once no request is under way.
async fn tasks(platform: &Platform) -> Vec<u64> {
    let operator = ConnectOptions::with_user_and_password(
        "operator".into(),
        platform.secrets().nats("operator").into(),
    );
    let operator = operator
        .connect(platform.nats_url())
        .await
        .expect("a connection");
    let inbox = operator.new_inbox();
    let mut answers = operator.subscribe(inbox.clone()).await.expect("subscribed");
    operator
        .publish_with_reply("$SRV.STATS.favorites", inbox, "".into())
        .await
        .expect("sent");
    let mut tasks = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(1), answers.next()).await
    {
        let told: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        tasks.push(told["data"]["tasks"].as_u64().expect("a number"));
    }
    tasks
}

async fn caller(platform: &Platform, name: &str) -> Caller {
    let options = ConnectOptions::with_user_and_password(
        "gateway".into(),
        platform.secrets().nats("gateway").into(),
    );
    let client = options
        .connect(platform.nats_url())
        .await
        .expect("a connection");
    let token = tokens::token(
        platform.secrets(),
        name,
        tokens::ALL_SCOPES,
        Duration::from_secs(7_200),
    );
    Caller::new(client, token.expect("a token"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as SOAK_S says: make soak"]
async fn nothing_is_lost_and_nothing_leaks_through_random_faults() {
    let _permit = exclusive().await;
    let seconds = std::env::var("SOAK_S")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(600);
    let state = tempfile::tempdir().expect("a directory");
    let options = PlatformOptions {
        topology: Topology::Single,
        home: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        state: state.path().join("dev"),
        fresh: true,
        program: PathBuf::from(env!("CARGO_BIN_EXE_gofavorites")),
        shards: vec!["a".into(), "b".into()],
        workers: 2,
        usual_ports: false,
        fsync: true,
    };
    let mut platform = Platform::start(options, |_| {}).await.expect("a platform");
    let tasks_before = tasks(&platform).await;
    let mut callers = Vec::new();
    for number in 0..CLIENTS {
        callers.push(caller(&platform, &format!("soak-{number}")).await);
    }
    let load = Load::of(callers, &["", "a", "b"], true);
    load.progress(1_000).await;
    let (began, mut struck, mut early) = (Instant::now(), BTreeMap::<Fault, usize>::new(), None);
    let first = pick(FAULTS.len() as u64) as usize;
    for round in 0.. {
        if began.elapsed() + EVERY > Duration::from_secs(seconds) {
            break;
        }
        let next = tokio::time::Instant::now() + EVERY;
        // Each comes up before any comes twice.
        let error = FAULTS[(first + round * 3) % FAULTS.len()];
        strike(&mut platform, error).await;
        *struck.entry(error).or_default() += 1;
        load.progress(200).await;
        tokio::time::sleep_until(next).await;
        if round == 1 {
            early = Some(memory(&mut platform));
        }
    }
    load.progress(500).await;
    let mut report = load.stop().await;
    let (early, late) = (early.expect("more than one fault"), memory(&mut platform));
    report.verify(&["a", "b"]).await;
    let tasks_after = tasks(&platform).await;
    let [writes, reads] = report.counts();
    println!("{} s, faults {struck:?}", began.elapsed().as_secs());
    println!("writes {writes:?}\nreads {reads:?}");
    println!(
        "memory in KiB: {early:?}, in the end {late:?}; tasks: {tasks_before:?}, in the end {tasks_after:?}"
    );
    report.is_clean();
    for (early, late) in early.iter().zip(&late) {
        assert!(
            *late <= early + GROWTH_KIB,
            "memory grew from {early} to {late} KiB"
        );
    }
    let most = tasks_before.iter().max().expect("workers") + 40;
    assert!(
        tasks_after.len() == 4 && tasks_after.iter().all(|tasks| *tasks <= most),
        "tasks are left behind"
    );
    platform.stop().expect("stopped in order");
}
