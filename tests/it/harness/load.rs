//! A load of mixed requests. Each reply is checked against a model of the acknowledged writes.
//!
//! Each driver has its own owner and sends one request after the other, so its model is exact. A
//! write with an unknown outcome is repeated under its request id until the outcome is known, and
//! must have been executed exactly once.

use super::caller::Caller;
use super::world::World;
use gofavorites::seal::random;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long a caller waits, which it also tells the service.
const CALLER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How much longer a reply may take on a busy machine.
const SLACK: Duration = Duration::from_millis(250);

/// How many items an owner has.
const OWNER_ITEMS: u64 = 6;

/// How often a write in doubt is repeated.
const WRITE_RETRIES_MAX: usize = 2_000;

/// The codes of refusals after which nothing was written.
const NOT_WRITTEN: [&str; 4] = [
    "truth_unavailable",
    "auth_unavailable",
    "overloaded",
    "deadline_exceeded",
];

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    /// Done, and the row is not yet in the shard's Postgres.
    Pending,
    /// Answered from a copy that could not be checked.
    Stale,
    /// Refused with that code.
    Refused(String),
    /// No worker was there, or none answered.
    NoReply,
}

/// One request, as its caller saw it.
#[derive(Clone, Debug)]
struct Observation {
    at: Instant,
    took: Duration,
    is_write: bool,
    outcome: Outcome,
}

/// An item in the model.
#[derive(Clone, Debug, Default)]
struct ItemModel {
    /// The last acknowledged version; 0 if there is none.
    version: u64,
    /// The text of that version; `None` if it is a deletion.
    text: Option<String>,
    /// Every version that was ever acknowledged.
    all: BTreeSet<u64>,
}

/// One owner, and the caller that sends the owner's requests.
struct Driver {
    caller: Caller,
    /// Where it sends requests: a shard's id, or "" for the nearest worker.
    places: Vec<String>,
    may_lose_replies: bool,
    only_strong: bool,
    model: BTreeMap<String, ItemModel>,
    owner_version: u64,
    observations: Vec<Observation>,
    violations: Vec<String>,
    next: u64,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    drivers: Vec<JoinHandle<Driver>>,
}

/// The result of a load.
pub struct Report {
    drivers: Vec<Driver>,
}

impl Load {
    /// Starts `count` drivers, each with its own owner. They send requests to those places: a
    /// shard's id, or "" for the nearest worker.
    pub async fn start(
        world: &World,
        places: &[&str],
        count: usize,
        may_lose_replies: bool,
    ) -> Self {
        let callers = callers(world, &world.nats.url(), count).await;

        Self::of(callers, places, may_lose_replies)
    }

    /// Does the same as [`start`](Self::start) for a bucket with replicas. A replica may lag, so
    /// only strong reads are sure to return what was acknowledged, and the drivers send no others.
    pub async fn start_strong(world: &World, places: &[&str], count: usize) -> Self {
        let callers = callers(world, &world.nats.url(), count).await;

        Self::with_reads(callers, places, true, true)
    }

    /// Does the same as [`start`](Self::start), with callers that connect to another server.
    pub async fn start_at(world: &World, url: &str, places: &[&str], count: usize) -> Self {
        Self::of(callers(world, url, count).await, places, false)
    }

    /// Starts a driver for each of these callers. Nothing else may write for their owners.
    pub fn of(callers: Vec<Caller>, places: &[&str], may_lose_replies: bool) -> Self {
        Self::with_reads(callers, places, may_lose_replies, false)
    }

    fn with_reads(
        callers: Vec<Caller>,
        places: &[&str],
        may_lose_replies: bool,
        only_strong: bool,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));

        let new_driver = |caller| Driver {
            caller,
            places: places.iter().map(|place| (*place).to_owned()).collect(),
            may_lose_replies,
            only_strong,
            model: BTreeMap::new(),
            owner_version: 0,
            observations: Vec::new(),
            violations: Vec::new(),
            next: 0,
        };
        let drivers = callers
            .into_iter()
            .map(|caller| {
                let driver = new_driver(caller);
                tokio::spawn(driver.drive(stop.clone(), done.clone()))
            })
            .collect();

        Self {
            stop,
            done,
            drivers,
        }
    }

    /// Returns how many requests succeeded so far.
    pub fn answered(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits until `more` further requests succeeded.
    pub async fn progress(&self, more: u64) {
        let until = self.done.load(Ordering::SeqCst) + more;

        for _ in 0..6_000 {
            if self.done.load(Ordering::SeqCst) >= until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }

        panic!("the load makes no progress");
    }

    /// Ends the load, and returns what its callers saw.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::SeqCst);

        let mut drivers = Vec::new();
        for driver in self.drivers {
            drivers.push(driver.await.expect("no panic"));
        }

        Report { drivers }
    }
}

