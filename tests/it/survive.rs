//! Every acknowledged write survives a `kill -9` of any process while writes are under way.
//!
//! A kill does not test fsync. These tests say nothing about a loss of power.

use crate::harness::{extent, isin, kept_directory, shared, start_platform};
use async_nats::{Client, ConnectOptions, HeaderMap};
use gofavorites::dev::{Platform, tokens};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const WRITERS: usize = 64;

/// How many writes of a round have to be acknowledged.
const ROUND_WRITES_MIN: usize = 500;

/// How many writes have to be acknowledged after the killed process is back.
const LATE_WRITES_MIN: usize = 100;

/// How many writes have to be under way at the time of the kill.
const IN_FLIGHT_MIN: usize = 50;

/// How long a read is repeated if the reply asks for it.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a killed process stays dead.
const DEAD_TIME: Duration = Duration::from_millis(200);

/// What gets `kill -9`, round by round.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Nats,
    Postgres,
    Auth,
    Worker,
}

const VICTIMS: [Victim; 4] = [Victim::Nats, Victim::Postgres, Victim::Auth, Victim::Worker];

/// An item as its writer knows it.
#[derive(Clone, Copy, Debug)]
struct ItemModel {
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

/// What was counted in one round, or in all.
#[derive(Default)]
struct Totals {
    acknowledged: usize,
    unanswered: usize,
    checked: usize,
    lost: usize,
}

impl Round {
    fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }
}

struct Writer {
    client: Client,
    token: String,
    items: HashMap<String, ItemModel>,
}

impl Writer {
    /// Sends one request, and returns the body of the reply; `None` if there is no reply.
    async fn ask(&self, subject: &str, body: &Value) -> Option<Value> {
        let mut headers = HeaderMap::new();
        headers.insert("Authorization", format!("Bearer {}", self.token));

        let reply = self
            .client
            .request_with_headers(subject.to_owned(), headers, body.to_string().into())
            .await;

        serde_json::from_slice(&reply.ok()?.payload).ok()
    }

    /// Repeats a request if there is no reply or if the reply asks for it. For a while after a
    /// kill, a worker may not have noticed that the auth service is back.
    async fn ask_until_answered(&self, subject: &str, body: &Value) -> Value {
        let until = Instant::now() + READ_TIMEOUT;

        loop {
            let reply = self.ask(subject, body).await.unwrap_or_default();
            let wait = reply["error"]["details"]["retry_after_ms"].as_u64();
            let has_answer = !reply.is_null() && wait.is_none();
            if has_answer || Instant::now() > until {
                return reply;
            }

            tokio::time::sleep(Duration::from_millis(wait.unwrap_or(20))).await;
        }
    }

