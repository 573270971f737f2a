//! Writing: the one compare-and-set of the service.

use super::api::{Ack, ApiError};
use super::bucket::{Bucket, TruthError, admitted, ended};
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::{OwnerKey, RecordName};
use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::Instant;

const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// The headers of an atomic batch publish (NATS ADR-50).
pub(super) const BATCH_ID: &str = "Nats-Batch-Id";
pub(super) const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
pub(super) const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// A sealed record that is to be written.
#[derive(Clone)]
pub struct NewRecord {
    /// Which of the owner's records it is.
    pub name: RecordName,
    /// Envelope and ciphertext.
    pub value: Bytes,
}

/// Why a write was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The owner has another version than the one expected: nothing was written.
    #[error("the owner has another version by now")]
    Conflict,
    /// The bucket takes no more: nothing was written.
    #[error("the bucket is full")]
    Full,
    /// Refused or out of reach: nothing was written.
    #[error(transparent)]
    NotWritten(TruthError),
    /// Sent, and no answer came: it may be written, or may yet be.
    #[error("sent, and no answer came")]
    InDoubt,
}

impl From<ApiError> for AppendError {
    fn from(error: ApiError) -> Self {
        if error.is_conflict() {
            Self::Conflict
        } else if error.is_full() {
            Self::Full
        } else {
            Self::NotWritten(error.into())
        }
    }
}

impl Bucket {
    /// Writes `records` in one go, all or none, if `expected` is still the owner's version. Returns the version of the
    /// last of them; they have consecutive ones. Several go out as one atomic batch, the expectation on its first.
    pub async fn append(
        &self,
        owner: &OwnerKey,
        expected: Version,
        records: &[NewRecord],
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        admitted(&self.writing)
            .map_err(AppendError::NotWritten)?
            .unused();
        let count = records.len();
        let batch = (count > 1).then(|| uuid::Uuid::now_v7().simple().to_string());
        for (i, record) in records.iter().enumerate() {
            let mut headers = HeaderMap::new();
            if i == 0 {
                headers.insert(EXPECTED_SEQUENCE, expected.get().to_string());
                headers.insert(EXPECTED_SUBJECT, self.owner_subjects(owner));
                headers.insert(EXPECTED_STREAM, self.stream());
            }
            if let Some(batch) = &batch {
                headers.insert(BATCH_ID, batch.as_str());
                headers.insert(BATCH_SEQUENCE, (i + 1).to_string());
            }
            let subject = self.published(&self.subject(owner, &record.name));
            if i + 1 < count {
                self.publish_member(subject, headers, record.value.clone(), deadline)
                    .await?;
                continue;
            }
            if batch.is_some() {
                headers.insert(BATCH_COMMIT, "1");
            }
            return self
                .publish_last(subject, headers, record.value.clone(), deadline)
                .await;
        }
        Err(AppendError::NotWritten(TruthError::Unreadable(
            "a write of no record",
        )))
    }

    /// A member of a batch before its last: not acknowledged by itself, and nothing until the last is.
    async fn publish_member(
        &self,
        subject: String,
        headers: HeaderMap,
        value: Bytes,
        deadline: Instant,
    ) -> Result<(), AppendError> {
        if !self.requester.is_connected() {
            return Err(AppendError::NotWritten(CallError::NotConnected.into()));
        }
        let sent = self
            .requester
            .client()
            .publish_with_headers(subject, headers, value);
        match tokio::time::timeout_at(deadline, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(AppendError::NotWritten(CallError::NotConnected.into())),
            Err(_) => Err(AppendError::NotWritten(CallError::TimedOut.into())),
        }
    }

    async fn publish_last(
        &self,
        subject: String,
        headers: HeaderMap,
        value: Bytes,
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        let attempt = admitted(&self.writing).map_err(AppendError::NotWritten)?;
        let longest = self.deadline();
        let asked = self
            .requester
            .ask(subject, headers, value, deadline.min(longest))
            .await;
        let reply = match ended(attempt, asked, deadline < longest) {
            Ok(reply) => reply,
            Err(CallError::TimedOut) => return Err(AppendError::InDoubt),
            Err(error) => return Err(AppendError::NotWritten(error.into())),
        };
        let ack: Ack = serde_json::from_slice(&reply.payload).map_err(|_| AppendError::InDoubt)?;
        match ack.error {
            Some(error) => Err(error.into()),
            None => Version::new(ack.seq)
                .filter(|v| !v.is_none())
                .ok_or(AppendError::InDoubt),
        }
    }
}

/// A publish without expectation or content, for the barrier: its sequence.
pub(super) async fn publish_plain(bucket: &Bucket, subject: String) -> Result<u64, TruthError> {
    let attempt = admitted(&bucket.writing)?;
    let subject = bucket.published(&subject);
    let asked = bucket
        .requester
        .ask(subject, HeaderMap::new(), Bytes::new(), bucket.deadline())
        .await;
    let reply = ended(attempt, asked, false)?;
    let ack: Ack = serde_json::from_slice(&reply.payload)
        .map_err(|_| TruthError::Unreadable("an acknowledgement"))?;
    match ack.error {
        Some(error) if error.is_full() => Err(TruthError::Full),
        Some(error) => Err(error.into()),
        None => Ok(ack.seq),
    }
}
