//! Clients who all ask about the same few items of one owner, on three shards, and write down what they saw.
//!
//! An operation lasts from its first attempt to its answer. A write is asked again under its request id until it is
//! answered; an attempt that got no answer at all stays open, unless a later one tells what became of it.

use super::history::{Entry, History, Worker};
use super::model::{Change, Op, Told};
use super::wire::{body, told};
use crate::harness::Caller;
use gofavorites::seal::random;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Clients of each owner.
pub const CLIENTS: usize = 10;
/// Operations of each client.
pub const OPERATIONS: usize = 9;
const ITEMS: usize = 4;
pub const SHARDS: [&str; 3] = ["a", "b", "c"];
/// How long an attempt may take, as it tells the service.
const BUDGET: Duration = Duration::from_millis(1_000);
/// How long an operation is tried, if not said otherwise.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all clients of a run share.
#[derive(Default)]
pub struct Clock {
    tick: AtomicU64,
    text: AtomicU32,
    /// Whether a fault lasts.
    pub struck: AtomicBool,
    /// Operations that were done.
    pub done: AtomicUsize,
    /// How often the worker of each shard was ended, counted at both ends of its absence.
    pub lives: [AtomicU64; 3],
}

/// One client of an owner.
pub struct Client {
    pub number: usize,
    /// Connected to one of the servers, with the owner's token.
    pub caller: Caller,
    pub clock: Arc<Clock>,
    /// How long an operation is tried; after one that was given up it asks no more.
    pub patience: Duration,
    gave_up: bool,
    known: BTreeMap<u8, u64>,
    owner: u64,
    entries: Vec<Entry>,
    /// Whether a fault lasted during the present operation.
    struck: bool,
    /// What no client should be told.
    faults: Vec<String>,
}

/// How an attempt ended.
enum Attempt {
    Told(Told, Option<Worker>),
    /// Nothing was done.
    Refused,
    /// It may be done by now, and the service says that it will tell.
    InDoubt,
    /// No answer: it may be done at any time.
    Lost,
}

impl Clock {
    fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }
}

fn pick(most: usize) -> usize {
    usize::from(u16::from_be_bytes(random::<2>())) % most
}

impl Client {
    pub fn new(number: usize, caller: Caller, clock: Arc<Clock>) -> Self {
        let (known, entries, faults) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (patience, gave_up) = (PATIENCE, false);
        Self {
            number,
            caller,
            clock,
            patience,
            gave_up,
            known,
            owner: 0,
            entries,
            struck: false,
            faults,
        }
    }

    /// Asks so many things, one after the other, with a pause of about that long between.
    pub async fn ask_all(mut self, count: usize, pause: Duration) -> Self {
        for _ in 0..count {
            if self.gave_up {
                break;
            }
            match pick(20) {
                0..7 => {
                    let changes = vec![self.change(None)];
                    self.write(changes).await;
                }
                7..10 => {
                    let changes = vec![self.change(Some(false))];
                    self.write(changes).await;
                }
                10..14 => {
                    let mut changes: Vec<Change> =
                        (0..2 + pick(2)).map(|_| self.change(None)).collect();
                    changes.sort_by_key(|change| change.item);
                    changes.dedup_by_key(|change| change.item);
                    self.write(changes).await;
                }
                14..18 => self.read(false).await,
                _ => self.read(true).await,
            }
            self.clock.done.fetch_add(1, Ordering::SeqCst);
            sleep(pause.mul_f64(0.5 + pick(100) as f64 / 100.0)).await;
        }
        self
    }

    fn change(&self, puts: Option<bool>) -> Change {
        let item = pick(ITEMS) as u8;
        let puts = puts.unwrap_or(pick(8) > 0);
        let text = puts.then(|| self.clock.text.fetch_add(1, Ordering::SeqCst));
        let if_version = (pick(2) == 0).then(|| self.known.get(&item).copied().unwrap_or_default());
        Change {
            item,
            text,
            if_version: if_version.filter(|version| puts || *version > 0),
        }
    }

    async fn write(&mut self, changes: Vec<Change>) {
        let if_owner_version = (pick(8) == 0).then_some(self.owner);
        let op = Op::Write {
            changes,
            if_owner_version,
        };
        let (what, body) = body(&op);
        let id = uuid::Uuid::now_v7().to_string();
        let (first, since) = (self.begin(), Instant::now());
        let mut lost = false;
        loop {
            let began = self.clock.tick();
            match self.attempt(what, &body, &op, Some(&id)).await {
                // It was this write, whichever attempt did it.
                Attempt::Told(told @ Told::Written { .. }, worker) => {
                    return self.ended(op, told, first, worker);
                }
                Attempt::Told(told, worker) => {
                    self.ended(op.clone(), told, began, worker);
                    if lost {
                        self.open(op, first);
                    }
                    return;
                }
                Attempt::Lost => lost = true,
                Attempt::InDoubt | Attempt::Refused => {}
            }
            if since.elapsed() > self.patience {
                self.gave_up = true;
                return self.open(op, first);
            }
            sleep(Duration::from_millis(30)).await;
        }
    }

