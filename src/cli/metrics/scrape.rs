//! The answers of all workers, asked once.

use crate::domain::Timestamp;
use serde_json::Value;

/// What the workers answered, and when.
pub(super) struct Scrape {
    /// The answers, sorted by shard and worker.
    workers: Vec<Value>,
    succeeded: bool,
    at: Timestamp,
}

impl Scrape {
    /// The answers of the workers. An id counts once: while a worker with changed settings takes
    /// over, the former one answers too, and the later one is taken.
    pub fn of(mut workers: Vec<Value>, at: Timestamp) -> Self {
        let started = |worker: &Value| worker["started"].as_str().map(str::to_owned);
        workers.sort_by_key(|worker| (id(worker), std::cmp::Reverse(started(worker))));
        workers.dedup_by_key(|worker| id(worker));

        Self {
            workers,
            succeeded: true,
            at,
        }
    }

    /// The workers could not be asked.
    pub fn failed(at: Timestamp) -> Self {
        Self {
            workers: Vec::new(),
            succeeded: false,
            at,
        }
    }

    /// The answers, one of each worker.
    pub fn workers(&self) -> &[Value] {
        &self.workers
    }

    /// Returns whether the workers could be asked.
    pub fn has_succeeded(&self) -> bool {
        self.succeeded
    }

    /// When they were asked.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

/// Returns the shard and the id of a worker.
pub(super) fn id(worker: &Value) -> [String; 2] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();

    [text(&worker["data"]["shard"]), text(&worker["id"])]
}
