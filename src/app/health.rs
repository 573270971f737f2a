//! A worker's health: healthy, or degraded or unhealthy with the reasons. A worker is unhealthy if
//! it hears no requests, or not all of them; otherwise it serves, and is never worse than degraded.

use super::connect::ConnectionEvents;
use super::connections::WorkerEvents;
use super::echo::Echo;
use super::settings_status::SettingsStatus;
use super::stats::Counters;
use crate::breaker::Breaker;
use crate::handler::Service;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long the projection may be behind without a step before the worker counts as degraded.
const STALL_MAX: Duration = Duration::from_secs(2);

/// The sources of a worker's health and statistics.
#[derive(Clone)]
pub(super) struct Health {
    pub service: Service,
    pub counters: Arc<Counters>,
    pub events: WorkerEvents,
    pub echo: Echo,
    pub permits: Arc<Semaphore>,
    pub settings: SettingsStatus,
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
    fn state(&self, reasons: &[Value]) -> &'static str {
        if !self.hears_requests() {
            "unhealthy"
        } else if reasons.is_empty() {
            "healthy"
        } else {
            "degraded"
        }
    }

    /// Returns what the worker lacks: the part in one word, and what that means. Empty if it is
    /// healthy.
    fn reasons(&self) -> Vec<Value> {
        let mut reasons = Vec::new();
        let mut report = |part: &str, why: String| reasons.push(json!({"part": part, "why": why}));

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
    }

    fn report_others(&self, report: &mut impl FnMut(&str, String)) {
        let Service {
            owners,
            auth,
            limits,
            ..
        } = &self.service;

        if owners.postgres().is_open() {
            let why = "Postgres does not answer: owners are read from the bucket";
            report("postgres", why.to_owned());
        }

        if auth.breaker().is_open() {
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
            "reasons": reasons,
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
            "postgres": {"breaker": breaker(owners.postgres()), "hosted": owners.hosted()},
            "projection": self.projection(),
            "tasks": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        })
    }

    fn requests(&self) -> Value {
        let dropped = self.counters.dropped();
        let front = self.events.front.counters();
        let limit = self.service.limits.current().in_flight;

        json!({
            "answered": self.counters.answered(),
            "in_flight": limit.saturating_sub(self.permits.available_permits()),
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

        json!({
            "reads": breaker(truth.reading()),
            "writes": breaker(truth.writing()),
            "newest": continuity.newest(),
            "newest_age_ms": continuity.newest_age().map(|age| age.as_millis() as u64),
            "history": if continuity.is_lost() { "lost" } else { "whole" },
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
