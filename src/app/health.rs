//! A worker's health: healthy, or degraded or unhealthy with the reasons. A worker is unhealthy if
//! it hears no requests, or not all of them; otherwise it serves, and is never worse than degraded.

use super::connect::ConnectionEvents;
use super::connections::WorkerEvents;
use super::echo::Echo;
use super::process_use::ProcessUse;
use super::settings_status::SettingsStatus;
use super::since::{Beginnings, Reason};
use super::stats::Counters;
use crate::breaker::Breaker;
use crate::domain::Timestamp;
use crate::handler::Service;
use crate::shard::Refusal;
use crate::telemetry;
use crate::truth::{AccountFill, BucketFill};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How long the projection may be behind without a step before the worker counts as degraded.
const STALL_MAX: Duration = Duration::from_secs(2);
/// How often a worker looks at its own health, to know since when it lacks something.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// From how full on the bucket makes a worker degraded.
const FILL_WARNING_PERCENT: u64 = 80;

/// The sources of a worker's health and statistics.
#[derive(Clone)]
pub(super) struct Health {
    pub service: Service,
    pub counters: Arc<Counters>,
    pub events: WorkerEvents,
    pub echo: Echo,
    pub permits: Arc<Semaphore>,
    pub settings: SettingsStatus,
    pub beginnings: Beginnings,
    /// The prefix of the subjects of requests.
    pub prefix: String,
}

impl Health {
    /// Returns whether requests reach the worker.
    fn hears_requests(&self) -> bool {
        let state = self.events.front.state();
        let is_request = |subject: &String| {
            let rest = subject.strip_prefix(&self.prefix);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };

        !self.echo.is_silent() && !state.borrow().denied.iter().any(is_request)
    }

