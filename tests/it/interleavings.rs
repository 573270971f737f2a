//! Any interleaving of projection, hosting, eviction, replay and writes ends with Postgres equal
//! to the bucket.
//!
//! The steps overlap and are drawn from a seed. `SEED` chooses another one, `ROUNDS` how many seeds
//! are run.

use crate::harness::{Caller, SeededNumbers, Worker, World};
use futures::future::join_all;
use gofavorites::app::{OperatorSession, WaitLimit};
use gofavorites::config::Settings;
use gofavorites::domain::Version;
use gofavorites::maintenance::{Comparison, Verifier};
use gofavorites::owners::Loss;
use gofavorites::seal::OwnerKey;
use gofavorites::shard::{OwnerCopy, Store};
use gofavorites::truth::{Bucket, Delta};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const OWNERS: usize = 4;
const ITEMS: usize = 5;
const STEPS: usize = 150;
const STEPS_AT_A_TIME: usize = 6;
/// The kinds of steps; the last one is a crash of the worker.
const STEP_KINDS: usize = 23;

/// What the steps work on.
struct Stage {
    world: World,
    session: OperatorSession,
    store: Store,
    bucket: Bucket,
    callers: Vec<Caller>,
    /// What hosting fetched in its first step, by owner, and has not stored yet.
    fetched: Mutex<Vec<(usize, Delta)>>,
}

fn subject(owner: usize) -> String {
    format!("somebody-{owner}")
}

fn put(id: &str, text: &str) -> Value {
    json!({"kind": "text", "id": id, "data": {"text": text}})
}

/// Sends a request to a worker that may crash before it replies.
async fn ask(caller: &Caller, shard: &str, operation: &str, body: &Value) {
    let subject = format!("favorites.v1.shard.{shard}.{operation}");
    let body = body.to_string().into();
    let request = caller
        .client
        .request_with_headers(subject, caller.headers(), body);

    let _ = tokio::time::timeout(Duration::from_secs(1), request).await;
}

impl Stage {
    async fn new() -> (Self, Worker, Worker) {
        let world = World::start().await;
        let a = world.worker_with(Self::settings(&world)).await;
        let b = world.worker("b").await;

        let session = OperatorSession::open(&world.settings("a"), "test", WaitLimit::FOREVER)
            .await
            .expect("a session");
        let store = world.store("a");
        let bucket = world.bucket("a").await;

        let mut callers = Vec::new();
        for owner in 0..OWNERS {
            callers.push(world.caller(&subject(owner)).await);
        }

        let stage = Self {
            world,
            session,
            store,
            bucket,
            callers,
            fetched: Mutex::default(),
        };

        (stage, a, b)
    }

    /// Small batches of the projection, so that more of them lie between other steps.
    fn settings(world: &World) -> Settings {
        let mut settings = world.settings("a");
        settings.projection.batch = 2;
        settings.projection.poll_ms = 20;

        settings
    }

    fn key(&self, owner: usize) -> OwnerKey {
        self.world.owner(&subject(owner))
    }

    /// One step. Its result does not matter, because other steps may interfere: only the state at
    /// the end of the round is checked.
    async fn step(&self, kind: usize, owner: usize, item: usize, pause_ms: u64) {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;

        let caller = &self.callers[owner];
        let key = self.key(owner);
        let id = format!("note-{item}");
        let operator = &self.session.operator;

        match kind {
            0..6 => ask(caller, "b", "put", &put(&id, "x")).await,
            6..9 => ask(caller, "a", "put", &put(&id, "y")).await,
            9 => ask(caller, "b", "delete", &json!({"kind": "text", "id": id})).await,
            10..13 => ask(caller, "a", "list", &json!({})).await,
            13 => self.evict(owner).await,
            14 => {
                let rebuilt = operator.owners.rebuild(&key, Loss::Refuse).await;
                rebuilt.expect("rebuilt");
            }
            15 => {
                let reset = self.store.reset_owner(&key, "favorites").await;
                reset.expect("Postgres");
            }
            16 => self.begin_hosting(owner, item).await,
            17 => self.complete_hosting(1).await,
            18 => self.complete_hosting(3).await,
            19 => {
                let filled = operator.owners.backfill(&key).await;
                filled.expect("versions");
            }
            20 => {
                let refilled = operator.refill_versions(|_, _| ()).await;
                refilled.expect("versions");
            }
            _ => {
                let rebuilt = operator.rebuild_known(Loss::Refuse, |_, _| ()).await;
                rebuilt.expect("rebuilt");
            }
        }
    }

    /// Makes the owner look unseen for long, and evicts.
    async fn evict(&self, owner: usize) {
        let key = self.world.key_of(&subject(owner));
        let unseen = "update owner set seen_at = now() - interval '99 days' where owner_key = ";
        self.world.query("a", &format!("{unseen}{key}"));

        self.store.evict(98, 10).await.expect("Postgres");
    }

    /// The first step of hosting: fetches the owner's records and stores some of them ahead.
    async fn begin_hosting(&self, owner: usize, skipped: usize) {
        let key = self.key(owner);
        self.store
            .begin_hosting(&key, "favorites")
            .await
            .expect("Postgres");

        let delta = self
            .bucket
            .since_confirmed(&key, Version::NONE)
            .await
            .expect("the bucket");

        let some: Vec<_> = delta.records.iter().skip(skipped).collect();
        let up_to = delta.up_to.unwrap_or_default().get();
        self.store
            .store_ahead(&key, &some, up_to)
            .await
            .expect("Postgres");

        self.fetched
            .lock()
            .expect("not poisoned")
            .push((owner, delta));
    }

