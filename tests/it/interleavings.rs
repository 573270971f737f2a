//! Any interleaving of projection, hosting, eviction, replay and writes ends with Postgres equal to the truth.
//!
//! The steps are drawn from a seed, and overlap. `SEED` draws others, `ROUNDS` more of them.

use crate::harness::{Caller, Worker, World};
use gofavorites::app::OperatorSession;
use gofavorites::domain::Version;
use gofavorites::maintenance::{Comparison, Verifier};
use gofavorites::owners::Loss;
use gofavorites::shard::{OwnerCopy, Store};
use gofavorites::truth::{Bucket, Delta};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const PEOPLE: usize = 4;
const ITEMS: usize = 5;
const STEPS: usize = 150;
/// Steps under way at a time.
const AT_A_TIME: usize = 6;

/// A generator that gives the same numbers for the same seed (xorshift, Marsaglia 2003).
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % below
    }
}

/// What the steps work on.
struct Stage {
    world: World,
    session: OperatorSession,
    store: Store,
    bucket: Bucket,
    people: Vec<Caller>,
    /// What somebody fetched between the two steps of hosting, and has not brought to its end.
    fetched: Mutex<Vec<(usize, Delta)>>,
}

fn name(who: usize) -> String {
    format!("somebody-{who}")
}

/// Asks; the worker may die before it answers.
async fn ask(somebody: &Caller, what: &str, body: &Value) {
    let (shard, operation) = what.split_once('.').expect("a shard");
    let subject = format!("favorites.v1.shard.{shard}.{operation}");
    let asked =
        somebody
            .client
            .request_with_headers(subject, somebody.headers(), body.to_string().into());
    let _ = tokio::time::timeout(Duration::from_secs(1), asked).await;
}

impl Stage {
    async fn new() -> (Self, Worker, Worker) {
        let world = World::start().await;
        let (a, b) = (
            world.worker_with(Self::settings(&world)).await,
            world.worker("b").await,
        );
        let session = OperatorSession::open(&world.settings("a"), "test")
            .await
            .expect("a session");
        let (store, bucket) = (world.store("a"), world.bucket("a").await);
        let mut people = Vec::new();
        for who in 0..PEOPLE {
            people.push(world.caller(&name(who)).await);
        }
        (
            Self {
                world,
                session,
                store,
                bucket,
                people,
                fetched: Mutex::default(),
            },
            a,
            b,
        )
    }

    /// Small batches, so that more of them lie between other things.
    fn settings(world: &World) -> gofavorites::config::Settings {
        let mut settings = world.settings("a");
        settings.projection.batch = 2;
        settings.projection.poll_ms = 20;
        settings
    }

    /// One step; what it gives does not matter, for others may be in its way. That it ends well is seen in the end.
    async fn step(&self, what: usize, who: usize, item: usize, pause: u64) {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let (somebody, owner) = (&self.people[who], self.world.owner(&name(who)));
        let note = format!("note-{item}");
        match what {
            0..6 => {
                ask(
                    somebody,
                    "b.put",
                    &json!({"kind": "text", "id": note, "data": {"text": "x"}}),
                )
                .await
            }
            6..9 => {
                ask(
                    somebody,
                    "a.put",
                    &json!({"kind": "text", "id": note, "data": {"text": "y"}}),
                )
                .await
            }
            9 => ask(somebody, "b.delete", &json!({"kind": "text", "id": note})).await,
            10..13 => ask(somebody, "a.list", &json!({})).await,
            13 => {
                let key = self.world.key_of(&name(who));
                let long_ago =
                    "update owner set seen_at = now() - interval '99 days' where owner_key = ";
                self.world.query("a", &format!("{long_ago}{key}"));
                self.store.evict(98, 10).await.expect("Postgres");
            }
            14 => drop(
                self.session
                    .operator
                    .owners
                    .rebuild(&owner, Loss::Refuse)
                    .await
                    .expect("rebuilt"),
            ),
            15 => drop(
                self.store
                    .reset_owner(&owner, "favorites")
                    .await
                    .expect("Postgres"),
            ),
            16 => {
                self.store
                    .begin_hosting(&owner, "favorites")
                    .await
                    .expect("Postgres");
                let delta = self
                    .bucket
                    .since_confirmed(&owner, Version::NONE)
                    .await
                    .expect("the truth");
                // Some of it goes ahead.
                let (some, up_to) = (
                    delta.records.iter().skip(item).collect::<Vec<_>>(),
                    delta.up_to,
                );
                self.store
                    .store_ahead(&owner, &some, up_to.unwrap_or_default().get())
                    .await
                    .expect("Postgres");
                self.fetched.lock().expect("whole").push((who, delta));
            }
            17 | 18 => self.bring_to_an_end().await,
            19 => drop(
                self.session
                    .operator
                    .owners
                    .backfill(&owner)
                    .await
                    .expect("versions"),
            ),
            20 => drop(
                self.session
                    .operator
                    .refill_versions(|_, _| ())
                    .await
                    .expect("versions"),
            ),
            _ => drop(
                self.session
                    .operator
                    .rebuild_known(Loss::Refuse, |_, _| ())
                    .await
                    .expect("rebuilt"),
            ),
        }
    }

