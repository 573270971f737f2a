//! A load of mixed requests, each answer of which is checked against a model of what was acknowledged.
//!
//! Each driver has an owner of its own and asks one thing after the other, so the model is exact. A write whose outcome
//! is not known is asked again under its request id until it is, and has to have been done exactly once.

use super::caller::Caller;
use super::world::World;
use gofavorites::seal::random;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long a caller waits, as it tells the service.
pub const BUDGET: Duration = Duration::from_millis(1_500);
/// What may be added to that by a busy machine.
const SLACK: Duration = Duration::from_millis(250);
/// Items of each owner.
const ITEMS: u64 = 6;

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    /// Done, and its row is not yet in the shard's Postgres.
    Pending,
    /// Answered from a copy that could not be checked.
    Stale,
    /// Refused with that code.
    Refused(String),
    /// No worker was there, or none answered.
    NoReply,
}

/// One request, as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub took: Duration,
    pub is_write: bool,
    pub outcome: Outcome,
}

/// What the model knows of an item.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The last acknowledged version and its text; no text once it is deleted.
    version: u64,
    text: Option<String>,
    /// Every version that was ever acknowledged.
    all: BTreeSet<u64>,
}

/// One owner, and who asks for them.
struct Driver {
    caller: Caller,
    /// Where it asks: `a.`, `b.`, or the nearest worker.
    places: Vec<String>,
    may_lose_replies: bool,
    only_strong: bool,
    model: BTreeMap<String, Known>,
    owner_version: u64,
    seen: Vec<Seen>,
    violations: Vec<String>,
    next: u64,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    drivers: Vec<JoinHandle<Driver>>,
}

/// What came of a load.
pub struct Report {
    drivers: Vec<Driver>,
}

impl Load {
    /// `count` drivers, each with an owner of its own, asking in those places: a shard's id, or "" for the nearest worker.
    pub async fn start(
        world: &World,
        places: &[&str],
        count: usize,
        may_lose_replies: bool,
    ) -> Self {
        Self::of(
            callers(world, &world.nats.url(), count).await,
            places,
            may_lose_replies,
        )
    }

    /// As [`start`](Self::start), where the bucket has replicas: one of them may be behind, so only strong reads are sure
    /// to give what was acknowledged, and no others are made.
    pub async fn start_strong(world: &World, places: &[&str], count: usize) -> Self {
        Self::with_reads(
            callers(world, &world.nats.url(), count).await,
            places,
            true,
            true,
        )
    }

    /// As [`start`](Self::start), with callers who are connected to another server.
    pub async fn start_at(world: &World, url: &str, places: &[&str], count: usize) -> Self {
        Self::of(callers(world, url, count).await, places, false)
    }

    /// A driver for each of these callers, whose owners nobody else writes.
    pub fn of(callers: Vec<Caller>, places: &[&str], may_lose_replies: bool) -> Self {
        Self::with_reads(callers, places, may_lose_replies, false)
    }