    /// The second step of up to so many hostings that were begun some time ago: of one alone, of several
    /// together.
    async fn complete_hosting(&self, count: usize) {
        let fetched = {
            let mut fetched = self.fetched.lock().expect("not poisoned");
            let first = fetched.len().saturating_sub(count);
            fetched.split_off(first)
        };
        let copy = |owner, delta: &Delta| OwnerCopy {
            owner: self.key(owner),
            bucket: "favorites".to_owned(),
            records: delta.records.clone(),
            up_to: delta.up_to.unwrap_or_default().get(),
        };

        let completions = fetched.iter().map(|(owner, delta)| async move {
            let together = copy(*owner, delta);
            let done = count > 1
                && self
                    .store
                    .complete_hosting_together(together)
                    .await
                    .expect("Postgres");
            if !done {
                let alone = copy(*owner, delta);
                self.store.complete_hosting(&alone).await.expect("Postgres");
            }
        });
        join_all(completions).await;
    }

    /// Asserts that every hosted owner has the bucket's rows, and every version that the bucket
    /// keeps where the history is marked complete. Returns how many owners are hosted.
    async fn assert_equal_to_bucket(&self, seed: u64) -> usize {
        let verifier = Verifier::new(self.session.operator.clone());
        let mut hosted = 0;

        for owner in 0..OWNERS {
            match verifier.compare(&self.key(owner)).await.expect("compared") {
                Comparison::Equal => hosted += 1,
                Comparison::NotHosted => continue,
                other => panic!("seed {seed}: {other:?}"),
            }

            let key = self.world.key_of(&subject(owner));
            let complete = format!("select history_complete from owner where owner_key = {key}");
            if self.world.query("a", &complete) == "t" {
                self.assert_versions_are_complete(owner, seed).await;
            }
        }

        hosted
    }

    async fn assert_versions_are_complete(&self, owner: usize, seed: u64) {
        let key = self.world.key_of(&subject(owner));
        let versions = format!("select version from item_version where owner_key = {key}");
        let stored: Vec<u64> = self
            .world
            .query("a", &versions)
            .lines()
            .map(|version| version.parse().expect("a number"))
            .collect();

        let owner = self.key(owner);
        let current = self
            .bucket
            .since_confirmed(&owner, Version::NONE)
            .await
            .expect("the bucket");

        for item in current
            .records
            .iter()
            .filter(|record| record.is_live_item())
        {
            let kept = self
                .bucket
                .history(&owner, &item.name, Version::NONE, item.version)
                .await
                .expect("the bucket");

            let missing = kept
                .iter()
                .find(|record| !stored.contains(&record.version.get()));

            assert!(
                missing.is_none(),
                "seed {seed}: a version is missing, {missing:?}"
            );
        }
    }

    /// Asserts that each caller gets the same list, and not a stale one, from both shards.
    async fn assert_shards_agree(&self, seed: u64) {
        let strong = json!({"consistency": "strong"});

        for caller in &self.callers {
            let from_a = caller.done("a.list", &strong).await;
            let from_b = caller.done("b.list", &strong).await;

            assert_eq!(from_a["items"], from_b["items"], "seed {seed}");
            assert_eq!(from_a["stale"], Value::Null, "seed {seed}");
        }
    }

    /// Sends a request of each owner until all of them are hosted.
    async fn until_all_are_hosted(&self, seed: u64) {
        for _ in 0..500 {
            if self.assert_equal_to_bucket(seed).await == OWNERS {
                return;
            }

            for caller in &self.callers {
                caller.done("a.list", &json!({})).await;
            }
        }

        panic!("seed {seed}: not every owner is hosted in the end");
    }
}

/// Runs the steps of a seed, several at a time. Returns shard a's last worker, and how many kinds
/// of steps were drawn.
async fn run_steps(stage: &Arc<Stage>, mut worker: Worker, seed: u64) -> (Worker, usize) {
    let mut numbers = SeededNumbers(seed);
    let mut running = JoinSet::new();
    let mut kinds = BTreeMap::<usize, usize>::new();
    for _ in 0..STEPS {
        let kind = numbers.next(STEP_KINDS);
        let owner = numbers.next(OWNERS);
        let item = numbers.next(ITEMS);
        *kinds.entry(kind).or_default() += 1;

        if kind == STEP_KINDS - 1 {
            // The projection ends with its worker, while the steps in flight go on without it.
            worker.crash().await;

            let settings = Stage::settings(&stage.world);
            worker = stage.world.try_worker(settings).await.expect("a worker");

            continue;
        }

        let stage = stage.clone();
        let pause_ms = numbers.next(12) as u64;
        running.spawn(async move { stage.step(kind, owner, item, pause_ms).await });

        while running.len() >= STEPS_AT_A_TIME {
            let ended = running.join_next().await.expect("a running step");
            ended.expect("no panic");
        }
    }

    while let Some(ended) = running.join_next().await {
        ended.expect("no panic");
    }

    (worker, kinds.len())
}

/// Goal: whatever the order of the steps, Postgres ends with the rows that the bucket implies.
///
/// Method: per seed, four callers write and read on two shards, an operator rebuilds, evicts and
/// refills on shard a, hosting stops between its two steps, and shard a's worker crashes. At the
/// end every hosted owner is compared with the bucket; then all owners are hosted and compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_interleaving_ends_with_postgres_equal_to_the_bucket() {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
    };

    let first = number("SEED", 1);
    let rounds = number("ROUNDS", 4);

    for number in first..first + rounds {
        let seed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (stage, worker, _b) = Stage::new().await;
        let stage = Arc::new(stage);
        let (_a, kinds) = run_steps(&stage, worker, seed).await;

        stage.assert_equal_to_bucket(seed).await;
        stage.assert_shards_agree(seed).await;
        stage.until_all_are_hosted(seed).await;
        println!("seed {number}: {STEPS} steps of {kinds} kinds");
    }
}
