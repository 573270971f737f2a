//! What was acknowledged is there, whatever gets kill -9 while writes are under way.
//!
//! A kill tests no fsync: nothing is claimed here of power loss.

use crate::harness::{isin, kept_directory, shared};
use async_nats::{Client, ConnectOptions, HeaderMap};
use gofavorites::dev::{Platform, PlatformOptions, Topology, tokens};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const WRITERS: usize = 64;
const WRITES: usize = 500;
const IN_FLIGHT: usize = 50;
/// How long somebody asks again who is told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who gets kill -9, round by round.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Nats,
    Postgres,
    Auth,
    Worker,
}

/// What one writer knows of an item of theirs.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The version of the last acknowledged write.
    version: u64,
    /// Whether a later write was not answered, and may have landed.
    unsettled: bool,
}

/// What all writers of a round share.
#[derive(Default)]
struct Round {
    in_flight: AtomicUsize,
    acknowledged: AtomicUsize,
    unanswered: AtomicUsize,
    enough: AtomicBool,
}

struct Writer {
    client: Client,
    token: String,
    items: HashMap<String, Known>,
}

impl Writer {
    async fn ask(&self, subject: &str, body: &Value) -> Option<Value> {
        let mut headers = HeaderMap::new();
        headers.insert("Authorization", format!("Bearer {}", self.token));
        let asked = self
            .client
            .request_with_headers(subject.to_owned(), headers, body.to_string().into())
            .await;
        serde_json::from_slice(&asked.ok()?.payload).ok()
    }

