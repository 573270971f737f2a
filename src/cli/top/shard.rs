//! What the workers of a shard, or all workers, say together.

use super::worker::Worker;
use std::time::Duration;

/// A summary of the workers that answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Summary {
    pub workers: usize,
    pub healthy: usize,
    pub degraded: usize,
    pub unhealthy: usize,
    pub gone: usize,
    pub hosted: Option<u64>,
    /// How far the projection is behind; of several shards, that of the last one.
    pub lag: Option<u64>,
    pub has_projector: bool,
    pub cache_owners: Option<u64>,
    pub cache_bytes: Option<u64>,
    /// The share of requests whose owner was in memory.
    pub hit_rate: Option<f64>,
    pub records: Option<u64>,
    pub bucket_bytes: Option<u64>,
    pub bucket_bytes_max: Option<u64>,
    /// The age of the bucket's newest record.
    pub newest_age: Option<Duration>,
    pub has_lost_history: bool,
    pub unreached: usize,
}

impl Summary {
    /// Summarises the workers of one shard.
    pub fn of_shard(workers: &[&Worker], now: Duration) -> Self {
        let here = || workers.iter().filter(|worker| !worker.is_gone());
        let sum = |value: fn(&Worker) -> Option<u64>| {
            let values = here().filter_map(|worker| value(worker));
            values.reduce(|sum, value| sum.saturating_add(value))
        };
        let max = |value: fn(&Worker) -> Option<u64>| here().filter_map(|one| value(one)).max();
        let count = |state: &str| workers.iter().filter(|one| one.state() == state).count();

        let newest = max(|worker| worker.sample.bucket.newest);
        let sequence = max(|worker| worker.sample.sequence);
        let hits = sum(|worker| worker.sample.cache.hits);
        let misses = sum(|worker| worker.sample.cache.misses);
        let ages = here().filter_map(|worker| {
            let age = Duration::from_millis(worker.sample.bucket.newest_age_ms?);
            Some(age + now.saturating_sub(worker.answered_at))
        });

        Self {
            workers: here().count(),
            healthy: count("healthy"),
            degraded: count("degraded"),
            unhealthy: count("unhealthy"),
            gone: count("gone"),
            hosted: max(|worker| worker.sample.hosted),
            lag: newest
                .zip(sequence)
                .map(|(newest, at)| newest.saturating_sub(at)),
            has_projector: here().any(|worker| worker.sample.projects == Some(true)),
            cache_owners: sum(|worker| worker.sample.cache.owners),
            cache_bytes: sum(|worker| worker.sample.cache.bytes),
            hit_rate: hits
                .zip(misses)
                .and_then(|(hits, misses)| share(hits, misses)),
            records: max(|worker| worker.sample.bucket.records),
            bucket_bytes: max(|worker| worker.sample.bucket.bytes),
            bucket_bytes_max: max(|worker| worker.sample.bucket.bytes_max),
            newest_age: ages.min(),
            has_lost_history: here().any(|worker| worker.sample.bucket.is_lost),
            unreached: here()
                .filter(|worker| !worker.sample.bucket.is_reached)
                .count(),
        }
    }

    /// Summarises all workers, given the summaries of their shards.
    pub fn of_all(workers: &[&Worker], shards: &[&Self], now: Duration) -> Self {
        let hosted = shards.iter().filter_map(|shard| shard.hosted);
        let of_workers = Self::of_shard(workers, now);

        Self {
            hosted: hosted.reduce(|sum, hosted| sum.saturating_add(hosted)),
            lag: shards.iter().filter_map(|shard| shard.lag).max(),
            has_projector: shards.iter().all(|shard| shard.has_projector),
            ..of_workers
        }
    }

