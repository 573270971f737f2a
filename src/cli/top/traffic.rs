//! What some workers do together: requests, refusals, and how long requests took.

use super::times::Times;
use super::worker::Worker;
use std::collections::BTreeMap;

/// The requests of some workers. What is not known is `None`, also as long as there are no two
/// answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    pub requests_per_s: Option<f64>,
    pub refusals_per_s: Option<f64>,
    pub times: Option<Times>,
    /// In the order of the workers' answers.
    pub operations: Vec<(String, OperationTraffic)>,
    /// By code.
    pub refusals: BTreeMap<String, Refusals>,
}

/// The requests of one operation.
#[derive(Clone, Debug, Default)]
pub(super) struct OperationTraffic {
    pub per_s: Option<f64>,
    pub total: u64,
    pub times: Option<Times>,
}

/// The refusals with one code.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    pub per_s: Option<f64>,
    pub total: u64,
}

impl Traffic {
    /// Adds up what the workers do that are not gone.
    pub fn of<'w>(workers: impl IntoIterator<Item = &'w Worker>) -> Self {
        let mut sum = Self::default();
        for worker in workers {
            if !worker.is_gone() {
                sum.add_worker(worker);
            }
        }

        sum
    }

    fn add_worker(&mut self, worker: &Worker) {
        for (name, counters) in &worker.sample.operations {
            let rates = worker
                .rates
                .as_ref()
                .and_then(|rates| rates.operations.get(name));
            let times = rates.and_then(|rates| rates.times.as_ref());

            let operation = self.operation(name);
            operation.total = operation.total.saturating_add(counters.requests);
            add(
                &mut operation.per_s,
                rates.map(|rates| rates.requests_per_s),
            );
            add_times(&mut operation.times, times);
            add(
                &mut self.requests_per_s,
                rates.map(|rates| rates.requests_per_s),
            );
            add_times(&mut self.times, times);

            // Without a refusal the rate is known too.
            add(&mut self.refusals_per_s, rates.map(|_| 0.0));
            for (code, count) in &counters.refusals {
                let per_s = rates.map(|rates| rates.refusals_per_s.get(code).copied());
                let per_s = per_s.map(Option::unwrap_or_default);
                let refusals = self.refusals.entry(code.clone()).or_default();
                refusals.total = refusals.total.saturating_add(*count);
                add(&mut refusals.per_s, per_s);
                add(&mut self.refusals_per_s, per_s);
            }
        }
    }

    fn operation(&mut self, name: &str) -> &mut OperationTraffic {
        let place = self.operations.iter().position(|(other, _)| other == name);
        let place = place.unwrap_or_else(|| {
            self.operations
                .push((name.to_owned(), OperationTraffic::default()));
            self.operations.len() - 1
        });

        &mut self.operations[place].1
    }

    /// Returns the time, in microseconds, within which this share of the requests was answered.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        self.times.as_ref()?.quantile(share)
    }
}

fn add(sum: &mut Option<f64>, value: Option<f64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or_default() + value);
    }
}

fn add_times(sum: &mut Option<Times>, times: Option<&Times>) {
    if let Some(times) = times {
        sum.get_or_insert_default().add(times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::sample::Sample;
    use serde_json::json;
    use std::time::Duration;

    fn worker(id: &str, with_times: bool) -> Worker {
        let sample = |requests: u64| {
            let times = with_times.then(|| json!([[1_000, requests], [2_000, requests]]));
            let data = json!({"refusals": {"erased": requests}, "buckets_us": times});
            let endpoints = json!([
                {"name": "put", "num_requests": requests, "data": data},
                {"name": "get", "num_requests": 1},
            ]);
            Sample::read(&json!({"id": id, "endpoints": endpoints})).expect("a worker")
        };

        let mut worker = Worker::new(sample(10), 0, Duration::ZERO);
        worker.take(sample(30), 1, Duration::from_secs(2));
        worker
    }

    #[test]
    fn the_requests_of_workers_add_up() {
        let workers = [worker("w1", true), worker("w2", false)];

        let traffic = Traffic::of(&workers);

        assert_eq!(traffic.requests_per_s, Some(20.0));
        assert_eq!(traffic.refusals_per_s, Some(20.0));
        assert_eq!(traffic.quantile(1.0), Some(1_000));
        assert_eq!(traffic.refusals["erased"].total, 60);
        let names: Vec<&str> = traffic
            .operations
            .iter()
            .map(|one| one.0.as_str())
            .collect();
        assert_eq!(names, ["put", "get"]);
        assert_eq!(traffic.operations[0].1.total, 60);
        assert_eq!(traffic.operations[1].1.per_s, Some(0.0));
    }

    #[test]
    fn without_workers_nothing_is_known() {
        let traffic = Traffic::of(&[]);

        assert_eq!(traffic.requests_per_s, None);
        assert_eq!(traffic.refusals_per_s, None);
        assert_eq!(traffic.quantile(0.5), None);
    }
}