    /// Returns the worker's state in one word.
    fn state(&self, reasons: &[Reason]) -> &'static str {
        if !self.hears_requests() {
            "unhealthy"
        } else if reasons.is_empty() {
            "healthy"
        } else {
            "degraded"
        }
    }

    /// Keeps track of since when the worker lacks something, also while nobody asks. Never returns.
    pub async fn watch(self) {
        loop {
            self.beginnings.follow(&self.reasons(), Timestamp::now());
            sleep(WATCH_INTERVAL).await;
        }
    }

    /// Returns what the worker lacks: the part in one word, and what that means. Empty if it is
    /// healthy.
    fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut report = |part: &str, why: String| reasons.push((part.to_owned(), why));

        self.report_truth(&mut report);
        self.report_others(&mut report);
        self.report_connections(&mut report);

        reasons
    }

    fn report_truth(&self, report: &mut impl FnMut(&str, String)) {
        let owners = &self.service.owners;
        let truth = owners.truth();

        let lacks = [
            (
                truth.reading().is_open(),
                "the bucket does not answer reads: copies are served as stale",
            ),
            (
                truth.writing().is_open(),
                "the bucket does not answer writes: writes are refused",
            ),
            (
                owners.continuity().is_lost(),
                "the bucket has lost history: the log names the owners",
            ),
        ];
        for (is_lacking, why) in lacks {
            if is_lacking {
                report("truth", why.to_owned());
            }
        }

        let lost = owners.lost();
        if lost > 0 {
            let why = format!("the bucket lacks what this shard has of {lost} owners: see verify");
            report("truth", why);
        }

        if let Some(full_for) = truth.full_for() {
            let seconds = full_for.as_secs();
            report(
                "truth",
                format!("the bucket is full for {seconds} s: writes are refused"),
            );
        } else if let Some(why) = truth.fill().and_then(nearly_full) {
            report("truth", why);
        }
        if let Some(why) = truth.account_fill().and_then(account_nearly_full) {
            report("truth", why);
        }
    }

    fn report_others(&self, report: &mut impl FnMut(&str, String)) {
        let Service {
            owners,
            auth,
            limits,
            ..
        } = &self.service;

        if owners.postgres().is_open() || owners.postgres_writes().is_open() {
            report(
                "postgres",
                postgres_lacks(owners.postgres_refusal()).to_owned(),
            );
        }

        if auth.is_silent() {
            let why = "the auth service does not answer: only cached verdicts let callers in";
            report("auth", why.to_owned());
        }

        if let Some(error) = auth.key_error() {
            let why = format!("the former keys of the auth service are in force: {error}");
            report("auth", why);
        }

        if let Some(behind) = owners.behind().filter(|behind| *behind >= STALL_MAX) {
            let why = format!("the projection has not moved for {} s", behind.as_secs());
            report("projection", why);
        }

        for problem in limits.payload_problems() {
            report("limits", problem);
        }

        if let Some(why) = self.settings.reason() {
            report("settings", why);
        }
    }

    fn report_connections(&self, report: &mut impl FnMut(&str, String)) {
        for subject in &self.events.front.state().borrow().denied {
            let why = format!("the NATS server does not let nats.front subscribe to {subject}");
            report("front", why);
        }

        if self.echo.is_silent() {
            let why = "the connection to the callers' server carries no messages";
            report("front", why.to_owned());
        }

        for (role, refused) in self.events.refused() {
            let role = role.name();
            let why = format!("the NATS server has refused something to nats.{role}: {refused}");
            report("rights", why);
        }
    }

    /// Returns the worker's own part of the statistics: the object below `data`.
    pub fn to_json(&self) -> Value {
        let Service { owners, shard, .. } = &self.service;
        let cache = owners.cache();
        let reasons = self.reasons();

        json!({
            "shard": shard,
            "state": self.state(&reasons),
            "reasons": self.with_beginnings(&reasons),
            "requests": self.requests(),
            "nats": self.nats(),
            "settings": {"reloads": self.settings.reloads()},
            "cache": {
                "owners": cache.owners,
                "bytes": cache.bytes,
                "hits": cache.hits,
                "misses": cache.misses,
            },
            "auth": self.auth(),
            "reference": self.reference(),
            "truth": self.truth(),
            "postgres": {
                "breaker": breaker(owners.postgres()),
                "writes": breaker(owners.postgres_writes()),
                "hosted": owners.hosted(),
            },
            "projection": self.projection(),
            "log": {"dropped": telemetry::dropped_lines()},
            "tasks": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            "process": process(),
        })
    }

    /// Returns the reasons, each with the moment since when it has been there.
    fn with_beginnings(&self, reasons: &[Reason]) -> Vec<Value> {
        let beginnings = self.beginnings.follow(reasons, Timestamp::now());

        reasons
            .iter()
            .zip(beginnings)
            .map(|((part, why), since)| {
                let since = since.to_rfc3339();
                json!({"part": part, "why": why, "since": since})
            })
            .collect()
    }

    fn requests(&self) -> Value {
        let dropped = self.counters.dropped();
        let front = self.events.front.counters();
        let limit = self.service.limits.current().in_flight;

        json!({
            "answered": self.counters.answered(),
            "in_flight": limit.saturating_sub(self.permits.available_permits()),
            "in_flight_max": limit,
            "refused_for_load": self.counters.refused_for_load(),
            "dropped_without_reply_subject": dropped.no_reply_subject,
            "dropped_for_hostile_reply_subject": dropped.hostile_reply_subject,
            "lost_to_full_queues": front.dropped(),
            "replies_refused_by_the_server": front.refused_replies(),
        })
    }

    fn nats(&self) -> Value {
        json!({
            "connected": self.events.front.is_connected(),
            "connections": self.events.front.state().borrow().connections,
            "auth": connection(&self.events.auth),
            "truth": connection(&self.events.truth),
        })
    }

    fn auth(&self) -> Value {
        let auth = &self.service.auth;
        let counts = auth.counts();

        json!({
            "breaker": breaker(auth.breaker()),
            "asked": counts.asked,
            "hits": counts.hits,
            "kept": counts.kept,
            "revocations": counts.revocations,
            "forged_revocations": counts.forged_revocations,
            "key_reloads": counts.key_reloads,
            "keys_current": auth.key_error().is_none(),
        })
    }

    /// Null if the settings name no reference service.
    fn reference(&self) -> Value {
        let Some(reference) = &self.service.reference else {
            return Value::Null;
        };
        let counts = reference.counts();

        json!({
            "breaker": breaker(reference.breaker()),
            "asked": counts.asked,
            "hits": counts.hits,
            "kept": counts.kept,
            "silent": counts.silent,
        })
    }

    fn truth(&self) -> Value {
        let owners = &self.service.owners;
        let truth = owners.truth();
        let continuity = owners.continuity();
        let fill = truth.fill();
        let account = truth.account_fill();

        json!({
            "reads": breaker(truth.reading()),
            "writes": breaker(truth.writing()),
            "newest": continuity.newest(),
            "newest_age_ms": continuity.newest_age().map(|age| age.as_millis() as u64),
            "history": if continuity.is_lost() { "lost" } else { "whole" },
            "lost_owners": owners.lost(),
            "records": fill.map(|fill| fill.records),
            "bytes": fill.map(|fill| fill.bytes),
            "bytes_max": fill.and_then(|fill| fill.bytes_max),
            "account_bytes": account.map(|account| account.bytes),
            "account_bytes_max": account.and_then(|account| account.bytes_max),
        })
    }

    fn projection(&self) -> Value {
        let owners = &self.service.owners;
        let sequence = owners.cursor().sequence();

        json!({
            "here": owners.projects(),
            "sequence": sequence,
            "lag": owners.continuity().newest().saturating_sub(sequence),
        })
    }
}

