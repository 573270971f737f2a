//! What became of the requests of a run.

use super::latencies::Latencies;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was done.
    Answered,
    /// The service refused it, with that code.
    Refused(String),
    /// No reply came.
    Unanswered(&'static str),
}

/// The requests of one operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// How long those took that were done.
    pub latencies: Latencies,
    /// How many were refused, by code.
    pub refused: BTreeMap<String, u64>,
    /// How many got no reply, by cause.
    pub unanswered: BTreeMap<&'static str, u64>,
}

/// The requests of a run, by operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub operations: BTreeMap<&'static str, Counts>,
}

impl Counts {
    fn record(&mut self, end: End, latency: Duration) {
        match end {
            End::Answered => self.latencies.record(latency),
            End::Refused(code) => *self.refused.entry(code).or_default() += 1,
            End::Unanswered(cause) => *self.unanswered.entry(cause).or_default() += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        for (code, count) in &other.refused {
            *self.refused.entry(code.clone()).or_default() += count;
        }
        for (cause, count) in &other.unanswered {
            *self.unanswered.entry(cause).or_default() += count;
        }
    }

    /// How many were done.
    pub fn answered(&self) -> u64 {
        self.latencies.count()
    }

    /// How many there were.
    pub fn requests(&self) -> u64 {
        self.answered() + self.refusals() + self.unanswered.values().sum::<u64>()
    }

    /// How many were refused.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Returns them as the JSON output has them, over that time.
    pub fn to_json(&self, took: Duration) -> Value {
        json!({
            "requests": self.requests(),
            "answered": self.answered(),
            "per_second": per_second(self.answered(), took),
            "latency_us": self.latencies.to_json(),
            "refused": self.refused,
            "unanswered": self.unanswered,
        })
    }
}

impl Tally {
    /// Takes note of a request.
    pub fn record(&mut self, operation: &'static str, end: End, latency: Duration) {
        self.operations
            .entry(operation)
            .or_default()
            .record(end, latency);
    }

    /// Returns the requests of all operations together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counts in self.operations.values() {
            total.add(counts);
        }

        total
    }
}

/// Returns how many there were a second, to a tenth.
pub(super) fn per_second(count: u64, took: Duration) -> f64 {
    let seconds = took.as_secs_f64();
    if seconds <= 0.0 {
        return 0.0;
    }

    (count as f64 / seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_code_and_have_no_latency() {
        let mut tally = Tally::default();
        tally.record("get", End::Answered, Duration::from_millis(2));
        tally.record("put", End::Answered, Duration::from_millis(4));
        for _ in 0..2 {
            let refused = End::Refused("overloaded".into());
            tally.record("put", refused, Duration::from_secs(1));
        }
        tally.record("put", End::Unanswered("no_reply"), Duration::from_secs(9));

        let total = tally.total();

        assert_eq!(
            (total.requests(), total.answered(), total.refusals()),
            (5, 2, 2)
        );
        let json = total.to_json(Duration::from_secs(2));
        assert_eq!(json["refused"], json!({"overloaded": 2}));
        assert_eq!(json["unanswered"], json!({"no_reply": 1}));
        assert_eq!(tally.operations["put"].answered(), 1);
        assert_eq!(json["per_second"], 1.0);
    }
}
