//! Clients who all ask about the same few items of one owner, on three shards, and record what they
//! saw.
//!
//! An operation lasts from its first attempt to its answer. A client repeats a write under its
//! request id until it is answered. An attempt without an answer stays open, unless a later attempt
//! shows what became of it.

use super::history::{Entry, History, Worker};
use super::model::{Answer, Change, LIST, Op};
use super::wire::{answer, request};
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
/// How long an attempt may take, as the client tells the service.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How much longer the client waits for the reply.
const REPLY_SLACK: Duration = Duration::from_millis(300);
const RETRY_PAUSE: Duration = Duration::from_millis(30);
/// How long an operation is retried, unless a test says otherwise.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// What all clients of a run share.
#[derive(Default)]
pub struct Clock {
    tick: AtomicU64,
    text: AtomicU32,
    /// Whether a fault lasts.
    pub has_fault: AtomicBool,
    /// Operations that have ended.
    pub done: AtomicUsize,
    /// How often the worker of each shard was killed or started after that. The number is odd while
    /// no worker runs.
    pub lives: [AtomicU64; 3],
}

/// One client of an owner.
pub struct Client {
    number: usize,
    /// Connected to one of the servers, with the owner's token.
    caller: Caller,
    clock: Arc<Clock>,
    /// How long an operation is retried.
    pub operation_timeout: Duration,
    /// Whether an operation was given up. Then the client asks no more.
    has_given_up: bool,
    /// The version of each item that the client has seen last; 0 for none.
    item_versions: BTreeMap<u8, u64>,
    owner_version: u64,
    entries: Vec<Entry>,
    /// Whether a fault lasted during the present operation.
    during_fault: bool,
    /// Replies that no client should get.
    unexpected: Vec<String>,
}

/// How an attempt ended.
enum Attempt {
    Answered(Answer, Option<Worker>),
    /// Nothing was executed.
    Refused,
    /// The service does not know whether the write was executed, and a repeat will tell.
    InDoubt,
    /// There was no reply: the operation may be executed at any time.
    Lost,
}

