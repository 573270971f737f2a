//! Many clients of few owners on three shards, while faults run: what they saw has to be possible in one order, one
//! operation after the other. The order is looked for by a consistency tester that is not ours.

mod clients;
mod history;
mod model;
mod planted;
mod stage;
mod synthetic;
mod wire;

use crate::harness::{Caller, exclusive};
use clients::{CLIENTS, Client, OPERATIONS, of_all};
use gofavorites::dev::tokens;
use gofavorites::seal::random;
use history::Verdict;
use stage::{Fault, Stage};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Owners whose histories are made at a time.
const OWNERS: usize = 16;
/// Between two operations of a client, about.
const PAUSE: Duration = Duration::from_millis(25);
/// How long a fault lasts at most.
const LONGEST: Duration = Duration::from_millis(1_500);
/// What a history has to have to count: so many clients and operations, and the tenth part of them during a fault.
const LEAST_CLIENTS: usize = 5;
const LEAST_OPERATIONS: usize = 60;

/// What came of many histories.
#[derive(Default)]
struct Report {
    /// Those that count, and those that do not, which are checked all the same.
    histories: usize,
    others: usize,
    operations: usize,
    pending: usize,
    struck: usize,
    defaults: usize,
    longest: Duration,
    violations: Vec<String>,
}

impl Report {
    fn add(&mut self, verdict: Verdict) {
        let counts = verdict.clients >= LEAST_CLIENTS
            && verdict.operations >= LEAST_OPERATIONS
            && verdict.struck * 10 >= verdict.operations;
        self.histories += usize::from(counts);
        self.others += usize::from(!counts);
        self.operations += verdict.operations;
        self.pending += verdict.pending;
        self.struck += verdict.struck;
        self.defaults += verdict.defaults;
        self.longest = self.longest.max(verdict.took);
        self.violations.extend(verdict.violations);
    }

    fn tell(&self, what: &str, took: Duration) {
        println!(
            "{what}: {} histories (and {} with too little of a fault) in {} s: {} operations, {} of them during a fault, \
             {} without an answer, and {} reads by default; the longest check took {} ms; {} violations",
            self.histories,
            self.others,
            took.as_secs(),
            self.operations,
            self.struck,
            self.pending,
            self.defaults,
            self.longest.as_millis(),
            self.violations.len(),
        );
    }
}

/// Histories of as many new owners, all under the same fault.
async fn round(stage: &mut Stage, error: Fault, report: &mut Report) {
    let (clock, mut owners) = (stage.clock.clone(), Vec::new());
    let before = clock.done.load(Ordering::SeqCst);
    for _ in 0..OWNERS {
        let name = format!("owner-{}", uuid::Uuid::now_v7());
        let token = stage
            .world
            .token(&name, tokens::ALL_SCOPES, Duration::from_secs(600));
        let client = |number: usize| {
            let caller = Caller::new(
                stage.clients[number % stage.clients.len()].clone(),
                token.clone(),
            );
            let client = Client::new(number, caller, clock.clone());
            tokio::spawn(client.ask_all(OPERATIONS, PAUSE))
        };
        owners.push((0..CLIENTS).map(client).collect::<Vec<_>>());
    }
    let all = OWNERS * CLIENTS * OPERATIONS;
    let reaches = async |count: usize, limit: Duration| {
        let since = Instant::now();
        while clock.done.load(Ordering::SeqCst) < count && since.elapsed() < limit {
            sleep(Duration::from_millis(2)).await;
        }
    };
    reaches(before + all / 5, Duration::from_secs(20)).await;
    let leader = stage.strike(error).await;
    let since = Instant::now();
    reaches(clock.done.load(Ordering::SeqCst) + all / 4, LONGEST).await;
    sleep(Duration::from_millis(200).saturating_sub(since.elapsed())).await;
    stage.heal(error, leader).await;
    let mut checks = Vec::new();
    for owner in owners {
        let (history, faults) = of_all(owner).await;
        report.violations.extend(faults);
        checks.push(history.check());
    }
    for verdict in futures::future::join_all(checks).await {
        report.add(verdict);
    }
}

async fn histories(what: &str, mut stage: Stage, faults: &[Fault]) {
    let wanted = std::env::var("HISTORIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200usize)
        .div_ceil(2);
    let (began, mut report) = (Instant::now(), Report::default());
    let [first] = random::<1>();
    for number in 0.. {
        if report.histories >= wanted || !report.violations.is_empty() {
            break;
        }
        let error = faults[(usize::from(first) + number) % faults.len()];
        let (since, before) = (Instant::now(), report.histories);
        round(&mut stage, error, &mut report).await;
        println!(
            "{error:?}: {} histories in {:?}",
            report.histories - before,
            since.elapsed()
        );
    }
    report.tell(what, began.elapsed());
    assert!(
        report.violations.is_empty(),
        "{}",
        report.violations.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as HISTORIES says: make linearizability"]
async fn histories_on_a_cluster_whose_leader_and_workers_fail_have_an_order() {
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
    histories("cluster", Stage::cluster().await, &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as HISTORIES says: make linearizability"]
async fn histories_at_a_hub_and_leaves_that_are_cut_off_have_an_order() {
    let _permit = exclusive().await;
    let faults = [
        Fault::LeafCut(0),
        Fault::HubPaused,
        Fault::WorkerKilled(2),
        Fault::LeafFrozen(1),
        Fault::PostgresKilled,
        Fault::WorkerPaused(0),
    ];
    histories("hub and leaves", Stage::leaves().await, &faults).await;
}