    /// The state in words, the worst first.
    pub fn state(&self) -> (String, Severity) {
        let counts = [
            (self.unhealthy, "unhealthy", Severity::Bad),
            (self.gone, "gone", Severity::Bad),
            (self.degraded, "degraded", Severity::Doubtful),
        ];
        let worst = counts.into_iter().find(|(count, ..)| *count > 0);

        if self.has_lost_history {
            return ("lost history".to_owned(), Severity::Bad);
        }
        match worst {
            Some((count, state, severity)) => (format!("{count} {state}"), severity),
            None if self.workers == 0 => ("no worker".to_owned(), Severity::Bad),
            None if !self.has_projector => ("no projector".to_owned(), Severity::Doubtful),
            None => ("healthy".to_owned(), Severity::Good),
        }
    }
}

/// How much something needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Good,
    Doubtful,
    Bad,
}

impl Severity {
    /// The severity of a worker's state. A word that is not known is doubtful.
    pub fn of_state(state: &str) -> Self {
        match state {
            "healthy" => Self::Good,
            "unhealthy" | "gone" => Self::Bad,
            _ => Self::Doubtful,
        }
    }
}

fn share(hits: u64, misses: u64) -> Option<f64> {
    let all = hits.saturating_add(misses);

    (all > 0).then(|| hits as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::sample::Sample;
    use serde_json::{Value, json};

    fn worker(state: &str, data: Value) -> Worker {
        let mut data = data;
        data["state"] = json!(state);
        let answer = json!({"id": "w", "data": data});

        Worker::new(Sample::read(&answer).expect("a worker"), 0, Duration::ZERO)
    }

    #[test]
    fn a_shard_is_what_its_workers_say() {
        let one = worker(
            "healthy",
            json!({
                "projection": {"here": true, "sequence": 7},
                "truth": {
                    "newest": 8, "newest_age_ms": 500, "bytes": 10, "bytes_max": 40,
                    "reads": {"state": "closed"}, "writes": {"state": "closed"},
                },
                "cache": {"bytes": 5, "hits": 3, "misses": 1},
                "postgres": {"hosted": 2},
            }),
        );
        let two = worker(
            "degraded",
            json!({"truth": {"newest": 9}, "cache": {"bytes": 6}}),
        );

        let summary = Summary::of_shard(&[&one, &two], Duration::from_secs(1));

        assert_eq!(summary.lag, Some(2));
        assert_eq!(summary.cache_bytes, Some(11));
        assert_eq!(summary.hit_rate, Some(0.75));
        assert_eq!(summary.bucket_bytes_max, Some(40));
        assert_eq!(summary.newest_age, Some(Duration::from_millis(1_500)));
        assert_eq!(summary.unreached, 1);
        assert_eq!(
            summary.state(),
            ("1 degraded".to_owned(), Severity::Doubtful)
        );
    }

    #[test]
    fn the_worst_of_a_shard_is_its_state() {
        let healthy = worker("healthy", json!({"projection": {"here": true}}));
        let idle = worker("healthy", json!({}));
        let unhealthy = worker("unhealthy", json!({}));
        let lost = worker("healthy", json!({"truth": {"history": "lost"}}));
        let mut gone = worker("healthy", json!({}));
        gone.gone_since = Some(Duration::ZERO);

        for (workers, expected) in [
            (vec![&healthy, &idle], "healthy"),
            (vec![&idle], "no projector"),
            (vec![&healthy, &gone], "1 gone"),
            (vec![&healthy, &gone, &unhealthy], "1 unhealthy"),
            (vec![&healthy, &lost], "lost history"),
            (vec![], "no worker"),
        ] {
            let summary = Summary::of_shard(&workers, Duration::ZERO);

            assert_eq!(summary.state().0, expected);
        }
    }

    #[test]
    fn the_hosted_owners_of_shards_add_up() {
        let shard = |hosted, lag| Summary {
            hosted,
            lag,
            has_projector: true,
            ..Summary::default()
        };

        let all = Summary::of_all(
            &[],
            &[
                &shard(Some(3), Some(1)),
                &shard(Some(4), Some(9)),
                &shard(None, None),
            ],
            Duration::ZERO,
        );

        assert_eq!((all.hosted, all.lag), (Some(7), Some(9)));
        assert!(all.has_projector);
    }
}
