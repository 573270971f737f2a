//! Writing: the one compare-and-set of the service.

use super::api::{Ack, ApiError};
use super::bucket::{Bucket, TruthError, admit, report_end};
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::{OwnerKey, RecordName};
use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::Instant;

pub(super) const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
pub(super) const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// The headers of an atomic batch publish (NATS ADR-50).
pub(super) const BATCH_ID: &str = "Nats-Batch-Id";
pub(super) const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
pub(super) const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// A sealed record to write.
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
    /// The owner's version is not the expected one: nothing was written.
    #[error("the owner has another version by now")]
    Conflict,
    /// The bucket is full: nothing was written.
    #[error("the bucket is full")]
    Full,
    /// The write was refused, or never reached the bucket: nothing was written.
    #[error(transparent)]
    NotWritten(TruthError),
    /// The write was sent without a usable acknowledgement: it may be written, now or later.
    #[error("the write was sent, but no usable acknowledgement came")]
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
    /// Writes all of `records` or none, if `expected` is still the owner's version.
    ///
    /// Returns the version of the last record; the versions of one call are consecutive. Several
    /// records are published as one atomic batch, with the expectation on its first member.
    pub async fn append(
        &self,
        owner: &OwnerKey,
        expected: Version,
        records: &[NewRecord],
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        // Fails before anything is sent if the bucket is known to be unavailable.
        admit(&self.writing)
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
            "a write without records",
        )))
    }

    /// Publishes a member of a batch that is not its last. The server does not acknowledge it, and
    /// stores nothing of the batch before the last member has come.
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

        let client = self.requester.client();
        let sent = client.publish_with_headers(subject, headers, value);
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
        let attempt = admit(&self.writing).map_err(AppendError::NotWritten)?;
        let call_deadline = self.deadline();
        let result = self
            .requester
            .ask(subject, headers, value, deadline.min(call_deadline))
            .await;

        let reply = match report_end(attempt, result, deadline < call_deadline) {
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

/// Publishes an empty message without an expectation, for the barrier. Returns its sequence.
pub(super) async fn publish_plain(bucket: &Bucket, subject: String) -> Result<u64, TruthError> {
    let attempt = admit(&bucket.writing)?;
    let subject = bucket.published(&subject);
    let result = bucket
        .requester
        .ask(subject, HeaderMap::new(), Bytes::new(), bucket.deadline())
        .await;

    let reply = report_end(attempt, result, false)?;
    let ack: Ack = serde_json::from_slice(&reply.payload)
        .map_err(|_| TruthError::Unreadable("an acknowledgement"))?;

    match ack.error {
        Some(error) if error.is_full() => Err(TruthError::Full),
        Some(error) => Err(error.into()),
        None => Ok(ack.seq),
    }
}
