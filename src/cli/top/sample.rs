//! What a worker's answer says, as far as the screen shows it. All texts of it are safe to show.

use crate::cli::output::visible;
use crate::domain::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// How much of a text is kept, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// One answer of a worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub shard: String,
    pub id: String,
    /// `healthy`, `degraded` or `unhealthy`.
    pub state: String,
    /// Why the worker is not healthy.
    pub reasons: Vec<Reason>,
    pub version: String,
    pub commit: String,
    pub started: Option<Timestamp>,
    /// In the order of the answer.
    pub operations: Vec<(String, Counters)>,
    pub in_flight: Option<u64>,
    pub projects: Option<bool>,
    /// The sequence that the projection has reached.
    pub sequence: Option<u64>,
    pub hosted: Option<u64>,
    pub cache: Cache,
    pub bucket: Bucket,
    pub process: Process,
}

/// Something that a worker lacks.
#[derive(Clone, Debug, Default)]
pub(super) struct Reason {
    pub part: String,
    /// What is wrong with the part.
    pub why: String,
    /// Since when, if the worker tells.
    pub since: Option<Timestamp>,
}

/// The counters of an operation since the worker started.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub requests: u64,
    pub refusals: BTreeMap<String, u64>,
    /// The upper bounds of times in microseconds, each with how many requests took at most that long.
    pub times: Option<Vec<(u64, u64)>>,
}

/// The owners in a worker's memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache {
    pub owners: Option<u64>,
    pub bytes: Option<u64>,
    pub hits: Option<u64>,
    pub misses: Option<u64>,
}

/// The bucket, as a worker sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    /// The sequence of its newest record.
    pub newest: Option<u64>,
    pub newest_age_ms: Option<u64>,
    pub records: Option<u64>,
    pub bytes: Option<u64>,
    /// `None` if it has no limit, or none is known.
    pub bytes_max: Option<u64>,
    pub is_lost: bool,
    pub is_reached: bool,
}

/// What the operating system says of the worker's process.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// The processor time since it started.
    pub cpu_ms: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub open_files: Option<u64>,
}

impl Reason {
    fn read(reason: &Value) -> Self {
        Self {
            part: text(&reason["part"]),
            why: text(&reason["why"]),
            since: reason["since"].as_str().and_then(Timestamp::parse_rfc3339),
        }
    }
}

impl Sample {
    /// Reads an answer. `None` if it names no worker.
    pub fn read(answer: &Value) -> Option<Self> {
        let data = &answer["data"];
        let number = |path: &str| data.pointer(path).and_then(Value::as_u64);
        let is_closed = |breaker: &str| data["truth"][breaker]["state"] == "closed";
        let id = text(&answer["id"]);
        if id.is_empty() {
            return None;
        }

        Some(Self {
            shard: text(&data["shard"]),
            id,
            state: text(&data["state"]),
            reasons: entries(&data["reasons"]).map(Reason::read).collect(),
            version: text(&answer["version"]),
            commit: text(&answer["metadata"]["commit"]),
            started: answer["started"]
                .as_str()
                .and_then(Timestamp::parse_rfc3339),
            operations: entries(&answer["endpoints"])
                .map(|endpoint| (text(&endpoint["name"]), Counters::read(endpoint)))
                .collect(),
            in_flight: number("/requests/in_flight"),
            projects: data["projection"]["here"].as_bool(),
            sequence: number("/projection/sequence"),
            hosted: number("/postgres/hosted"),
            cache: Cache {
                owners: number("/cache/owners"),
                bytes: number("/cache/bytes"),
                hits: number("/cache/hits"),
                misses: number("/cache/misses"),
            },
            bucket: Bucket {
                newest: number("/truth/newest"),
                newest_age_ms: number("/truth/newest_age_ms"),
                records: number("/truth/records"),
                bytes: number("/truth/bytes"),
                bytes_max: number("/truth/bytes_max"),
                is_lost: data["truth"]["history"] == "lost",
                is_reached: is_closed("reads") && is_closed("writes"),
            },
            process: Process {
                cpu_ms: number("/process/cpu_ms"),
                memory_bytes: number("/process/memory_bytes"),
                open_files: number("/process/open_files"),
            },
        })
    }