    fn with_reads(
        callers: Vec<Caller>,
        places: &[&str],
        may_lose_replies: bool,
        only_strong: bool,
    ) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut drivers = Vec::new();
        for caller in callers {
            drivers.push(Driver {
                caller,
                places: places.iter().map(|one| (*one).to_owned()).collect(),
                may_lose_replies,
                only_strong,
                model: BTreeMap::new(),
                owner_version: 0,
                seen: Vec::new(),
                violations: Vec::new(),
                next: 0,
            });
        }
        let drivers = drivers
            .into_iter()
            .map(|driver| tokio::spawn(driver.drive(stop.clone(), done.clone())))
            .collect();
        Self {
            stop,
            done,
            drivers,
        }
    }

    /// How many requests were answered well so far.
    pub fn answered(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits until so many more requests are answered well.
    pub async fn progress(&self, more: u64) {
        let until = self.done.load(Ordering::SeqCst) + more;
        for _ in 0..6_000 {
            if self.done.load(Ordering::SeqCst) >= until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the load does not go on");
    }

    /// Ends it, and gives what was seen.
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
        callers.push(
            world
                .caller_at(url, &format!("load-{number}-{}", uuid::Uuid::now_v7()))
                .await,
        );
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

fn pick(most: usize) -> usize {
    usize::from(u16::from_be_bytes(random::<2>())) % most
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
            if matches!(
                self.seen.last(),
                Some(Seen {
                    outcome: Outcome::Done | Outcome::Pending,
                    ..
                })
            ) {
                done.fetch_add(1, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self
    }

    /// Asks once; `None` if no reply came.
    async fn ask(
        &mut self,
        operation: &str,
        body: &Value,
        request_id: Option<&str>,
        is_write: bool,
    ) -> Option<Value> {
        let place = self.places[pick(self.places.len())].clone();
        let mut headers = self.caller.headers();
        headers.insert("Request-Timeout-Ms", BUDGET.as_millis().to_string());
        if let Some(id) = request_id {
            headers.insert("Nats-Msg-Id", id);
        }
        let at = Instant::now();
        let asked = self.caller.client.request_with_headers(
            subject(&place, operation),
            headers,
            body.to_string().into(),
        );
        let asked = tokio::time::timeout(BUDGET + SLACK * 2, asked).await;
        let took = at.elapsed();
        let reply = match asked {
            Ok(Ok(reply)) => serde_json::from_slice::<Value>(&reply.payload).ok(),
            _ => None,
        };
        let outcome = match &reply {
            None => Outcome::NoReply,
            Some(reply) if reply["error"].is_object() => {
                let code = reply["error"]["code"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if code == "internal" {
                    self.violations
                        .push(format!("{operation} was answered `internal`"));
                }
                Outcome::Refused(code)
            }
            Some(reply) if reply["stale"] == true => Outcome::Stale,
            Some(reply) if reply["local"] == "pending" => Outcome::Pending,
            Some(_) => Outcome::Done,
        };
        if took > BUDGET + SLACK && !self.may_lose_replies {
            self.violations
                .push(format!("{operation} took {took:?}: {outcome:?}"));
        }
        self.seen.push(Seen {
            at,
            took,
            is_write,
            outcome,
        });
        reply
    }

    async fn put(&mut self) {
        self.next += 1;
        let (id, text) = (
            format!("item-{}", self.next % ITEMS),
            format!("a-favourite-text-{}", self.next),
        );
        let mut body = json!({"kind": "text", "id": id, "data": {"text": text}});
        if pick(2) == 0 {
            // The version that it has: 0 for one that is not there.
            let known = self.model.get(&id).filter(|known| known.text.is_some());
            body["if_version"] = json!(known.map_or(0, |known| known.version));
        }
        self.write("put", &id, Some(text), &body).await;
    }

    async fn delete(&mut self) {
        let living = self
            .model
            .iter()
            .find(|(_, known)| known.text.is_some())
            .map(|(id, _)| id.clone());
        let Some(id) = living else { return };
        self.write("delete", &id, None, &json!({"kind": "text", "id": id}))
            .await;
    }

    async fn write(&mut self, operation: &str, id: &str, text: Option<String>, body: &Value) {
        let request_id = uuid::Uuid::now_v7().to_string();
        let mut in_doubt = false;
        for _ in 0..2_000 {
            let reply = self.ask(operation, body, Some(&request_id), true).await;
            let code = reply
                .as_ref()
                .and_then(|reply| reply["error"]["code"].as_str());
            if let Some(reply) = reply.as_ref().filter(|_| code.is_none()) {
                let version = reply["item"]["version"].as_u64().expect("a version");
                if in_doubt {
                    self.must_be_the_same(operation, body, &request_id, version)
                        .await;
                }
                return self.acknowledged(id, text, version);
            }
            match code {
                None | Some("in_doubt") => in_doubt = true,
                // Nothing was written, by this attempt.
                Some(
                    "truth_unavailable" | "auth_unavailable" | "overloaded" | "deadline_exceeded",
                ) if !in_doubt => {
                    return;
                }
                Some(
                    "truth_unavailable" | "auth_unavailable" | "overloaded" | "deadline_exceeded",
                ) => {}
                Some(other) => {
                    return self
                        .violations
                        .push(format!("{operation} was refused as {other}"));
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.violations
            .push(format!("{operation} in doubt was never settled"));
    }

    /// Asked once more under the same request id, it is the same write.
    async fn must_be_the_same(
        &mut self,
        operation: &str,
        body: &Value,
        request_id: &str,
        version: u64,
    ) {
        let Some(again) = self.ask(operation, body, Some(request_id), true).await else {
            return;
        };
        let found = &again["item"]["version"];
        if again["error"].is_null() && *found != version {
            self.violations.push(format!(
                "{operation} was done twice: at {version} and at {found}"
            ));
        }
    }

    fn acknowledged(&mut self, id: &str, text: Option<String>, version: u64) {
        let known = self.model.entry(id.to_owned()).or_default();
        if version <= known.version {
            self.violations.push(format!(
                "a write was given version {version} after {}",
                known.version
            ));
        }
        known.all.insert(version);
        (known.version, known.text) = (version, text);
        self.owner_version = self.owner_version.max(version);
    }

    async fn get(&mut self) {
        let id = format!("item-{}", pick(ITEMS as usize));
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
                if self
                    .model
                    .get(&id)
                    .is_some_and(|known| known.text.is_some())
                {
                    self.violations
                        .push("an acknowledged item is not found".into());
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
        let living = self
            .model
            .values()
            .filter(|known| known.text.is_some())
            .count();
        if items.len() != living {
            self.violations.push(format!(
                "{} items are listed, and {living} were acknowledged",
                items.len()
            ));
        }
        let owner_version = reply["owner_version"].as_u64().unwrap_or_default();
        if owner_version < self.owner_version {
            self.violations.push(format!(
                "the owner's version went from {} to {owner_version}",
                self.owner_version
            ));
        }
        self.owner_version = self.owner_version.max(owner_version);
    }

    fn check_item(&mut self, id: &str, item: &Value, stale: bool) {
        let known = self.model.get(id).cloned().unwrap_or_default();
        let version = item["version"].as_u64().unwrap_or_default();
        let fine = match stale {
            true => known.all.contains(&version),
            false => {
                version == known.version && item["data"]["text"].as_str() == known.text.as_deref()
            }
        };
        if !fine {
            let how = if stale { "a stale" } else { "a fresh" };
            self.violations.push(format!(
                "{how} read gave version {version}, acknowledged is {}",
                known.version
            ));
        }
    }
}

impl Report {
    /// Reads every owner on each of the shards with everything acknowledged, and compares with the model.
    pub async fn verify(&mut self, shards: &[&str]) {
        for driver in &mut self.drivers {
            for shard in shards {
                driver.places = vec![(*shard).to_owned()];
                let body = json!({"limit": 500, "consistency": "strong"});
                let reply = driver
                    .ask("list", &body, None, false)
                    .await
                    .unwrap_or_default();
                if reply["items"].is_array() && reply["stale"].is_null() {
                    driver.check_list(&reply);
                } else {
                    driver.violations.push(format!(
                        "in the end shard {shard} does not list: {:?}",
                        reply["error"]["code"]
                    ));
                }
            }
        }
    }

    fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.drivers.iter().flat_map(|driver| &driver.seen)
    }

    /// The version of each item that was acknowledged last.
    pub fn versions(&self) -> BTreeSet<u64> {
        let known = self.drivers.iter().flat_map(|driver| driver.model.values());
        known
            .map(|known| known.version)
            .filter(|version| *version > 0)
            .collect()
    }

    /// How many requests came to what: the writes, then the reads.
    pub fn counts(&self) -> [BTreeMap<Outcome, usize>; 2] {
        let mut counts = [BTreeMap::new(), BTreeMap::new()];
        for seen in self.seen() {
            *counts[usize::from(!seen.is_write)]
                .entry(seen.outcome.clone())
                .or_default() += 1;
        }
        counts
    }

    /// Every outcome has to be one of these, of writes and of reads, beside `Done` and `not_found`.
    pub fn only(&self, codes: &[&str], others: &[Outcome]) {
        for seen in self.seen() {
            let fine = match &seen.outcome {
                Outcome::Done => true,
                Outcome::Refused(code) => code == "not_found" || codes.contains(&code.as_str()),
                other => others.contains(other),
            };
            assert!(fine, "{:?} after {:?}", seen.outcome, seen.took);
        }
    }

    /// The slowest of the requests begun between the two moments.
    pub fn slowest(&self, from: Instant, to: Instant) -> Duration {
        let within = self.seen().filter(|seen| seen.at >= from && seen.at < to);
        within.map(|seen| seen.took).max().unwrap_or_default()
    }

    /// The slowest of the reads begun between the two moments.
    pub fn slowest_read(&self, from: Instant, to: Instant) -> Duration {
        let within = self
            .seen()
            .filter(|seen| !seen.is_write && seen.at >= from && seen.at < to);
        within.map(|seen| seen.took).max().unwrap_or_default()
    }

    /// How long after that moment the last request ended that was not served normally.
    pub fn normal_after(&self, moment: Instant) -> Duration {
        let normal = |outcome: &Outcome| {
            *outcome == Outcome::Done
                || matches!(outcome, Outcome::Refused(code) if code == "not_found")
        };
        let bad = self.seen().filter(|seen| !normal(&seen.outcome));
        bad.map(|seen| (seen.at + seen.took).saturating_duration_since(moment))
            .max()
            .unwrap_or_default()
    }

    /// Nothing was wrong.
    #[track_caller]
    pub fn is_clean(&self) {
        let all: Vec<&String> = self
            .drivers
            .iter()
            .flat_map(|driver| &driver.violations)
            .collect();
        assert!(
            all.is_empty(),
            "{} violations, as: {:#?}",
            all.len(),
            &all[..all.len().min(10)]
        );
    }
}
