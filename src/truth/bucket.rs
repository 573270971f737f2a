//! The bucket's name, its subjects, and what its calls share.

use super::answer_size::AnswerSize;
use super::error::TruthError;
use super::first_writes::FirstWrites;
use super::fullness::{AccountFill, BucketFill, Fullness};
use super::settings::TruthSettings;
use super::shared_answer::SharedAnswer;
use crate::breaker::{Attempt, Breaker};
use crate::requester::{CallError, Requester};
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::jetstream;
use bytes::Bytes;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The state that the callers of `publish_barrier` share.
pub(super) struct Barrier {
    /// The barrier's key: one for each shard, so that restarts leave no unused keys in the bucket.
    /// Workers may share it, because each only needs a sequence that is newer than its own call.
    pub(super) subject: String,
    /// The sequences of its acknowledged publishes. One begins when the one before is acknowledged.
    pub(super) shared: SharedAnswer,
}

impl Barrier {
    pub(super) fn new(subject: String) -> Self {
        Self {
            subject,
            shared: SharedAnswer::new(None),
        }
    }
}

/// The marks as this worker last read them.
#[derive(Default)]
pub(super) struct Marks {
    /// The number of the format; 0 while none is known.
    pub(super) format: AtomicU8,
    pub(super) epoch: RwLock<Option<String>>,
}

/// The bucket, as this worker reaches it.
#[derive(Clone)]
pub struct Bucket {
    pub(super) requester: Requester,
    pub(super) settings: TruthSettings,
    pub(super) barrier: Arc<Barrier>,
    /// Separate from `writing`: without a quorum each replica still answers reads, but none accepts
    /// a write.
    pub(super) reading: Breaker,
    pub(super) writing: Breaker,
    /// A permit for each batch that this worker may have open.
    pub(super) open_batches: Arc<Semaphore>,
    /// The first writes of owners that wait for a permit.
    pub(super) first_writes: Arc<FirstWrites>,
    /// Whether it is full.
    pub(super) full: Arc<Fullness>,
    /// The bucket's marks as they were last read.
    pub(super) marks: Arc<Marks>,
    /// How much it is asked for at once.
    pub(super) answer_size: Arc<AnswerSize>,
    /// How far the replicas that answered had come.
    pub(super) newest_sequence: Arc<SharedAnswer>,
}

impl Bucket {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.bucket
    }

    /// The circuit breaker for reads.
    pub fn reading(&self) -> &Breaker {
        &self.reading
    }

    /// The circuit breaker for writes.
    pub fn writing(&self) -> &Breaker {
        &self.writing
    }

    /// Returns for how long the bucket has been full; `None` if it is not.
    pub fn full_for(&self) -> Option<Duration> {
        self.full.duration()
    }

    /// Returns how much it holds, as its position showed when this program last asked for it, and what
    /// this program has written since; `None` before the first time.
    pub fn fill(&self) -> Option<BucketFill> {
        self.full.fill()
    }

    /// Returns how much storage its account uses, as of the last look; `None` before the first one.
    pub fn account_fill(&self) -> Option<AccountFill> {
        self.full.account()
    }

    pub(super) fn stream(&self) -> String {
        self.settings.stream()
    }

    /// The subject to which that call of the stream API is sent.
    pub(super) fn api_subject(&self, call: &str) -> String {
        self.settings.api(call)
    }

    /// The subject to which a record of `subject` is published.
    pub(super) fn published(&self, subject: &str) -> String {
        self.settings.published(subject)
    }

    /// The client's JetStream context, which is needed to read a message's metadata.
    pub(super) fn context(&self) -> jetstream::Context {
        let client = self.requester.client().clone();
        match self.settings.domain.as_str() {
            "" => jetstream::new(client),
            domain => jetstream::with_domain(client, domain),
        }
    }

    /// The prefix of every subject of the bucket.
    pub(super) fn root(&self) -> String {
        format!("$KV.{}", self.settings.bucket)
    }

    pub(super) fn subject(&self, owner: &OwnerKey, name: &RecordName) -> String {
        format!("$KV.{}.{owner}.{name}", self.settings.bucket)
    }

    /// The subjects of all records of one owner.
    ///
    /// This is also the filter of every expectation. A filter that matches nothing would let any
    /// write through, so it is spelled here and nowhere else. It never contains a JetStream domain:
    /// with one it would match nothing.
    pub(super) fn owner_subjects(&self, owner: &OwnerKey) -> String {
        format!("$KV.{}.{owner}.>", self.settings.bucket)
    }

    /// The subject to subscribe to for an owner's change notifications. They have headers only.
    pub fn notify_subject(&self, owner: &OwnerKey) -> String {
        format!("{}.changed.{owner}.*", self.settings.bucket)
    }

    /// Returns owner and name from a subject of the bucket; `None` for a barrier or a foreign key.
    pub(super) fn parse_subject(&self, subject: &str) -> Option<(OwnerKey, RecordName)> {
        let rest = subject
            .strip_prefix("$KV.")?
            .strip_prefix(self.settings.bucket.as_str())?
            .strip_prefix('.')?;
        let (owner, name) = rest.split_once('.')?;

        Some((OwnerKey::parse(owner)?, RecordName::parse(name)?))
    }

    /// The time by which a call that begins now must be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings.call_ms)
    }
}

/// Begins a call. Fails if the breaker is open, that is, if the truth is known to be unavailable.
pub(super) fn admit(breaker: &Breaker) -> Result<Attempt, TruthError> {
    breaker
        .admit()
        .ok_or(TruthError::Unavailable(CallError::KnownUnavailable))
}

/// Reports to the breaker how a call ended, and returns the call's result.
///
/// `cut_short` means that the caller's deadline came before the call's own. Such a timeout only
/// makes the breaker probe; it proves nothing.
pub(super) fn report_end<T>(
    attempt: Attempt,
    result: Result<T, CallError>,
    cut_short: bool,
) -> Result<T, CallError> {
    match result {
        Ok(_) => attempt.answered(),
        Err(CallError::TimedOut) if cut_short => drop(attempt),
        Err(_) => attempt.unanswered(),
    }

    result
}

pub(super) fn parse_record(
    name: RecordName,
    sequence: u64,
    at: crate::domain::Timestamp,
    value: &[u8],
) -> Result<Record, TruthError> {
    let version = crate::domain::Version::new(sequence)
        .ok_or(TruthError::Unreadable("a sequence above 2^53"))?;

    // The value is a part of a buffer of 64 KiB, all of which would stay in memory with it.
    Record::parse(name, version, at, Bytes::copy_from_slice(value))
        .map_err(|_| TruthError::Unreadable("a record of an unknown format"))
}