    /// Writes new items, and with every third write an existing one, until the round has enough.
    async fn write(mut self, round: Arc<Round>) -> Self {
        let mut number = 0;

        while !round.enough.load(Ordering::SeqCst) {
            number += 1;
            let id = isin(if number % 3 == 0 { number - 1 } else { number } % 300);
            let body = json!({"kind": "instrument", "data": {"isin": id, "type": "stock"}});

            round.in_flight.fetch_add(1, Ordering::SeqCst);
            let reply = self.ask("favorites.v1.put", &body).await;
            round.in_flight.fetch_sub(1, Ordering::SeqCst);

            let version = reply.and_then(|reply| reply["item"]["version"].as_u64());
            if let Some(version) = version {
                round.acknowledged.fetch_add(1, Ordering::SeqCst);
                let item = ItemModel {
                    version,
                    unsettled: false,
                };
                self.items.insert(id, item);
            } else {
                round.unanswered.fetch_add(1, Ordering::SeqCst);
                if let Some(item) = self.items.get_mut(&id) {
                    item.unsettled = true;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }

        self
    }

    /// Reads all items with a strong read, and returns how many acknowledged ones are not there as
    /// they were acknowledged.
    async fn count_lost(&self, shard: &str) -> usize {
        let subject = format!("favorites.v1.shard.{shard}.list");
        let body = json!({"limit": 500, "consistency": "strong"});

        let reply = self.ask_until_answered(&subject, &body).await;

        let items = reply["items"]
            .as_array()
            .unwrap_or_else(|| panic!("no list: {reply}"));
        let versions: HashMap<&str, u64> = items
            .iter()
            .filter_map(|item| Some((item["id"].as_str()?, item["version"].as_u64()?)))
            .collect();

        let is_there = |id: &str, item: &ItemModel| {
            versions.get(id).is_some_and(|version| {
                *version == item.version || item.unsettled && *version > item.version
            })
        };
        self.items
            .iter()
            .filter(|(id, item)| !is_there(id, item))
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

/// Kills a process, leaves it dead for a moment, and starts it again.
async fn strike(platform: &mut Platform, victim: Victim, round: usize) {
    match victim {
        Victim::Nats => {
            platform.nats().process().kill9().expect("killed");
            tokio::time::sleep(DEAD_TIME).await;
            platform.nats().restart().await.expect("started again");
        }
        Victim::Postgres => {
            platform.postgres().process().kill9().expect("killed");
            tokio::time::sleep(DEAD_TIME).await;
            platform.postgres().restart().await.expect("started again");
        }
        Victim::Auth => {
            platform.auth().kill9().expect("killed");
            tokio::time::sleep(DEAD_TIME).await;
            platform.restart_auth().expect("started again");
        }
        Victim::Worker => {
            let shard = round % 2;
            let worker = round / 2 % 2;
            platform.workers()[shard][worker].kill9().expect("killed");
            tokio::time::sleep(DEAD_TIME).await;

            let restarted = platform.restart_worker(shard, worker).await;
            restarted.expect("started again");
        }
    }
}

async fn connect(platform: &Platform) -> Client {
    let password = platform.secrets().nats("gateway").into();

    ConnectOptions::with_user_and_password("gateway".into(), password)
        .request_timeout(Some(Duration::from_secs(3)))
        .connect(platform.nats_url())
        .await
        .expect("a connection")
}

/// Starts the writers of a round, each with its own owner and all on one connection.
async fn start_writers(
    platform: &Platform,
    number: usize,
    round: &Arc<Round>,
) -> Vec<JoinHandle<Writer>> {
    let client = connect(platform).await;
    let secrets = platform.secrets();
    let lifetime = Duration::from_secs(600);

    (0..WRITERS)
        .map(|writer| {
            let subject = format!("writer-{number}-{writer}");
            let token = tokens::token(secrets, &subject, tokens::ALL_SCOPES, lifetime);
            let writer = Writer {
                client: client.clone(),
                token: token.expect("a token"),
                items: HashMap::new(),
            };
            tokio::spawn(writer.write(round.clone()))
        })
        .collect()
}

/// Plays one round: writes, a kill, and more writes. Then every item is read on both shards.
async fn play_round(platform: &mut Platform, number: usize) -> Totals {
    let victim = VICTIMS[number % VICTIMS.len()];
    let round = Arc::new(Round::default());
    let writers = start_writers(platform, number, &round).await;

    let has_written = || round.acknowledged() >= ROUND_WRITES_MIN / 2;
    wait_until("writes before the kill", has_written).await;
    let are_in_flight = || round.in_flight() >= IN_FLIGHT_MIN;
    wait_until("writes in flight", are_in_flight).await;

    let in_flight = round.in_flight();
    strike(platform, victim, number / VICTIMS.len()).await;

    let at_return = round.acknowledged();
    wait_until("writes after the kill", || {
        let acknowledged = round.acknowledged();
        acknowledged >= ROUND_WRITES_MIN && acknowledged >= at_return + LATE_WRITES_MIN
    })
    .await;
    round.enough.store(true, Ordering::SeqCst);

    let mut totals = Totals::default();
    for writer in writers {
        let writer = writer.await.expect("no panic");

        for shard in ["a", "b"] {
            totals.lost += writer.count_lost(shard).await;
            totals.checked += writer.items.len();
        }
    }
    totals.acknowledged = round.acknowledged();
    totals.unanswered = round.unanswered.load(Ordering::SeqCst);

    println!("round {number}: kill -9 of {victim:?} with {in_flight} in flight");
    totals
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.unanswered += other.unanswered;
        self.checked += other.checked;
        self.lost += other.lost;
    }

    fn print(&self, title: &str) {
        println!(
            "{title}: {} acknowledged, {} not, {} checked on two shards, {} lost",
            self.acknowledged, self.unanswered, self.checked, self.lost
        );
    }
}

/// Goal: no acknowledged write is lost, whatever process is killed.
///
/// Method: in eight rounds (at night twenty), 64 writers write to a platform of two shards with two
/// workers each. While at least fifty writes are under way, the NATS server, Postgres, the auth
/// service or a worker gets `kill -9` and starts again. Then every item of the round is read on
/// both shards.
#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_survives_kill_9_of_anything() {
    let _permit = shared().await;
    let directory = kept_directory();
    let mut platform = start_platform(&directory, &["a", "b"]).await;

    let mut all = Totals::default();
    for number in 0..extent(8, 20) {
        let totals = play_round(&mut platform, number).await;

        totals.print(&format!("round {number}"));
        all.add(&totals);
    }

    all.print("in all");
    assert_eq!(all.lost, 0);
    platform.stop().expect("stopped in order");
}