async fn callers(world: &World, url: &str, count: usize) -> Vec<Caller> {
    let mut callers = Vec::new();

    for number in 0..count {
        let name = format!("load-{number}-{}", uuid::Uuid::now_v7());
        callers.push(world.caller_at(url, &name).await);
    }

    callers
}

fn subject(place: &str, operation: &str) -> String {
    if place.is_empty() {
        format!("favorites.v1.{operation}")
    } else {
        format!("favorites.v1.shard.{place}.{operation}")
    }
}

/// Returns a random number below `limit`.
fn pick(limit: usize) -> usize {
    usize::from(u16::from_be_bytes(random::<2>())) % limit
}

/// Returns the outcome that a reply stands for.
fn outcome_of(reply: Option<&Value>) -> Outcome {
    match reply {
        None => Outcome::NoReply,
        Some(reply) if reply["error"].is_object() => {
            let code = reply["error"]["code"].as_str().unwrap_or_default();
            Outcome::Refused(code.to_owned())
        }
        Some(reply) if reply["stale"] == true => Outcome::Stale,
        Some(reply) if reply["local"] == "pending" => Outcome::Pending,
        Some(_) => Outcome::Done,
    }
}

impl Driver {
    async fn drive(mut self, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Self {
        while !stop.load(Ordering::SeqCst) {
            match pick(10) {
                0..4 => self.put().await,
                4 => self.delete().await,
                5..7 => self.get().await,
                7 => self.list("strong").await,
                _ if self.only_strong => self.list("strong").await,
                _ => self.list("head").await,
            }

            let outcome = self.observations.last().map(|last| &last.outcome);
            if matches!(outcome, Some(Outcome::Done | Outcome::Pending)) {
                done.fetch_add(1, Ordering::SeqCst);
            }

            tokio::time::sleep(Duration::from_millis(2)).await;
        }

        self
    }

    /// Sends one request, and notes its outcome; `None` if no reply came.
    async fn ask(
        &mut self,
        operation: &str,
        body: &Value,
        request_id: Option<&str>,
        is_write: bool,
    ) -> Option<Value> {
        let place = self.places[pick(self.places.len())].clone();
        let timeout_ms = CALLER_TIMEOUT.as_millis();
        let mut headers = self.caller.headers();
        headers.insert("Request-Timeout-Ms", timeout_ms.to_string());
        if let Some(id) = request_id {
            headers.insert("Nats-Msg-Id", id);
        }

        let at = Instant::now();
        let request = self.caller.client.request_with_headers(
            subject(&place, operation),
            headers,
            body.to_string().into(),
        );
        let reply = tokio::time::timeout(CALLER_TIMEOUT + SLACK * 2, request).await;
        let took = at.elapsed();

        let reply = match reply {
            Ok(Ok(reply)) => serde_json::from_slice::<Value>(&reply.payload).ok(),
            _ => None,
        };
        let outcome = outcome_of(reply.as_ref());

        if outcome == Outcome::Refused("internal".into()) {
            self.violation(format!("{operation} was answered `internal`"));
        }

        if took > CALLER_TIMEOUT + SLACK && !self.may_lose_replies {
            self.violation(format!("{operation} took {took:?}: {outcome:?}"));
        }

        self.observations.push(Observation {
            at,
            took,
            is_write,
            outcome,
        });

        reply
    }

    fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    /// Returns the item in the model, unless it is absent or deleted.
    fn live_item(&self, id: &str) -> Option<&ItemModel> {
        self.model.get(id).filter(|item| item.text.is_some())
    }

    async fn put(&mut self) {
        self.next += 1;
        let id = format!("item-{}", self.next % OWNER_ITEMS);
        let text = format!("a-favourite-text-{}", self.next);

        let mut body = json!({"kind": "text", "id": id, "data": {"text": text}});
        if pick(2) == 0 {
            // The item's present version: 0 for an item that does not exist.
            let version = self.live_item(&id).map_or(0, |item| item.version);
            body["if_version"] = json!(version);
        }

        self.write("put", &id, Some(text), &body).await;
    }

    async fn delete(&mut self) {
        let live = self
            .model
            .iter()
            .find(|(_, item)| item.text.is_some())
            .map(|(id, _)| id.clone());
        let Some(id) = live else { return };

        let body = json!({"kind": "text", "id": id});
        self.write("delete", &id, None, &body).await;
    }

    async fn write(&mut self, operation: &str, id: &str, text: Option<String>, body: &Value) {
        let request_id = uuid::Uuid::now_v7().to_string();
        let mut in_doubt = false;

        for _ in 0..WRITE_RETRIES_MAX {
            let reply = self.ask(operation, body, Some(&request_id), true).await;
            let code = reply
                .as_ref()
                .and_then(|reply| reply["error"]["code"].as_str());

            if let Some(reply) = reply.as_ref().filter(|_| code.is_none()) {
                let version = reply["item"]["version"].as_u64().expect("a version");
                if in_doubt {
                    self.check_repeat(operation, body, &request_id, version)
                        .await;
                }
                return self.acknowledge(id, text, version);
            }

            match code {
                None | Some("in_doubt") => in_doubt = true,
                // This attempt wrote nothing. An earlier one in doubt may have.
                Some(code) if NOT_WRITTEN.contains(&code) => {
                    if !in_doubt {
                        return;
                    }
                }
                Some(other) => {
                    return self.violation(format!("{operation} was refused as {other}"));
                }
            }

            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        self.violation(format!("{operation} in doubt was never settled"));
    }

    /// Repeats a write under its request id, which must return the same write.
    async fn check_repeat(
        &mut self,
        operation: &str,
        body: &Value,
        request_id: &str,
        version: u64,
    ) {
        let Some(repeat) = self.ask(operation, body, Some(request_id), true).await else {
            return;
        };

        let found = &repeat["item"]["version"];
        if repeat["error"].is_null() && *found != version {
            self.violation(format!(
                "{operation} was executed twice: at {version} and at {found}"
            ));
        }
    }

    /// Notes an acknowledged write in the model.
    fn acknowledge(&mut self, id: &str, text: Option<String>, version: u64) {
        let item = self.model.entry(id.to_owned()).or_default();
        let before = item.version;

        item.all.insert(version);
        item.version = version;
        item.text = text;

        if version <= before {
            self.violation(format!("a write got version {version} after {before}"));
        }
        self.owner_version = self.owner_version.max(version);
    }

    async fn get(&mut self) {
        let id = format!("item-{}", pick(OWNER_ITEMS as usize));
        let mut body = json!({"kind": "text", "id": id});
        if self.only_strong {
            body["consistency"] = json!("strong");
        }

        let Some(reply) = self.ask("get", &body, None, false).await else {
            return;
        };

        let stale = reply["stale"] == true || reply["error"]["details"]["stale"] == true;
        match reply["error"]["code"].as_str() {
            None => self.check_item(&id, &reply["item"], stale),
            Some("not_found") if !stale => {
                if self.live_item(&id).is_some() {
                    self.violation("an acknowledged item is not found".into());
                }
            }
            Some(_) => {}
        }
    }

    async fn list(&mut self, consistency: &str) {
        let body = json!({"limit": 500, "consistency": consistency});
        let Some(reply) = self.ask("list", &body, None, false).await else {
            return;
        };

        if reply["error"].is_null() {
            self.check_list(&reply);
        }
    }

    fn check_list(&mut self, reply: &Value) {
        let stale = reply["stale"] == true;
        let items = reply["items"].as_array().cloned().unwrap_or_default();

        for item in &items {
            let id = item["id"].as_str().unwrap_or_default().to_owned();
            self.check_item(&id, item, stale);
        }
        if stale {
            return;
        }

        let listed = items.len();
        let live = self
            .model
            .values()
            .filter(|item| item.text.is_some())
            .count();
        if listed != live {
            self.violation(format!(
                "{listed} items are listed, and {live} were acknowledged"
            ));
        }

        let before = self.owner_version;
        let owner_version = reply["owner_version"].as_u64().unwrap_or_default();
        if owner_version < before {
            self.violation(format!(
                "the owner's version went from {before} to {owner_version}"
            ));
        }
        self.owner_version = before.max(owner_version);
    }

    fn check_item(&mut self, id: &str, item: &Value, stale: bool) {
        let model = self.model.get(id).cloned().unwrap_or_default();
        let version = item["version"].as_u64().unwrap_or_default();
        let text = item["data"]["text"].as_str();

        let is_right = if stale {
            model.all.contains(&version)
        } else {
            version == model.version && text == model.text.as_deref()
        };

        if !is_right {
            let kind = if stale { "a stale" } else { "a fresh" };
            self.violation(format!(
                "{kind} read returned version {version}, acknowledged is {}",
                model.version
            ));
        }
    }
}

impl Report {
    /// Reads every owner on each of the shards with a strong read, and compares the items with the
    /// model.
    pub async fn verify(&mut self, shards: &[&str]) {
        let body = json!({"limit": 500, "consistency": "strong"});

        for driver in &mut self.drivers {
            for shard in shards {
                driver.places = vec![(*shard).to_owned()];
                let reply = driver.ask("list", &body, None, false).await;
                let reply = reply.unwrap_or_default();

                if reply["items"].is_array() && reply["stale"].is_null() {
                    driver.check_list(&reply);
                } else {
                    driver.violation(format!(
                        "in the end shard {shard} does not list: {:?}",
                        reply["error"]["code"]
                    ));
                }
            }
        }
    }

    /// Writes through each of the shards until a write is answered with its row in the shard's
    /// Postgres. Returns whether that happened within the limit on each.
    pub async fn rows_come(&mut self, shards: &[&str], limit: Duration) -> bool {
        let driver = self.drivers.first_mut().expect("a driver");

        for shard in shards {
            driver.places = vec![(*shard).to_owned()];
            let start = Instant::now();
            loop {
                driver.put().await;
                match driver.observations.last() {
                    Some(last) if last.outcome == Outcome::Done => break,
                    _ if start.elapsed() > limit => return false,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }

        true
    }

    fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.drivers.iter().flat_map(|driver| &driver.observations)
    }

    /// Returns the last acknowledged version of each item.
    pub fn versions(&self) -> BTreeSet<u64> {
        self.drivers
            .iter()
            .flat_map(|driver| driver.model.values())
            .map(|item| item.version)
            .filter(|version| *version > 0)
            .collect()
    }

    /// Returns how many requests had each outcome: first the writes, then the reads.
    pub fn counts(&self) -> [BTreeMap<Outcome, usize>; 2] {
        let mut counts = [BTreeMap::new(), BTreeMap::new()];

        for request in self.observations() {
            let counts = &mut counts[usize::from(!request.is_write)];
            *counts.entry(request.outcome.clone()).or_default() += 1;
        }

        counts
    }

    /// Fails on every outcome of a write or a read that is not one of these, `Done`, or
    /// `not_found`.
    pub fn only(&self, codes: &[&str], others: &[Outcome]) {
        for request in self.observations() {
            let is_expected = match &request.outcome {
                Outcome::Done => true,
                Outcome::Refused(code) => code == "not_found" || codes.contains(&code.as_str()),
                other => others.contains(other),
            };

            assert!(
                is_expected,
                "{:?} after {:?}",
                request.outcome, request.took
            );
        }
    }

    /// Returns the time of the slowest request that began between the two moments.
    pub fn slowest(&self, from: Instant, to: Instant) -> Duration {
        self.observations()
            .filter(|request| request.at >= from && request.at < to)
            .map(|request| request.took)
            .max()
            .unwrap_or_default()
    }

    /// Returns how long after that moment the first and the last write began that were answered
    /// before their rows were there.
    pub fn late_rows(&self, moment: Instant) -> Option<(Duration, Duration)> {
        let pending = self
            .observations()
            .filter(|request| request.outcome == Outcome::Pending)
            .map(|request| request.at.saturating_duration_since(moment));
        let times: Vec<Duration> = pending.collect();

        Some((*times.iter().min()?, *times.iter().max()?))
    }

    /// Returns the time within which that share of the reads that began between the two moments
    /// was answered.
    pub fn read_quantile(&self, share: f64, from: Instant, to: Instant) -> Duration {
        let mut times: Vec<Duration> = self
            .observations()
            .filter(|request| !request.is_write && request.at >= from && request.at < to)
            .map(|request| request.took)
            .collect();
        times.sort();

        let rank = (times.len() as f64 * share) as usize;
        times[rank.min(times.len() - 1)]
    }

    /// Returns how long after that moment the last request ended that was not served normally. The
    /// `others` are outcomes that are normal too.
    pub fn normal_after(&self, moment: Instant, others: &[Outcome]) -> Duration {
        let is_normal = |outcome: &Outcome| {
            *outcome == Outcome::Done
                || *outcome == Outcome::Refused("not_found".into())
                || others.contains(outcome)
        };

        self.observations()
            .filter(|request| !is_normal(&request.outcome))
            .map(|request| (request.at + request.took).saturating_duration_since(moment))
            .max()
            .unwrap_or_default()
    }

    /// Fails if any reply contradicted the model.
    #[track_caller]
    pub fn is_clean(&self) {
        let all: Vec<&String> = self
            .drivers
            .iter()
            .flat_map(|driver| &driver.violations)
            .collect();
        let first = &all[..all.len().min(10)];

        assert!(all.is_empty(), "{} violations: {first:#?}", all.len());
    }
}
