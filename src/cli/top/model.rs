//! All workers that answer, or have answered until a short time ago.
//!
//! It takes answers and times, and asks nobody: the loop does.

use super::history::{History, Values};
use super::sample::Sample;
use super::shard::Summary;
use super::traffic::Traffic;
use super::worker::{Key, Worker};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a worker that is gone stays on the screen.
const GONE_SHOWN: Duration = Duration::from_secs(60);
/// How many workers are kept. Answers of further ones are left out.
const WORKERS_MAX: usize = 2_000;

/// What is selected, and shown in detail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    All,
    Shard(String),
    Worker(Key),
}

/// All workers. Times are since the program started.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    workers: BTreeMap<Key, Worker>,
    shards: BTreeMap<String, History>,
    all: History,
    /// When the last answer came.
    pub answered_at: Option<Duration>,
    recorded_at: Option<Duration>,
    /// Since when the connection to NATS is lost.
    pub lost_since: Option<Duration>,
}

impl Model {
    /// Takes an answer to that question.
    pub fn take(&mut self, sample: Sample, question: u64, at: Duration) {
        let key = Key {
            shard: sample.shard.clone(),
            id: sample.id.clone(),
        };
        self.answered_at = Some(at);

        if let Some(worker) = self.workers.get_mut(&key) {
            worker.take(sample, question, at);
        } else if self.workers.len() < WORKERS_MAX {
            self.workers.insert(key, Worker::new(sample, question, at));
        }
    }

    /// Takes note of a question, before it is asked, and forgets workers that are long gone.
    pub fn ask(&mut self, at: Duration) {
        self.workers.retain(|_, worker| {
            worker.ask(at);
            worker
                .gone_since
                .is_none_or(|since| since + GONE_SHOWN > at)
        });
        self.shards
            .retain(|shard, _| self.workers.keys().any(|key| key.shard == *shard));
    }

    /// Takes note that there is a connection.
    pub fn connect(&mut self) {
        self.lost_since = None;
    }

    /// Takes note that there is no connection, so that nobody can be asked.
    pub fn lose(&mut self, at: Duration) {
        self.lost_since.get_or_insert(at);
        self.excuse(at);
    }

    /// Takes note that nobody was asked until now.
    pub fn excuse(&mut self, at: Duration) {
        for worker in self.workers.values_mut() {
            worker.excuse(at);
        }
    }

    /// Adds what is known now to the charts, if an answer came since the last time.
    pub fn record(&mut self, at: Duration) {
        if self.answered_at <= self.recorded_at {
            return;
        }

        self.recorded_at = Some(at);
        for worker in self.workers.values_mut().filter(|worker| !worker.is_gone()) {
            let traffic = Traffic::of([&*worker]);
            let values = [
                traffic.requests_per_s,
                traffic.quantile(0.99).map(|us| us as f64),
                worker.sample.lag().map(|lag| lag as f64),
                worker.sample.bucket.bytes.map(|bytes| bytes as f64),
            ];
            worker.history.add(at, values);
        }

        for shard in self.shard_names() {
            let values = self.values(&Subject::Shard(shard.clone()), at);
            self.shards.entry(shard).or_default().add(at, values);
        }
        let values = self.values(&Subject::All, at);
        self.all.add(at, values);
    }

    fn values(&self, subject: &Subject, at: Duration) -> Values {
        let traffic = self.traffic(subject);
        let summary = self.summary(subject, at);

        [
            traffic.requests_per_s,
            traffic.quantile(0.99).map(|us| us as f64),
            summary.lag.map(|lag| lag as f64),
            summary.bucket_bytes.map(|bytes| bytes as f64),
        ]
    }

    /// The names of the shards, sorted.
    pub fn shard_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.workers.keys().map(|key| key.shard.clone()).collect();
        names.dedup();

