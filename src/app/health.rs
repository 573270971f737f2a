//! A worker's health: healthy, or degraded with the reasons. A worker that answers at all is never
//! worse than degraded.

use super::connect::ConnectionEvents;
use super::connections::WorkerEvents;
use super::echo::Echo;
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
}

impl Health {
    /// What the worker lacks: the part in one word, and what that means. Empty if it is healthy.
    fn reasons(&self) -> Vec<Value> {
        let Service {
            owners,
            auth,
            limits,
            ..
        } = &self.service;
        let truth = owners.truth();
        let reason = |part: &str, why: String| json!({"part": part, "why": why});
        let mut reasons = Vec::new();

        if truth.reading().is_open() {
            reasons.push(reason(
                "truth",
                "the bucket does not answer reads: copies are served as stale".into(),
            ));
        }

        if truth.writing().is_open() {
            reasons.push(reason(
                "truth",
                "the bucket does not answer writes: writes are refused".into(),
            ));
        }

        if owners.continuity().is_lost() {
            reasons.push(reason(
                "truth",
                "the bucket has lost history: the log names the owners".into(),
            ));
        }

        if owners.postgres().is_open() {
            reasons.push(reason(
                "postgres",
                "Postgres does not answer: owners are read from the bucket".into(),
            ));
        }

        if auth.breaker().is_open() {
            reasons.push(reason(
                "auth",
                "the auth service does not answer: only cached verdicts let callers in".into(),
            ));
        }

        if let Some(error) = auth.key_error() {
            reasons.push(reason(
                "auth",
                format!("the former keys of the auth service are in force: {error}"),
            ));
        }

        if let Some(behind) = owners.behind().filter(|behind| *behind >= STALL_MAX) {
            reasons.push(reason(
                "projection",
                format!("the projection has not moved for {} s", behind.as_secs()),
            ));
        }

        for problem in limits.payload_problems() {
            reasons.push(reason("limits", problem));
        }

        for subject in &self.events.front.state().borrow().denied {
            reasons.push(reason(
                "front",
                format!("the NATS server does not let nats.front subscribe to {subject}"),
            ));
        }

        if self.echo.is_silent() {
            reasons.push(reason(
                "front",
                "the connection to the callers' server carries no messages".into(),
            ));
        }

        for (role, refused) in self.events.refused() {
            let role = role.name();
            reasons.push(reason(
                "rights",
                format!("the NATS server has refused something to nats.{role}: {refused}"),
            ));
        }

        reasons
    }

    /// The worker's own part of the statistics: the object below `data`.
    pub fn to_json(&self) -> Value {
        let Service {
            owners,
            auth,
            limits,
            shard,
            ..
        } = &self.service;
        let truth = owners.truth();
        let counts = auth.counts();
        let cache = owners.cache();
        let sequence = owners.cursor().sequence();
        let newest = owners.continuity().newest();
        let dropped = self.counters.dropped();
        let reasons = self.reasons();
        let in_flight = limits
            .current()
            .in_flight
            .saturating_sub(self.permits.available_permits());

        json!({
            "shard": shard,
            "state": if reasons.is_empty() { "healthy" } else { "degraded" },
            "reasons": reasons,
            "requests": {
                "answered": self.counters.answered(),
                "in_flight": in_flight,
                "refused_for_load": self.counters.refused_for_load(),
                "dropped_without_reply_subject": dropped.no_reply_subject,
                "dropped_for_hostile_reply_subject": dropped.hostile_reply_subject,
                "lost_to_full_queues": self.events.front.counters().dropped(),
                "replies_refused_by_the_server": self.events.front.counters().refused_replies(),
            },
            "nats": {
                "connected": self.events.front.is_connected(),
                "connections": self.events.front.state().borrow().connections,
                "auth": connection(&self.events.auth),
                "truth": connection(&self.events.truth),
            },
            "cache": {
                "owners": cache.owners,
                "bytes": cache.bytes,
                "hits": cache.hits,
                "misses": cache.misses,
            },
            "auth": {
                "breaker": breaker(auth.breaker()),
                "asked": counts.asked,
                "hits": counts.hits,
                "kept": counts.kept,
                "revocations": counts.revocations,
                "forged_revocations": counts.forged_revocations,
                "key_reloads": counts.key_reloads,
            },
            "truth": {
                "reads": breaker(truth.reading()),
                "writes": breaker(truth.writing()),
                "newest": newest,
                "newest_age_ms": owners.continuity().newest_age().map(|age| age.as_millis() as u64),
                "history": if owners.continuity().is_lost() { "lost" } else { "whole" },
            },
            "postgres": {"breaker": breaker(owners.postgres()), "hosted": owners.hosted()},
            "projection": {
                "here": owners.projects(),
                "sequence": sequence,
                "lag": newest.saturating_sub(sequence),
            },
            "tasks": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
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