    async fn read(&mut self, by_default: bool) {
        let op = Op::Get {
            item: pick(ITEMS) as u8,
        };
        let (what, mut body) = body(&op);
        let min_version = (by_default && pick(2) == 0).then_some(self.owner);
        if !by_default {
            body["consistency"] = json!("strong");
        } else if let Some(least) = min_version {
            body["min_version"] = json!(least);
        }
        let (began, since) = (self.begin(), Instant::now());
        while !self.gave_up {
            // Monotonic is what one attempt after the other sees; the newest began last.
            let latest = if by_default { self.clock.tick() } else { began };
            if let Attempt::Told(told, worker) = self.attempt(what, &body, &op, None).await {
                self.ended(op, told, latest, worker);
                if let Some(entry) = self.entries.last_mut() {
                    (entry.by_default, entry.min_version) = (by_default, min_version);
                }
                return;
            }
            self.gave_up = since.elapsed() > self.patience;
            sleep(Duration::from_millis(30)).await;
        }
    }

    fn begin(&mut self) -> u64 {
        self.struck = self.clock.struck.load(Ordering::SeqCst);
        self.clock.tick()
    }

    fn ended(&mut self, op: Op, told: Told, began: u64, worker: Option<Worker>) {
        self.owner = self.owner.max(told.owner().unwrap_or_default());
        match (&op, &told) {
            (Op::Write { changes, .. }, Told::Written { versions }) => {
                for (change, version) in changes.iter().zip(versions) {
                    self.known.insert(
                        change.item,
                        if change.text.is_some() { *version } else { 0 },
                    );
                }
            }
            (Op::Get { item }, Told::Found { version, .. }) => {
                self.known.insert(*item, *version);
            }
            (Op::Get { item }, Told::NotFound { .. }) => {
                self.known.insert(*item, 0);
            }
            (
                Op::Write { changes, .. },
                Told::Conflict {
                    at: Some(at), item, ..
                },
            ) => {
                self.known
                    .insert(changes[*at].item, item.map_or(0, |(version, _)| version));
            }
            _ => {}
        }
        let ended = self.clock.tick();
        let entry = Entry {
            ended,
            worker,
            ..self.entry(op, told, began)
        };
        self.entries.push(entry);
    }

    fn open(&mut self, op: Op, began: u64) {
        let entry = self.entry(op, Told::Nothing, began);
        self.entries.push(entry);
    }

    fn entry(&self, op: Op, told: Told, began: u64) -> Entry {
        let struck = self.struck || self.clock.struck.load(Ordering::SeqCst);
        let (client, ended, by_default, min_version, worker) =
            (self.number, u64::MAX, false, None, None);
        Entry {
            client,
            op,
            told,
            began,
            ended,
            by_default,
            min_version,
            worker,
            struck,
        }
    }

    async fn attempt(&mut self, what: &str, body: &Value, op: &Op, id: Option<&str>) -> Attempt {
        let shard = pick(SHARDS.len());
        let mut headers = self.caller.headers();
        headers.insert("Request-Timeout-Ms", BUDGET.as_millis().to_string());
        if let Some(id) = id {
            headers.insert("Nats-Msg-Id", id);
        }
        let life = self.clock.lives[shard].load(Ordering::SeqCst);
        let subject = format!("favorites.v1.shard.{}.{what}", SHARDS[shard]);
        let asked =
            self.caller
                .client
                .request_with_headers(subject, headers, body.to_string().into());
        let asked = timeout(BUDGET + Duration::from_millis(300), asked).await;
        self.struck |= self.clock.struck.load(Ordering::SeqCst);
        let reply: Value = match asked {
            Ok(Ok(reply)) => serde_json::from_slice(&reply.payload).unwrap_or_default(),
            Ok(Err(error)) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
                return Attempt::Refused;
            }
            _ => return Attempt::Lost,
        };
        // An odd life is none: it is being ended, or begun.
        let same = life.is_multiple_of(2) && life == self.clock.lives[shard].load(Ordering::SeqCst);
        if let Some(told) = told(op, &reply) {
            return Attempt::Told(told, same.then_some((shard, life)));
        }
        match reply["error"]["code"].as_str() {
            Some("in_doubt") => Attempt::InDoubt,
            Some("truth_unavailable" | "auth_unavailable" | "overloaded" | "deadline_exceeded") => {
                Attempt::Refused
            }
            other => {
                self.faults.push(format!("{what} is answered {other:?}"));
                Attempt::Lost
            }
        }
    }
}

/// What the clients of one owner saw, together; and what no client should be told.
pub async fn of_all(clients: Vec<tokio::task::JoinHandle<Client>>) -> (History, Vec<String>) {
    let (mut history, mut faults) = (History::default(), Vec::new());
    for client in clients {
        let client = client.await.expect("no panic");
        history.entries.extend(client.entries);
        faults.extend(client.faults);
    }
    (history, faults)
}