        names
    }

    /// All workers, sorted by shard and id.
    pub fn workers(&self) -> impl Iterator<Item = (&Key, &Worker)> {
        self.workers.iter()
    }

    /// The worker of that key.
    pub fn worker(&self, key: &Key) -> Option<&Worker> {
        self.workers.get(key)
    }

    /// Returns whether this is still there.
    pub fn has(&self, subject: &Subject) -> bool {
        !self.workers_of(subject).is_empty() || *subject == Subject::All
    }

    /// The workers that this is about.
    pub fn workers_of(&self, subject: &Subject) -> Vec<&Worker> {
        let workers = self.workers.iter().filter(|(key, _)| match subject {
            Subject::All => true,
            Subject::Shard(shard) => key.shard == *shard,
            Subject::Worker(worker) => *key == worker,
        });

        workers.map(|(_, worker)| worker).collect()
    }

    /// What the workers of this say together.
    pub fn summary(&self, subject: &Subject, now: Duration) -> Summary {
        let workers = self.workers_of(subject);
        if *subject != Subject::All {
            return Summary::of_shard(&workers, now);
        }

        let shards = self.shard_names().into_iter().map(Subject::Shard);
        let shards: Vec<Summary> = shards.map(|shard| self.summary(&shard, now)).collect();
        Summary::of_all(&workers, &shards.iter().collect::<Vec<_>>(), now)
    }

    /// What the workers of this do together.
    pub fn traffic(&self, subject: &Subject) -> Traffic {
        Traffic::of(self.workers_of(subject))
    }

    /// What was over the last minutes. `None` if it is not there any more.
    pub fn history(&self, subject: &Subject) -> Option<&History> {
        match subject {
            Subject::All => Some(&self.all),
            Subject::Shard(shard) => self.shards.get(shard),
            Subject::Worker(key) => Some(&self.worker(key)?.history),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::history::Measure;
    use serde_json::json;

    fn sample(shard: &str, id: &str, requests: u64) -> Sample {
        let endpoints = json!([{"name": "put", "num_requests": requests}]);
        let answer = json!({
            "id": id,
            "endpoints": endpoints,
            "data": {"shard": shard, "state": "healthy", "postgres": {"hosted": 5}},
        });

        Sample::read(&answer).expect("a worker")
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn workers_are_gathered_by_shard() {
        let mut model = Model::default();
        for (question, requests) in [(1, 10), (2, 20)] {
            for (shard, id) in [("b", "w3"), ("a", "w1"), ("a", "w2")] {
                model.take(sample(shard, id, requests), question, seconds(question));
            }
        }

        let rate = |subject| model.traffic(&subject).requests_per_s;
        assert_eq!(model.shard_names(), ["a", "b"]);
        assert_eq!(rate(Subject::All), Some(30.0));
        assert_eq!(rate(Subject::Shard("a".to_owned())), Some(20.0));
        assert_eq!(model.summary(&Subject::All, seconds(2)).hosted, Some(10));
        assert!(model.has(&Subject::All));
        assert!(!model.has(&Subject::Shard("c".to_owned())));
    }

    #[test]
    fn a_worker_that_is_gone_stays_for_a_minute() {
        let mut model = Model::default();
        model.take(sample("a", "w1", 1), 1, seconds(0));
        let all = || Subject::All;

        for at in 1..=5 {
            model.ask(seconds(at));
        }
        assert_eq!(model.summary(&all(), seconds(5)).gone, 1);
        model.ask(seconds(62));
        assert_eq!(model.summary(&all(), seconds(62)).gone, 1);
        model.ask(seconds(63));

        assert_eq!(model.workers().count(), 0);
        assert!(model.shard_names().is_empty());
    }

    #[test]
    fn a_lost_connection_is_no_silence_of_workers() {
        let mut model = Model::default();
        model.take(sample("a", "w1", 1), 1, seconds(0));

        for at in 1..=90 {
            model.lose(seconds(at));
        }
        assert_eq!(model.lost_since, Some(seconds(1)));
        model.connect();
        model.ask(seconds(91));

        assert_eq!(model.lost_since, None);
        assert_eq!(model.summary(&Subject::All, seconds(91)).gone, 0);
    }

    #[test]
    fn the_charts_follow_the_rates() {
        let mut model = Model::default();
        for at in 1..=3 {
            model.take(sample("a", "w1", at * 10), at, seconds(at));
            model.record(seconds(at));
        }
        // Without an answer there is nothing to add.
        model.record(seconds(4));

        let shard = Subject::Shard("a".to_owned());
        for subject in [Subject::All, shard] {
            let history = model.history(&subject).expect("a history");
            let chart = history.chart(Measure::RequestsPerSecond, 300, seconds(3));
            assert_eq!(chart[296..], [None, None, Some(10.0), Some(10.0)]);
        }
    }
}
