//! The bucket's name, its subjects, and what can go wrong with it.

use super::settings::TruthSettings;
use crate::breaker::{Attempt, Breaker};
use crate::requester::{CallError, Requester, Transient};
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::jetstream;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Why the truth gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// It cannot be reached, or did not answer in time.
    #[error("the truth is out of reach: {0}")]
    Unavailable(#[from] CallError),
    /// It takes no more.
    #[error("the bucket is full")]
    Full,
    /// It answered with an error of its own.
    #[error("the truth refused: {0}")]
    Refused(String),
    /// Its answer is not what this version understands.
    #[error("the truth's answer cannot be read: {0}")]
    Unreadable(&'static str),
}

impl Transient for TruthError {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// The state that callers share.
pub(super) struct Barrier {
    /// The barrier's key: one for a shard, so that restarts do not litter the bucket. Workers may share it, since each
    /// only needs a sequence that is newer than its own question.
    pub(super) subject: String,
    pub(super) begun: AtomicU64,
    pub(super) last: Mutex<BarrierAck>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct BarrierAck {
    pub(super) number: u64,
    pub(super) sequence: u64,
}

impl Barrier {
    pub(super) fn new(subject: String) -> Self {
        Self {
            subject,
            begun: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }
}

/// The bucket, as this worker reaches it.
#[derive(Clone)]
pub struct Bucket {
    pub(super) requester: Requester,
    pub(super) settings: TruthSettings,
    pub(super) barrier: Arc<Barrier>,
    /// Apart from `writing`: without a quorum any replica still answers reads, and nobody takes a write.
    pub(super) reading: Breaker,
    pub(super) writing: Breaker,
}

impl Bucket {
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
        self.settings.stream()
    }

    /// Where that call of the stream API is asked.
    pub(super) fn api_subject(&self, call: &str) -> String {
        self.settings.api(call)
    }

    /// Where a record of that subject is published.
    pub(super) fn published(&self, subject: &str) -> String {
        self.settings.published(subject)
    }

    /// The client's own view of JetStream, for reading a message's place.
    pub(super) fn context(&self) -> jetstream::Context {
        let client = self.requester.client().clone();
        match self.settings.domain.as_str() {
            "" => jetstream::new(client),
            domain => jetstream::with_domain(client, domain),
        }
    }

    /// What every subject of the bucket begins with.
    pub(super) fn root(&self) -> String {
        format!("$KV.{}", self.settings.bucket)
    }

    /// All that is in the bucket.
    pub(super) fn all_subjects(&self) -> String {
        format!("$KV.{}.>", self.settings.bucket)
    }

    pub(super) fn subject(&self, owner: &OwnerKey, name: &RecordName) -> String {
        format!("$KV.{}.{owner}.{name}", self.settings.bucket)
    }

    /// All records of one owner. It is also the filter of every expectation: one that matched nothing would let the
    /// write through, so it is spelled here and nowhere else. It never names a domain: so spelt it would match nothing.
    pub(super) fn owner_subjects(&self, owner: &OwnerKey) -> String {
        format!("$KV.{}.{owner}.>", self.settings.bucket)
    }

    /// The subject on which an owner's changes ring, as a subscription to all of theirs: headers only.
    pub fn notify_subject(&self, owner: &OwnerKey) -> String {
        format!("{}.changed.{owner}.*", self.settings.bucket)
    }

    /// Owner and name from a subject of the bucket; `None` for a barrier or a foreign key.
    pub(super) fn parse_subject(&self, subject: &str) -> Option<(OwnerKey, RecordName)> {
        let rest = subject
            .strip_prefix("$KV.")?
            .strip_prefix(self.settings.bucket.as_str())?
            .strip_prefix('.')?;
        let (owner, name) = rest.split_once('.')?;
        Some((OwnerKey::parse(owner)?, RecordName::parse(name)?))
    }

    /// By when a call that begins now has to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings.call_ms)
    }
}

/// Leave for a call, or that it is known to be away.
pub(super) fn admitted(breaker: &Breaker) -> Result<Attempt, TruthError> {
    breaker
        .admit()
        .ok_or(TruthError::Unavailable(CallError::KnownUnavailable))
}

/// Tells the breaker how a call ended. One that a caller's short time cut off is a doubt, and no proof.
pub(super) fn ended<T>(
    attempt: Attempt,
    call: Result<T, CallError>,
    cut_short: bool,
) -> Result<T, CallError> {
    match call {
        Ok(_) => attempt.answered(),
        Err(CallError::TimedOut) if cut_short => drop(attempt),
        Err(_) => attempt.unanswered(),
    }
    call
}

pub(super) fn record(
    name: RecordName,
    sequence: u64,
    at: crate::domain::Timestamp,
    value: Bytes,
) -> Result<Record, TruthError> {
    let version = crate::domain::Version::new(sequence)
        .ok_or(TruthError::Unreadable("a sequence above 2^53"))?;
    Record::parse(name, version, at, value)
        .map_err(|_| TruthError::Unreadable("a record of an unknown format"))
}
