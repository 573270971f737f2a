//! Linearizability: many clients ask about few owners on three shards while faults are injected.
//! There must be one order of the operations that explains every answer. An external consistency
//! tester searches for it.

mod clients;
mod history;
mod model;
mod planted;
mod stage;
mod synthetic;
mod wire;

use crate::harness::{Caller, exclusive};
use clients::{CLIENTS, Client, OPERATIONS, collect};
use gofavorites::dev::tokens;
use gofavorites::seal::random;
use history::Verdict;
use stage::{Fault, Stage};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Owners whose histories are recorded at the same time.
const OWNERS: usize = 16;
/// Histories to record, unless `HISTORIES` says otherwise.
const HISTORIES: usize = 200;
/// The average pause between two operations of a client.
const OPERATION_PAUSE: Duration = Duration::from_millis(25);
/// How long a round may take until the fault is injected.
const FAULT_DELAY_MAX: Duration = Duration::from_secs(20);
const FAULT_DURATION_MIN: Duration = Duration::from_millis(200);
const FAULT_DURATION_MAX: Duration = Duration::from_millis(1_500);

/// A history counts if it has so many clients and operations, and if one in ten of its operations
/// ran during a fault.
const CLIENTS_MIN: usize = 5;
const OPERATIONS_MIN: usize = 60;

/// The sum of many verdicts.
#[derive(Default)]
struct Report {
    /// Histories that count.
    histories: usize,
    /// Histories that do not count. They are checked all the same.
    others: usize,
    operations: usize,
    pending: usize,
    during_fault: usize,
    default_reads: usize,
    longest_check: Duration,
    violations: Vec<String>,
}

impl Report {
    fn add(&mut self, verdict: Verdict) {
        let counts = verdict.clients >= CLIENTS_MIN
            && verdict.operations >= OPERATIONS_MIN
            && verdict.during_fault * 10 >= verdict.operations;

        self.histories += usize::from(counts);
        self.others += usize::from(!counts);
        self.operations += verdict.operations;
        self.pending += verdict.pending;
        self.during_fault += verdict.during_fault;
        self.default_reads += verdict.default_reads;
        self.longest_check = self.longest_check.max(verdict.took);
        self.violations.extend(verdict.violations);
    }

    fn print(&self, what: &str, took: Duration) {
        println!(
            "{what}: {} histories (and {} with too few operations during a fault) in {} s: \
             {} operations, {} of them during a fault, {} without an answer, and {} default reads; \
             the longest check took {} ms; {} violations",
            self.histories,
            self.others,
            took.as_secs(),
            self.operations,
            self.during_fault,
            self.pending,
            self.default_reads,
            self.longest_check.as_millis(),
            self.violations.len(),
        );
    }
}

/// Starts the clients of a new owner, who are connected to the servers in turn.
fn start_clients(stage: &Stage) -> Vec<JoinHandle<Client>> {
    let name = format!("owner-{}", uuid::Uuid::now_v7());
    let token = stage
        .world
        .token(&name, tokens::ALL_SCOPES, Duration::from_secs(600));

    let start = |number: usize| {
        let connection = stage.clients[number % stage.clients.len()].clone();
        let caller = Caller::new(connection, token.clone());
        let client = Client::new(number, caller, stage.clock.clone());

        tokio::spawn(client.ask_all(OPERATIONS, OPERATION_PAUSE))
    };

    (0..CLIENTS).map(start).collect()
}

/// Records and checks the histories of new owners, all under the same fault.
async fn run_round(stage: &mut Stage, fault: Fault, report: &mut Report) {
    let clock = stage.clock.clone();
    let all = OWNERS * CLIENTS * OPERATIONS;
    let before = clock.done.load(Ordering::SeqCst);
    let owners: Vec<_> = (0..OWNERS).map(|_| start_clients(stage)).collect();

    clock.wait_for(before + all / 5, FAULT_DELAY_MAX).await;

    let leader = stage.inject(fault).await;
    let since = Instant::now();
    let done = clock.done.load(Ordering::SeqCst);
    clock.wait_for(done + all / 4, FAULT_DURATION_MAX).await;
    sleep(FAULT_DURATION_MIN.saturating_sub(since.elapsed())).await;
    stage.heal(fault, leader).await;

    let mut checks = Vec::new();
    for owner in owners {
        let (history, unexpected) = collect(owner).await;
        report.violations.extend(unexpected);
        checks.push(history.check());
    }

    for verdict in futures::future::join_all(checks).await {
        report.add(verdict);
    }
}

/// Runs rounds until enough histories count, or one has a violation. The faults take turns, and the
/// first one is chosen at random.
async fn check_histories(what: &str, mut stage: Stage, faults: &[Fault]) {
    // The two tests share the number of histories.
    let wanted = std::env::var("HISTORIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(HISTORIES)
        .div_ceil(2);
    let [first] = random::<1>();
    let start = Instant::now();
    let mut report = Report::default();

    for number in 0.. {
        if report.histories >= wanted || !report.violations.is_empty() {
            break;
        }

        let fault = faults[(usize::from(first) + number) % faults.len()];
        let before = report.histories;
        let since = Instant::now();
        run_round(&mut stage, fault, &mut report).await;

        println!(
            "{fault:?}: {} histories in {:?}",
            report.histories - before,
            since.elapsed()
        );
    }

    report.print(what, start.elapsed());

    assert!(
        report.violations.is_empty(),
        "{}",
        report.violations.join("\n")
    );
}

/// Goal: histories are linearizable while servers of a cluster, workers and Postgres fail.
///
/// Method: three servers replicate the bucket, with a worker at each. Ten clients of each owner ask
/// about four items on three shards, while one fault after the other is injected.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as HISTORIES says: make linearizability"]
async fn histories_on_a_failing_cluster_are_linearizable() {
    let _permit = exclusive().await;
    let faults = [
        Fault::LeaderKilled,
        Fault::WorkerKilled(0),
        Fault::LeaderStepsDown,
        Fault::WorkerPaused(1),
        Fault::LeaderPaused,
        Fault::PostgresKilled,
        Fault::WorkerPaused(2),
        Fault::WorkerKilled(1),
    ];

    check_histories("cluster", Stage::cluster().await, &faults).await;
}

/// Goal: histories are linearizable while leaves are cut off, and while the hub, workers and
/// Postgres fail.
///
/// Method: as for the cluster, with a hub and two leaves, and a worker at each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as HISTORIES says: make linearizability"]
async fn histories_on_a_failing_hub_and_leaves_are_linearizable() {
    let _permit = exclusive().await;
    let faults = [
        Fault::LeafCut(0),
        Fault::HubPaused,
        Fault::WorkerKilled(2),
        Fault::LeafFrozen(1),
        Fault::PostgresKilled,
        Fault::WorkerPaused(0),
    ];

    check_histories("hub and leaves", Stage::leaves().await, &faults).await;
}
