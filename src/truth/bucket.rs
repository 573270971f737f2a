//! The bucket's name, its subjects, and what can go wrong with it.

use super::append::answers_publishes;
use super::barrier::Barrier;
use super::fetch::answers_reads;
use crate::breaker::{Attempt, Breaker};
use crate::exchange::{CallFault, Exchange};
use crate::seal::{OwnerKey, Record, RecordName};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How to reach the truth, and how `init` makes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TruthSettings {
    /// The bucket's name; its stream is `KV_<name>`.
    pub bucket: String,
    /// Copies of the bucket in the cluster: 1, 3 or 5.
    pub replicas: usize,
    /// Records kept for each key, the current one included: 1 to 64.
    pub history: i64,
    /// How long one call to the truth may take, in milliseconds.
    pub call_ms: u64,
}

impl Default for TruthSettings {
    fn default() -> Self {
        Self { bucket: "favorites".into(), replicas: 1, history: 16, call_ms: 2_000 }
    }
}

/// Why the truth gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TruthFault {
    /// It cannot be reached, or did not answer in time.
    #[error("the truth is out of reach: {0}")]
    Unavailable(#[from] CallFault),
    /// It answered with an error of its own.
    #[error("the truth refused: {0}")]
    Refused(String),
    /// Its answer is not what this version understands.
    #[error("the truth's answer cannot be read: {0}")]
    Unreadable(&'static str),
}

/// The bucket, as this worker reaches it.
#[derive(Clone)]
pub struct Bucket {
    pub(super) exchange: Exchange,
    pub(super) settings: TruthSettings,
    pub(super) barrier: Arc<Barrier>,
    /// Apart from `writing`: without a quorum any replica still answers reads, and nobody takes a write.
    pub(super) reading: Breaker,
    pub(super) writing: Breaker,
}

impl Bucket {
    /// The bucket named in `settings`, over `exchange`; `shard` names the key on which this worker's barriers ring.
    pub fn new(exchange: Exchange, settings: TruthSettings, shard: &str) -> Self {
        let subject = format!("$KV.{}._b.{shard}", settings.bucket);
        let barrier = Arc::new(Barrier::new(subject.clone()));
        // Short, so that a look that got lost does not delay the good news.
        let limit = Duration::from_millis(settings.call_ms / 4);
        let writing = Breaker::new("the truth, for writes,", {
            let (exchange, subject) = (exchange.clone(), subject.clone());
            move || answers_publishes(exchange.clone(), subject.clone(), limit)
        });
        let reading = Breaker::new("the truth, for reads,", {
            let (exchange, stream, writing) = (exchange.clone(), format!("KV_{}", settings.bucket), writing.clone());
            move || {
                let read = answers_reads(exchange.clone(), stream.clone(), subject.clone(), limit);
                let writing = writing.clone();
                async move {
                    let answers = read.await;
                    // Who answers no reads hardly takes a write: that is found out before one waits.
                    if !answers {
                        writing.doubt();
                    }
                    answers
                }
            }
        });
        Self { exchange, settings, barrier, reading, writing }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.bucket
    }

    /// What tells whether reads are answered.
    pub fn reading(&self) -> &Breaker {
        &self.reading
    }

    /// What tells whether writes are answered.
    pub fn writing(&self) -> &Breaker {
        &self.writing
    }

    pub(super) fn stream(&self) -> String {
        format!("KV_{}", self.settings.bucket)
    }

    pub(super) fn subject(&self, owner: &OwnerKey, name: &RecordName) -> String {
        format!("$KV.{}.{owner}.{name}", self.settings.bucket)
    }

    /// All records of one owner. It is also the filter of every expectation: one that matched nothing would let the
    /// write through, so it is spelled here and nowhere else.
    pub(super) fn owner_subjects(&self, owner: &OwnerKey) -> String {
        format!("$KV.{}.{owner}.>", self.settings.bucket)
    }

    /// Owner and name from a subject of the bucket; `None` for a barrier or a foreign key.
    pub(super) fn parse_subject(&self, subject: &str) -> Option<(OwnerKey, RecordName)> {
        let rest = subject.strip_prefix("$KV.")?.strip_prefix(self.settings.bucket.as_str())?.strip_prefix('.')?;
        let (owner, name) = rest.split_once('.')?;
        Some((OwnerKey::parse(owner)?, RecordName::parse(name)?))
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings.call_ms)
    }
}

/// Leave for a call, or that it is known to be away.
pub(super) fn admitted(breaker: &Breaker) -> Result<Attempt, TruthFault> {
    breaker.admit().ok_or(TruthFault::Unavailable(CallFault::KnownAway))
}

/// Tells the breaker how a call ended. One that a caller's short time cut off is a doubt, and no proof.
pub(super) fn ended<T>(attempt: Attempt, call: Result<T, CallFault>, cut_short: bool) -> Result<T, CallFault> {
    match call {
        Ok(_) => attempt.answered(),
        Err(CallFault::TimedOut) if cut_short => drop(attempt),
        Err(_) => attempt.unanswered(),
    }
    call
}

pub(super) fn record(
    name: RecordName,
    sequence: u64,
    at: crate::domain::Timestamp,
    value: Bytes,
) -> Result<Record, TruthFault> {
    let version = crate::domain::Version::new(sequence).ok_or(TruthFault::Unreadable("a sequence above 2^53"))?;
    Record::parse(name, version, at, value).map_err(|_| TruthFault::Unreadable("a record of an unknown format"))
}