    /// Returns the counters of an operation.
    pub fn operation(&self, name: &str) -> Option<&Counters> {
        let mut operations = self.operations.iter();

        operations
            .find(|(other, _)| other == name)
            .map(|(_, counters)| counters)
    }

    /// How far the projection is behind the bucket, in bucket sequences.
    pub fn lag(&self) -> Option<u64> {
        let newest = self.bucket.newest?;

        Some(newest.saturating_sub(self.sequence?))
    }

    /// Returns whether this answer goes on where the other one was: it is of the same run of the
    /// worker, in which counters only grow.
    pub fn continues(&self, earlier: &Self) -> bool {
        let grew = self.operations.iter().all(|(name, counters)| {
            let before = earlier.operation(name);
            before.is_none_or(|before| counters.requests >= before.requests)
        });

        grew && self.started == earlier.started
    }
}

impl Counters {
    fn read(endpoint: &Value) -> Self {
        let data = &endpoint["data"];
        let refusals = data["refusals"].as_object().into_iter().flatten();
        let times = data["buckets_us"].as_array().map(|times| {
            times
                .iter()
                .filter_map(|pair| Some((pair[0].as_u64()?, pair[1].as_u64()?)))
                .collect()
        });

        Self {
            requests: endpoint["num_requests"].as_u64().unwrap_or_default(),
            refusals: refusals
                .filter_map(|(code, count)| Some((shown(code), count.as_u64()?)))
                .collect(),
            times,
        }
    }
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    shown(value.as_str().unwrap_or_default())
}

/// Returns the beginning of a text, on one line and with nothing hidden in it.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(TEXT_CHARS_MAX).collect();

    visible(&beginning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_old_workers_answer_lacks_what_is_new() {
        let answer = json!({
            "id": "w1",
            "endpoints": [{"name": "put", "num_requests": 3, "data": {"refusals": {"erased": 1}}}],
            "data": {"shard": "a", "truth": {"newest": 9}, "projection": {"sequence": 7}},
        });

        let sample = Sample::read(&answer).expect("a worker");

        assert_eq!(sample.lag(), Some(2));
        let (name, put) = &sample.operations[0];
        assert_eq!((name.as_str(), put.requests), ("put", 3));
        assert_eq!(put.refusals["erased"], 1);
        assert!(put.times.is_none());
        assert_eq!(sample.process.memory_bytes, None);
        assert_eq!(sample.bucket.bytes, None);
    }

    #[test]
    fn a_workers_words_cannot_control_the_terminal() {
        let hostile = "w\u{1b}[2J\u{202e}\u{7}\n";
        let answer = json!({
            "id": hostile, "version": hostile, "metadata": {"commit": hostile},
            "endpoints": [{"name": hostile, "data": {"refusals": {hostile: 1}}}],
            "data": {
                "shard": hostile, "state": hostile,
                "reasons": [{"part": hostile, "why": hostile.repeat(1000)}],
            },
        });

        let sample = Sample::read(&answer).expect("a worker");

        let shown = format!(
            "{}{}{}{}{}",
            sample.id, sample.version, sample.commit, sample.shard, sample.state
        );
        let (operation, counters) = &sample.operations[0];
        let code = counters.refusals.keys().next().expect("a code");
        let Reason { part, why, .. } = &sample.reasons[0];
        for text in [&shown, operation, code, part, why] {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(text.contains("\\u{202e}"), "{text:?}");
        }
        assert!(why.len() < 3_000);
    }

    #[test]
    fn what_names_no_worker_is_left_out() {
        for answer in [json!({}), json!(null), json!({"id": 7}), json!([1])] {
            assert!(Sample::read(&answer).is_none(), "{answer}");
        }
    }

    #[test]
    fn a_restarted_worker_does_not_go_on() {
        let sample = |started: &str, requests: u64| {
            let endpoints = json!([{"name": "put", "num_requests": requests}]);
            let answer = json!({"id": "w", "started": started, "endpoints": endpoints});
            Sample::read(&answer).expect("a worker")
        };
        let before = sample("2026-01-01T00:00:00Z", 5);

        assert!(sample("2026-01-01T00:00:00Z", 5).continues(&before));
        assert!(!sample("2026-01-01T00:00:00Z", 4).continues(&before));
        assert!(!sample("2026-01-01T00:00:01Z", 9).continues(&before));
    }
}
