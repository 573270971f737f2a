//! A worker, as its last two answers show it.

use super::history::History;
use super::sample::{Counters, Sample};
use super::times::Times;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many questions a worker leaves unanswered before it counts as gone.
const UNANSWERED_MAX: u32 = 1;
/// How long a worker is silent at least before it counts as gone.
const SILENCE_MIN: Duration = Duration::from_millis(2_500);

/// What a worker is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub shard: String,
    pub id: String,
}

/// A worker that has answered.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub sample: Sample,
    /// When the last answer came.
    pub answered_at: Duration,
    /// What happened between the last two answers; `None` before there are two.
    pub rates: Option<Rates>,
    pub history: History,
    pub gone_since: Option<Duration>,
    /// The question that the last answer is for.
    question: u64,
    unanswered: u32,
    /// When the worker answered, or could not be asked, for the last time.
    silent_since: Duration,
}

/// What happened between two answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    pub operations: BTreeMap<String, OperationRates>,
    /// The share of one processor that the worker used.
    pub cpu: Option<f64>,
}

/// What happened to an operation between two answers.
#[derive(Clone, Debug, Default)]
pub(super) struct OperationRates {
    pub requests_per_s: f64,
    /// By code.
    pub refusals_per_s: BTreeMap<String, f64>,
    /// `None` if the worker does not tell how long requests took.
    pub times: Option<Times>,
}

impl Worker {
    /// Creates a worker from its first answer.
    pub fn new(sample: Sample, question: u64, at: Duration) -> Self {
        Self {
            sample,
            answered_at: at,
            rates: None,
            history: History::default(),
            gone_since: None,
            question,
            unanswered: 0,
            silent_since: at,
        }
    }

    /// Takes a further answer. A worker that was restarted begins again, without rates. A second
    /// answer to one question is of another worker of the same id, and left out.
    pub fn take(&mut self, sample: Sample, question: u64, at: Duration) {
        if question <= self.question {
            return;
        }

        let seconds = at.saturating_sub(self.answered_at).as_secs_f64();
        let goes_on = seconds > 0.0 && sample.continues(&self.sample);
        self.rates = goes_on.then(|| Rates::between(&self.sample, &sample, seconds));
        self.sample = sample;
        self.answered_at = at;
        self.question = question;
        self.excuse(at);
        self.gone_since = None;
    }

    /// Takes note of a question to all workers, before it is asked.
    pub fn ask(&mut self, at: Duration) {
        let silence = at.saturating_sub(self.silent_since);
        if self.unanswered >= UNANSWERED_MAX && silence >= SILENCE_MIN {
            self.gone_since.get_or_insert(at);
            self.rates = None;
        }

        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// Takes note that workers could not be asked for a while: that is no silence of theirs.
    pub fn excuse(&mut self, at: Duration) {
        self.unanswered = 0;
        self.silent_since = at;
    }

    /// Returns whether the worker no longer answers.
    pub fn is_gone(&self) -> bool {
        self.gone_since.is_some()
    }

    /// The state in a word.
    pub fn state(&self) -> &str {
        match self.sample.state.as_str() {
            _ if self.is_gone() => "gone",
            "" => "unknown",
            state => state,
        }
    }
}

impl Rates {
    fn between(before: &Sample, now: &Sample, seconds: f64) -> Self {
        let per_s = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let none = Counters::default();
        let operations = now.operations.iter().map(|(name, now)| {
            let before = before.operation(name).unwrap_or(&none);
            let refusals = now.refusals.iter().map(|(code, count)| {
                let earlier = before.refusals.get(code).copied().unwrap_or_default();
                (code.clone(), per_s(earlier, *count))
            });
            let requests = now.requests.saturating_sub(before.requests);
            let times = now.times.as_ref().map(|times| {
                let earlier = before.times.as_deref().unwrap_or_default();
                Times::between(earlier, times, requests)
            });
            let rates = OperationRates {
                requests_per_s: per_s(before.requests, now.requests),
                refusals_per_s: refusals.collect(),
                times,
            };
            (name.clone(), rates)
        });
        let cpu = before.process.cpu_ms.zip(now.process.cpu_ms);

        Self {
            operations: operations.collect(),
            cpu: cpu.map(|(before, now)| per_s(before, now) / 1_000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(requests: u64, cpu_ms: u64) -> Sample {
        let answer = json!({
            "id": "w",
            "endpoints": [{
                "name": "put",
                "num_requests": requests,
                "data": {
                    "refusals": {"erased": requests / 2},
                    "buckets_us": [[1_000, requests / 2], [2_000, requests]],
                },
            }],
            "data": {"shard": "a", "state": "healthy", "process": {"cpu_ms": cpu_ms}},
        });

        Sample::read(&answer).expect("a worker")
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rate_needs_two_answers() {
        let mut worker = Worker::new(sample(100, 1_000), 1, seconds(1));
        assert!(worker.rates.is_none());

        worker.take(sample(150, 2_000), 2, seconds(3));

        let rates = worker.rates.expect("rates");
        let put = &rates.operations["put"];
        assert_eq!(put.requests_per_s, 25.0);
        assert_eq!(put.refusals_per_s["erased"], 12.5);
        let times = put.times.as_ref().expect("times");
        assert_eq!(times.quantile(0.5), Some(1_000));
        assert_eq!(times.quantile(1.0), Some(2_000));
        assert_eq!(rates.cpu, Some(0.5));
    }

    #[test]
    fn counters_that_go_down_begin_again() {
        let mut worker = Worker::new(sample(100, 0), 1, seconds(1));

        worker.take(sample(7, 0), 2, seconds(2));
        assert!(worker.rates.is_none());
        worker.take(sample(9, 0), 3, seconds(3));

        let rates = worker.rates.expect("rates");
        assert_eq!(rates.operations["put"].requests_per_s, 2.0);
    }

    #[test]
    fn a_second_answer_to_a_question_is_left_out() {
        let mut worker = Worker::new(sample(100, 0), 5, seconds(1));

        worker.take(sample(7, 0), 5, seconds(2));
        worker.take(sample(8, 0), 4, seconds(2));

        assert_eq!(worker.sample.operations[0].1.requests, 100);
    }

    #[test]
    fn a_silent_worker_is_gone_until_it_answers() {
        let mut worker = Worker::new(sample(1, 0), 0, seconds(0));

        for at in 1..=2 {
            worker.ask(seconds(at));
        }
        assert_eq!(worker.state(), "healthy");
        worker.ask(seconds(3));
        worker.ask(seconds(4));
        assert_eq!(worker.state(), "gone");
        assert_eq!(worker.gone_since, Some(seconds(3)));

        worker.take(sample(2, 0), 9, seconds(9));
        assert_eq!(worker.state(), "healthy");
    }

    #[test]
    fn without_a_connection_no_worker_is_gone() {
        let mut worker = Worker::new(sample(1, 0), 0, seconds(0));
        worker.ask(seconds(1));
        worker.ask(seconds(2));

        worker.excuse(seconds(60));
        worker.ask(seconds(60));
        worker.ask(seconds(61));

        assert!(!worker.is_gone());
    }
}