/// Returns what it means that Postgres cannot be used as it should, for that reason.
fn postgres_lacks(refusal: Option<Refusal>) -> &'static str {
    match refusal {
        None => "Postgres does not answer: owners are read from the bucket",
        Some(Refusal::Login) => {
            "Postgres does not accept the user or the password of postgres.url: owners are read \
             from the bucket"
        }
        Some(Refusal::NoDatabase) => {
            "Postgres has no database of the name in postgres.url: owners are read from the bucket"
        }
        Some(Refusal::ReadOnly) => {
            "Postgres is read-only: no rows are stored until it takes writes again"
        }
    }
}

/// Returns how full the bucket is, if that is worth a warning, and what it no longer takes.
fn nearly_full(fill: BucketFill) -> Option<String> {
    let percent = fill
        .percent()
        .filter(|percent| *percent >= FILL_WARNING_PERCENT)?;
    let taken = if fill.is_in_reserve() {
        ": only deletions are taken"
    } else {
        ""
    };

    Some(format!(
        "the bucket has {percent} % of the bytes that it may have{taken}"
    ))
}

/// Returns how much of its storage the bucket's account uses, if that is worth a warning.
fn account_nearly_full(fill: AccountFill) -> Option<String> {
    let percent = fill
        .percent()
        .filter(|percent| *percent >= FILL_WARNING_PERCENT)?;

    Some(format!(
        "the bucket's account uses {percent} % of the storage that it may use: the account's limit"
    ))
}

/// What the process uses. Null where the operating system does not tell.
fn process() -> Value {
    let used = ProcessUse::now();

    json!({
        "cpu_ms": used.cpu.map(|cpu| cpu.as_millis() as u64),
        "memory_bytes": used.memory_bytes,
        "open_files": used.open_files,
    })
}

fn breaker(breaker: &Breaker) -> Value {
    let state = if breaker.is_open() { "open" } else { "closed" };
    json!({"state": state, "opened": breaker.opened()})
}

fn connection(events: &ConnectionEvents) -> Value {
    json!({
        "connected": events.is_up.load(Ordering::Relaxed),
        "connections": events.connected.load(Ordering::Relaxed),
        "lost_to_full_queues": events.overflowed.load(Ordering::Relaxed),
    })
}