    /// The second step of a hosting that was begun some time ago.
    async fn bring_to_an_end(&self) {
        let Some((who, delta)) = self.fetched.lock().expect("whole").pop() else {
            return;
        };
        let owner = self.world.owner(&name(who));
        let (records, up_to) = (delta.records, delta.up_to.unwrap_or_default().get());
        let whole = OwnerCopy {
            owner,
            bucket: "favorites",
            records,
            up_to,
        };
        self.store.complete_hosting(&whole).await.expect("Postgres");
    }

    /// Whoever is hosted has the truth's rows, and every version that the bucket keeps, where that is said.
    async fn is_the_truths(&self, seed: u64) -> usize {
        let verifier = Verifier::new(self.session.operator.clone());
        let mut hosted = 0;
        for who in 0..PEOPLE {
            let owner = self.world.owner(&name(who));
            match verifier.compare(&owner).await.expect("compared") {
                Comparison::Equal => hosted += 1,
                Comparison::NotHosted => continue,
                other => panic!("seed {seed}: {other:?}"),
            }
            let key = self.world.key_of(&name(who));
            let complete = format!("select history_complete from owner where owner_key = {key}");
            if self.world.query("a", &complete) != "t" {
                continue;
            }
            let here = format!("select version from item_version where owner_key = {key}");
            let here: Vec<u64> = self
                .world
                .query("a", &here)
                .lines()
                .map(|v| v.parse().expect("a number"))
                .collect();
            let truth = self
                .bucket
                .since_confirmed(&owner, Version::NONE)
                .await
                .expect("the truth");
            for current in truth.records.iter().filter(|record| record.is_live_item()) {
                let kept = self
                    .bucket
                    .history(&owner, &current.name, Version::NONE, current.version)
                    .await
                    .expect("the truth");
                let missing = kept
                    .iter()
                    .find(|record| !here.contains(&record.version.get()));
                assert!(
                    missing.is_none(),
                    "seed {seed}: a version is missing, {missing:?}"
                );
            }
        }
        hosted
    }
}

async fn round(seed: u64) -> BTreeMap<usize, usize> {
    let (stage, worker, _b) = Stage::new().await;
    let (stage, mut worker) = (Arc::new(stage), Some(worker));
    let (mut draw, mut under_way, mut drawn) = (Draw(seed), JoinSet::new(), BTreeMap::new());
    for _ in 0..STEPS {
        let (what, who, item) = (draw.next(23), draw.next(PEOPLE), draw.next(ITEMS));
        *drawn.entry(what).or_default() += 1;
        if what == 22 {
            // The projection dies with its worker; what is under way goes on without.
            if let Some(worker) = worker.take() {
                worker.crash().await;
            }
            worker = Some(
                stage
                    .world
                    .try_worker(Stage::settings(&stage.world))
                    .await
                    .expect("a worker"),
            );
            continue;
        }
        let (stage, pause) = (stage.clone(), draw.next(12) as u64);
        under_way.spawn(async move { stage.step(what, who, item, pause).await });
        while under_way.len() >= AT_A_TIME {
            under_way
                .join_next()
                .await
                .expect("some")
                .expect("no panic");
        }
    }
    while let Some(ended) = under_way.join_next().await {
        ended.expect("no panic");
    }
    stage.is_the_truths(seed).await;
    // Everybody comes once more, and is answered alike on both shards, and hosted.
    for somebody in &stage.people {
        let strong = json!({"consistency": "strong"});
        let lists = (
            somebody.done("a.list", &strong).await,
            somebody.done("b.list", &strong).await,
        );
        assert_eq!(lists.0["items"], lists.1["items"], "seed {seed}");
        assert_eq!(lists.0["stale"], Value::Null, "seed {seed}");
    }
    for _ in 0..500 {
        if stage.is_the_truths(seed).await == PEOPLE {
            return drawn;
        }
        for somebody in &stage.people {
            somebody.done("a.list", &json!({})).await;
        }
    }
    panic!("seed {seed}: not everybody is hosted in the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_interleaving_ends_with_postgres_equal_to_the_truth() {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
    };
    let (first, rounds) = (number("SEED", 1), number("ROUNDS", 4));
    for seed in first..first + rounds {
        let drawn = round(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).await;
        println!("seed {seed}: {STEPS} steps of {} kinds", drawn.len());
    }
}
