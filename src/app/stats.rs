//! What a worker counts of the requests it answers.

use crate::wire::{Code, Operation};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The longest time that is told apart, in microseconds: beyond any deadline.
const LONGEST_US: u64 = 120_000_000;
/// Quantiles are exact to two digits.
const DIGITS: u8 = 2;

/// Requests dropped before any work, without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropCounts {
    /// Requests without a reply subject.
    pub no_reply_subject: u64,
    /// Requests whose reply subject is not one to answer to.
    pub hostile_reply_subject: u64,
}

/// What a worker counts.
#[derive(Debug)]
pub struct Counters {
    answered: AtomicU64,
    pub(super) no_reply_subject: AtomicU64,
    pub(super) hostile_reply_subject: AtomicU64,
    pub(super) refused_for_load: AtomicU64,
    operations: [Mutex<OperationCounters>; Operation::ALL.len()],
}

/// What is counted of one operation.
#[derive(Debug, Default)]
struct OperationCounters {
    /// In microseconds, made with the first request.
    times: Option<Histogram<u64>>,
    requests: u64,
    total: Duration,
    refusals: Map<String, Value>,
    last: Option<Code>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            answered: AtomicU64::new(0),
            no_reply_subject: AtomicU64::new(0),
            hostile_reply_subject: AtomicU64::new(0),
            refused_for_load: AtomicU64::new(0),
            operations: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Counters {
    /// Replies sent.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Requests answered `overloaded` at once, because too many were under way.
    pub fn refused_for_load(&self) -> u64 {
        self.refused_for_load.load(Ordering::Relaxed)
    }

    /// Requests dropped before any work.
    pub fn dropped(&self) -> DropCounts {
        DropCounts {
            no_reply_subject: self.no_reply_subject.load(Ordering::Relaxed),
            hostile_reply_subject: self.hostile_reply_subject.load(Ordering::Relaxed),
        }
    }

    pub(super) fn sent(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A request of that operation was answered after that time, perhaps with a refusal.
    pub(super) fn note(&self, operation: Operation, took: Duration, refused: Option<Code>) {
        let mut counted = self.of(operation);
        counted.requests += 1;
        counted.total += took;
        if let Some(code) = refused {
            let seen = counted
                .refusals
                .get(code.as_str())
                .and_then(Value::as_u64)
                .unwrap_or_default();
            counted
                .refusals
                .insert(code.as_str().to_owned(), Value::from(seen + 1));
            counted.last = Some(code);
        }
        if counted.times.is_none() {
            counted.times = Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok();
        }
        if let Some(times) = &mut counted.times {
            times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST_US));
        }
    }

    /// The operation's part of the statistics (NATS ADR-32): times in nanoseconds, those below `data` in microseconds.
    pub(super) fn endpoint(&self, operation: Operation) -> Value {
        let counted = self.of(operation);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let average = counted
            .total
            .checked_div(u32::try_from(counted.requests).unwrap_or(u32::MAX));
        let quantile = |q: f64| {
            counted
                .times
                .as_ref()
                .map_or(0, |times| times.value_at_quantile(q))
        };
        json!({
            "num_requests": counted.requests,
            "num_errors": counted.refusals.values().filter_map(Value::as_u64).sum::<u64>(),
            "last_error": counted.last.map_or("", Code::as_str),
            "processing_time": nanos(counted.total),
            "average_processing_time": average.map_or(0, nanos),
            "data": {
                "latency_us": {
                    "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "max": quantile(1.0),
                },
                "refusals": counted.refusals,
            },
        })
    }

    fn of(&self, operation: Operation) -> std::sync::MutexGuard<'_, OperationCounters> {
        self.operations[operation as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_told() {
        let counters = Counters::default();
        assert_eq!(
            counters.endpoint(Operation::Put)["average_processing_time"],
            0
        );
        for ms in 1..=100 {
            counters.note(Operation::Put, Duration::from_millis(ms), None);
        }
        counters.note(
            Operation::Put,
            Duration::from_millis(1),
            Some(Code::NotFound),
        );
        let told = counters.endpoint(Operation::Put);
        assert_eq!(
            (told["num_requests"].as_u64(), told["num_errors"].as_u64()),
            (Some(101), Some(1))
        );
        assert_eq!(
            (&told["last_error"], &told["data"]["refusals"]["not_found"]),
            (&json!("not_found"), &json!(1))
        );
        let median = told["data"]["latency_us"]["p50"]
            .as_u64()
            .expect("a number");
        assert!((48_000..=52_000).contains(&median), "{median}");
        assert_eq!(counters.endpoint(Operation::Get)["num_requests"], 0);
    }
}
