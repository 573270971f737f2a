//! The counters of a worker's requests.

use crate::wire::{Code, Operation};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The longest time that the histogram distinguishes, in microseconds: beyond any deadline.
const TIME_MAX_US: u64 = 120_000_000;
/// The upper bounds of the buckets into which the statistics sort the times, in microseconds.
/// They are close together where most requests end, so that a quantile between two is known well.
const BUCKETS_US: [u64; 24] = [
    100, 160, 250, 400, 630, 1_000, 1_600, 2_500, 4_000, 6_300, 10_000, 16_000, 25_000, 40_000,
    63_000, 100_000, 160_000, 250_000, 400_000, 630_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];
/// The precision of quantiles, in significant digits.
const PRECISION_DIGITS: u8 = 2;

/// Requests dropped before any work, without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropCounts {
    /// Requests without a reply subject.
    pub no_reply_subject: u64,
    /// Requests whose reply subject is not admitted.
    pub hostile_reply_subject: u64,
}

/// The counters of a worker.
#[derive(Debug)]
pub struct Counters {
    answered: AtomicU64,
    pub(super) no_reply_subject: AtomicU64,
    pub(super) hostile_reply_subject: AtomicU64,
    pub(super) refused_for_load: AtomicU64,
    operations: [Mutex<OperationCounters>; Operation::ALL.len()],
}

/// The counters of one operation.
#[derive(Debug, Default)]
struct OperationCounters {
    /// In microseconds. Created with the first request.
    times: Option<Histogram<u64>>,
    /// The requests that took at most the bound of that place in [`BUCKETS_US`], and longer than
    /// the bound before it.
    buckets: [u64; BUCKETS_US.len()],
    requests: u64,
    total: Duration,
    refusals: Map<String, Value>,
    last_refusal: Option<Code>,
}

impl OperationCounters {
    /// Returns each bound with the number of requests that took no longer, in microseconds. The
    /// number of all requests stands elsewhere.
    fn cumulative(&self) -> Vec<(u64, u64)> {
        let counts = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });

        BUCKETS_US.into_iter().zip(counts).collect()
    }
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
    /// How many replies were sent.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many requests were answered `overloaded` at once, because too many were under way.
    pub fn refused_for_load(&self) -> u64 {
        self.refused_for_load.load(Ordering::Relaxed)
    }

    /// How many requests were dropped before any work.
    pub fn dropped(&self) -> DropCounts {
        DropCounts {
            no_reply_subject: self.no_reply_subject.load(Ordering::Relaxed),
            hostile_reply_subject: self.hostile_reply_subject.load(Ordering::Relaxed),
        }
    }

    /// Counts a reply that was sent.
    pub(super) fn record_reply(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answered request, with the time that it took and the code if it was refused.
    pub(super) fn record_request(
        &self,
        operation: Operation,
        took: Duration,
        refused: Option<Code>,
    ) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < took_us);

        let mut counters = self.of(operation);
        counters.requests += 1;
        counters.total += took;
        if let Some(count) = counters.buckets.get_mut(bucket) {
            *count += 1;
        }

        if let Some(code) = refused {
            let count = counters
                .refusals
                .get(code.as_str())
                .and_then(Value::as_u64)
                .unwrap_or_default();
            counters
                .refusals
                .insert(code.as_str().to_owned(), Value::from(count + 1));
            counters.last_refusal = Some(code);
        }

        if counters.times.is_none() {
            counters.times = Histogram::new_with_bounds(1, TIME_MAX_US, PRECISION_DIGITS).ok();
        }
        if let Some(times) = &mut counters.times {
            times.saturating_record(took_us.min(TIME_MAX_US));
        }
    }

    /// The operation's part of the statistics (NATS ADR-32). Times are in nanoseconds, those below
    /// `data` in microseconds.
    pub(super) fn endpoint(&self, operation: Operation) -> Value {
        let counters = self.of(operation);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let average = counters
            .total
            .checked_div(u32::try_from(counters.requests).unwrap_or(u32::MAX));
        let quantile = |q: f64| {
            counters
                .times
                .as_ref()
                .map_or(0, |times| times.value_at_quantile(q))
        };

        json!({
            "num_requests": counters.requests,
            "num_errors": counters.refusals.values().filter_map(Value::as_u64).sum::<u64>(),
            "last_error": counters.last_refusal.map_or("", Code::as_str),
            "processing_time": nanos(counters.total),
            "average_processing_time": average.map_or(0, nanos),
            "data": {
                "latency_us": {
                    "p50": quantile(0.5),
                    "p90": quantile(0.9),
                    "p99": quantile(0.99),
                    "max": quantile(1.0),
                },
                "buckets_us": counters.cumulative(),
                "refusals": counters.refusals,
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
    fn the_statistics_show_every_recorded_request() {
        let counters = Counters::default();
        for ms in 1..=100 {
            counters.record_request(Operation::Put, Duration::from_millis(ms), None);
        }
        let refused = Some(Code::NotFound);
        counters.record_request(Operation::Put, Duration::from_millis(1), refused);

        let statistics = counters.endpoint(Operation::Put);

        assert_eq!(statistics["num_requests"], 101);
        assert_eq!(statistics["num_errors"], 1);
        assert_eq!(statistics["last_error"], "not_found");
        assert_eq!(statistics["data"]["refusals"]["not_found"], 1);
        let median = statistics["data"]["latency_us"]["p50"]
            .as_u64()
            .expect("a number");
        assert!((48_000..=52_000).contains(&median), "{median}");
    }

    #[test]
    fn each_bucket_counts_the_requests_that_took_no_longer() {
        let counters = Counters::default();
        for us in [100, 101, 11_000_000] {
            counters.record_request(Operation::Get, Duration::from_micros(us), None);
        }

        let statistics = counters.endpoint(Operation::Get);

        let buckets = &statistics["data"]["buckets_us"];
        assert_eq!(buckets[0], json!([100, 1]));
        assert_eq!(buckets[1], json!([160, 2]));
        assert_eq!(buckets[BUCKETS_US.len() - 1], json!([10_000_000, 2]));
        assert_eq!(statistics["num_requests"], 3);
    }

    #[test]
    fn an_operation_without_requests_has_an_average_of_zero() {
        let statistics = Counters::default().endpoint(Operation::Get);

        assert_eq!(statistics["num_requests"], 0);
        assert_eq!(statistics["average_processing_time"], 0);
    }
}