    /// Asks again where the reply says so, or none comes: for a while after a kill a worker may not have noticed that
    /// the auth service is back.
    async fn ask_until_answered(&self, subject: &str, body: &Value) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let reply = self.ask(subject, body).await.unwrap_or_default();
            let wait = reply["error"]["details"]["retry_after_ms"].as_u64();
            let again = reply.is_null() || wait.is_some();
            if !again || Instant::now() > until {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(wait.unwrap_or(20))).await;
        }
    }

    /// Writes new items, and every third time one that is there, until the round has enough.
    async fn write(mut self, round: Arc<Round>) -> Self {
        let mut number = 0;
        while !round.enough.load(Ordering::SeqCst) {
            number += 1;
            let id = isin(if number % 3 == 0 { number - 1 } else { number } % 300);
            let body = json!({"kind": "instrument", "data": {"isin": id, "type": "stock"}});
            round.in_flight.fetch_add(1, Ordering::SeqCst);
            let reply = self.ask("favorites.v1.put", &body).await;
            round.in_flight.fetch_sub(1, Ordering::SeqCst);
            match reply
                .as_ref()
                .and_then(|reply| reply["item"]["version"].as_u64())
            {
                Some(version) => {
                    round.acknowledged.fetch_add(1, Ordering::SeqCst);
                    self.items.insert(
                        id,
                        Known {
                            version,
                            unsettled: false,
                        },
                    );
                }
                None => {
                    round.unanswered.fetch_add(1, Ordering::SeqCst);
                    if let Some(known) = self.items.get_mut(&id) {
                        known.unsettled = true;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        self
    }

    /// How many acknowledged items are not there as acknowledged.
    async fn lost(&self, shard: &str) -> usize {
        let subject = format!("favorites.v1.shard.{shard}.list");
        let reply = self
            .ask_until_answered(&subject, &json!({"limit": 500, "consistency": "strong"}))
            .await;
        let items = reply["items"]
            .as_array()
            .unwrap_or_else(|| panic!("no list: {reply}"));
        let there: HashMap<&str, u64> = items
            .iter()
            .filter_map(|item| Some((item["id"].as_str()?, item["version"].as_u64()?)))
            .collect();
        let kept = |id: &str, known: &Known| match there.get(id) {
            Some(version) => {
                *version == known.version || known.unsettled && *version > known.version
            }
            None => false,
        };
        self.items
            .iter()
            .filter(|(id, known)| !kept(id, known))
            .count()
    }
}

async fn wait_until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: not within 30 s");
}

/// Kills, leaves it dead for a moment, and starts it again.
async fn strike(platform: &mut Platform, victim: Victim, round: usize) {
    let dead = Duration::from_millis(200);
    match victim {
        Victim::Nats => {
            platform.nats().process().kill9().expect("killed");
            tokio::time::sleep(dead).await;
            platform.nats().restart().await.expect("started again");
        }
        Victim::Postgres => {
            platform.postgres().process().kill9().expect("killed");
            tokio::time::sleep(dead).await;
            platform.postgres().restart().await.expect("started again");
        }
        Victim::Auth => {
            platform.auth().kill9().expect("killed");
            tokio::time::sleep(dead).await;
            platform.restart_auth().expect("started again");
        }
        Victim::Worker => {
            let (shard, worker) = (round % 2, round / 2 % 2);
            platform.workers()[shard][worker].kill9().expect("killed");
            tokio::time::sleep(dead).await;
            platform
                .restart_worker(shard, worker)
                .await
                .expect("started again");
        }
    }
}

async fn connect(platform: &Platform) -> Client {
    ConnectOptions::with_user_and_password(
        "gateway".into(),
        platform.secrets().nats("gateway").into(),
    )
    .request_timeout(Some(Duration::from_secs(3)))
    .connect(platform.nats_url())
    .await
    .expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_survives_kill_9_of_anything() {
    let _permit = shared().await;
    let state = kept_directory();
    let mut platform = Platform::start(
        PlatformOptions {
            topology: Topology::Single,
            home: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
            state: state.join("dev"),
            fresh: true,
            program: PathBuf::from(env!("CARGO_BIN_EXE_gofavorites")),
            shards: vec!["a".into(), "b".into()],
            workers: 2,
            usual_ports: false,
            fsync: true,
        },
        |_| {},
    )
    .await
    .expect("a platform");
    let (mut acknowledged, mut unanswered, mut checked, mut lost) = (0, 0, 0, 0);
    for number in 0..ROUNDS {
        let victim = [Victim::Nats, Victim::Postgres, Victim::Auth, Victim::Worker][number % 4];
        let round = Arc::new(Round::default());
        let client = connect(&platform).await;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let subject = format!("writer-{number}-{writer}");
                let token = tokens::token(
                    platform.secrets(),
                    &subject,
                    tokens::ALL_SCOPES,
                    Duration::from_secs(600),
                );
                let writer = Writer {
                    client: client.clone(),
                    token: token.expect("a token"),
                    items: HashMap::new(),
                };
                tokio::spawn(writer.write(round.clone()))
            })
            .collect();
        wait_until("writes before the kill", || {
            round.acknowledged.load(Ordering::SeqCst) >= WRITES / 2
        })
        .await;
        wait_until("writes in flight", || {
            round.in_flight.load(Ordering::SeqCst) >= IN_FLIGHT
        })
        .await;
        let in_flight = round.in_flight.load(Ordering::SeqCst);
        strike(&mut platform, victim, number / 4).await;
        let at_return = round.acknowledged.load(Ordering::SeqCst);
        wait_until("writes after the kill", || {
            let now = round.acknowledged.load(Ordering::SeqCst);
            now >= WRITES && now >= at_return + 100
        })
        .await;
        round.enough.store(true, Ordering::SeqCst);
        let (mut round_lost, mut round_checked) = (0, 0);
        for writer in writers {
            let writer = writer.await.expect("no panic");
            for shard in ["a", "b"] {
                round_lost += writer.lost(shard).await;
                round_checked += writer.items.len();
            }
        }
        let (written, failed) = (
            round.acknowledged.load(Ordering::SeqCst),
            round.unanswered.load(Ordering::SeqCst),
        );
        println!(
            "round {number}: kill -9 of {victim:?} with {in_flight} in flight: {written} acknowledged, \
             {failed} not, {round_checked} checked on two shards, {round_lost} lost"
        );
        acknowledged += written;
        unanswered += failed;
        checked += round_checked;
        lost += round_lost;
    }
    println!(
        "in all: {acknowledged} acknowledged, {unanswered} not, {checked} checked, {lost} lost"
    );
    assert_eq!(lost, 0);
    platform.stop().expect("stopped in order");
}