impl Clock {
    fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits until so many operations have ended, or the time is up.
    pub async fn wait_for(&self, done: usize, limit: Duration) {
        let start = Instant::now();

        while self.done.load(Ordering::SeqCst) < done && start.elapsed() < limit {
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Returns a random number below the limit.
fn pick(limit: usize) -> usize {
    usize::from(u16::from_be_bytes(random::<2>())) % limit
}

impl Client {
    pub fn new(number: usize, caller: Caller, clock: Arc<Clock>) -> Self {
        Self {
            number,
            caller,
            clock,
            operation_timeout: OPERATION_TIMEOUT,
            has_given_up: false,
            item_versions: BTreeMap::new(),
            owner_version: 0,
            entries: Vec::new(),
            during_fault: false,
            unexpected: Vec::new(),
        }
    }

    /// Executes so many operations, one after the other, with about that pause between them. The
    /// first client begins with a new list of codes.
    pub async fn ask_all(mut self, count: usize, pause: Duration) -> Self {
        if self.number == 0 {
            let list = Change {
                item: LIST,
                text: Some(0),
                if_version: None,
            };
            self.change_items(vec![list]).await;
        }

        for _ in 0..count {
            if self.has_given_up {
                break;
            }

            match pick(24) {
                0..7 => {
                    let change = self.random_change();
                    self.change_items(vec![change]).await;
                }
                7..10 => {
                    let deletion = self.change(false);
                    self.change_items(vec![deletion]).await;
                }
                10..14 => {
                    let count = 2 + pick(2);
                    let mut changes: Vec<_> = (0..count).map(|_| self.random_change()).collect();
                    changes.sort_by_key(|change| change.item);
                    changes.dedup_by_key(|change| change.item);

                    self.change_items(changes).await;
                }
                14..18 => self.write(Op::Take).await,
                18..22 => self.read(false).await,
                _ => self.read(true).await,
            }

            self.clock.done.fetch_add(1, Ordering::SeqCst);
            sleep(pause.mul_f64(0.5 + pick(100) as f64 / 100.0)).await;
        }

        self
    }

    /// Returns a put, or sometimes a deletion.
    fn random_change(&self) -> Change {
        self.change(pick(8) > 0)
    }

    /// Returns a put or a deletion of a random item. Half of them have a condition.
    fn change(&self, is_put: bool) -> Change {
        let item = pick(ITEMS) as u8;
        let text = is_put.then(|| self.clock.text.fetch_add(1, Ordering::SeqCst));
        let version = self.item_versions.get(&item).copied().unwrap_or_default();
        let has_condition = pick(2) == 0 && (is_put || version > 0);

        Change {
            item,
            text,
            if_version: has_condition.then_some(version),
        }
    }

    /// Puts and deletes items, sometimes only if the owner is at the version that was seen last.
    async fn change_items(&mut self, changes: Vec<Change>) {
        let is_list = changes.iter().any(|change| change.item == LIST);
        let has_condition = !is_list && pick(8) == 0;

        self.write(Op::Write {
            changes,
            if_owner_version: has_condition.then_some(self.owner_version),
        })
        .await;
    }

    async fn write(&mut self, op: Op) {
        let (operation, body) = request(&op);
        let request_id = uuid::Uuid::now_v7().to_string();
        let first = self.begin();
        let start = Instant::now();
        let mut is_lost = false;

        loop {
            let began = self.clock.tick();
            let attempt = self.attempt(operation, &body, &op, Some(&request_id)).await;

            match attempt {
                // It was this write, whichever attempt executed it.
                Attempt::Answered(answer, worker) if answer.is_write() => {
                    return self.record(op, answer, first, worker);
                }
                Attempt::Answered(answer, worker) => {
                    self.record(op.clone(), answer, began, worker);

                    if is_lost {
                        self.record_open(op, first);
                    }
                    return;
                }
                Attempt::Lost => is_lost = true,
                Attempt::InDoubt | Attempt::Refused => {}
            }

            if start.elapsed() > self.operation_timeout {
                self.has_given_up = true;

                return self.record_open(op, first);
            }

            sleep(RETRY_PAUSE).await;
        }
    }

    /// Reads an item, with a strong read or with the default consistency.
    async fn read(&mut self, by_default: bool) {
        let op = Op::Get {
            item: pick(ITEMS + 1) as u8,
        };
        let (operation, mut body) = request(&op);
        let min_version = (by_default && pick(2) == 0).then_some(self.owner_version);
        if !by_default {
            body["consistency"] = json!("strong");
        } else if let Some(min_version) = min_version {
            body["min_version"] = json!(min_version);
        }

        let first = self.begin();
        let start = Instant::now();

        while !self.has_given_up {
            // A worker's answers must not go back. This is checked against answers that ended
            // before the attempt began, so the attempt counts and not the operation.
            let began = if by_default { self.clock.tick() } else { first };
            let attempt = self.attempt(operation, &body, &op, None).await;

            if let Attempt::Answered(answer, worker) = attempt {
                self.record(op, answer, began, worker);

                if let Some(entry) = self.entries.last_mut() {
                    entry.by_default = by_default;
                    entry.min_version = min_version;
                }
                return;
            }

            self.has_given_up = start.elapsed() > self.operation_timeout;
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Begins an operation, and returns its first tick.
    fn begin(&mut self) -> u64 {
        self.during_fault = self.clock.has_fault.load(Ordering::SeqCst);

        self.clock.tick()
    }

    /// Records an answer, and remembers the versions in it.
    fn record(&mut self, op: Op, answer: Answer, began: u64, worker: Option<Worker>) {
        let owner_version = answer.owner().unwrap_or_default();
        self.owner_version = self.owner_version.max(owner_version);

        match (&op, &answer) {
            (Op::Write { changes, .. }, Answer::Written { versions }) => {
                for (change, version) in changes.iter().zip(versions) {
                    let version = if change.text.is_some() { *version } else { 0 };
                    self.item_versions.insert(change.item, version);
                }
            }
            (Op::Get { item }, Answer::Found { version, .. }) => {
                self.item_versions.insert(*item, *version);
            }
            (Op::Get { item }, Answer::NotFound { .. }) => {
                self.item_versions.insert(*item, 0);
            }
            (
                Op::Write { changes, .. },
                Answer::Conflict {
                    index: Some(index),
                    item,
                    ..
                },
            ) => {
                let version = item.map_or(0, |(version, _)| version);
                self.item_versions.insert(changes[*index].item, version);
            }
            _ => {}
        }

        let ended = self.clock.tick();
        let entry = Entry {
            ended,
            worker,
            ..self.entry(op, answer, began)
        };
        self.entries.push(entry);
    }

    /// Records an operation without an answer.
    fn record_open(&mut self, op: Op, began: u64) {
        let entry = self.entry(op, Answer::Missing, began);

        self.entries.push(entry);
    }

    fn entry(&self, op: Op, answer: Answer, began: u64) -> Entry {
        Entry {
            client: self.number,
            op,
            answer,
            began,
            ended: u64::MAX,
            by_default: false,
            min_version: None,
            worker: None,
            during_fault: self.during_fault || self.clock.has_fault.load(Ordering::SeqCst),
        }
    }

    /// Sends a request once, to a random shard.
    async fn attempt(
        &mut self,
        operation: &str,
        body: &Value,
        op: &Op,
        request_id: Option<&str>,
    ) -> Attempt {
        let shard = pick(SHARDS.len());
        let subject = format!("favorites.v1.shard.{}.{operation}", SHARDS[shard]);
        let mut headers = self.caller.headers();
        let timeout_ms = ATTEMPT_TIMEOUT.as_millis().to_string();
        headers.insert("Request-Timeout-Ms", timeout_ms);

        if let Some(id) = request_id {
            headers.insert("Nats-Msg-Id", id);
        }

        let life = self.clock.lives[shard].load(Ordering::SeqCst);
        let client = &self.caller.client;
        let request = client.request_with_headers(subject, headers, body.to_string().into());
        let reply = timeout(ATTEMPT_TIMEOUT + REPLY_SLACK, request).await;
        self.during_fault |= self.clock.has_fault.load(Ordering::SeqCst);

        let reply: Value = match reply {
            Ok(Ok(reply)) => serde_json::from_slice(&reply.payload).unwrap_or_default(),
            Ok(Err(error)) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
                return Attempt::Refused;
            }
            _ => return Attempt::Lost,
        };

        if let Some(answer) = answer(op, &reply) {
            // Which worker answered is certain only if the same one ran all the time.
            let is_running = life.is_multiple_of(2);
            let is_same = life == self.clock.lives[shard].load(Ordering::SeqCst);
            let worker = (is_running && is_same).then_some((shard, life));

            return Attempt::Answered(answer, worker);
        }

        match reply["error"]["code"].as_str() {
            Some("in_doubt") => Attempt::InDoubt,
            Some("truth_unavailable" | "auth_unavailable" | "overloaded" | "deadline_exceeded") => {
                Attempt::Refused
            }
            other => {
                self.unexpected
                    .push(format!("the reply to {operation} is {other:?}"));
                Attempt::Lost
            }
        }
    }
}

/// Returns what the clients of one owner saw together, and the replies that no client should get.
pub async fn collect(clients: Vec<tokio::task::JoinHandle<Client>>) -> (History, Vec<String>) {
    let mut history = History::default();
    let mut unexpected = Vec::new();

    for client in clients {
        let client = client.await.expect("no panic");
        history.entries.extend(client.entries);
        unexpected.extend(client.unexpected);
    }

    (history, unexpected)
}
