//! Writing: the one compare-and-set of the service.

use super::bucket::{Bucket, TruthFault, admitted, ended};
use crate::domain::Version;
use crate::exchange::{CallFault, Exchange};
use crate::seal::{OwnerKey, RecordName};
use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use std::time::Duration;
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
pub enum AppendFault {
    /// The owner has another version than the one expected: nothing was written.
    #[error("the owner has another version by now")]
    Conflict,
    /// The bucket takes no more: nothing was written.
    #[error("the bucket is full")]
    Full,
    /// Refused or out of reach: nothing was written.
    #[error(transparent)]
    NotWritten(TruthFault),
    /// Sent, and no answer came: it may be written, or may yet be.
    #[error("sent, and no answer came")]
    InDoubt,
}

/// The server's acknowledgement of a publish.
#[derive(Deserialize)]
struct Ack {
    error: Option<ApiError>,
    #[serde(default)]
    seq: u64,
}

#[derive(Deserialize)]
pub(super) struct ApiError {
    pub(super) err_code: u64,
    pub(super) description: String,
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
    ) -> Result<Version, AppendFault> {
        admitted(&self.writing)
            .map_err(AppendFault::NotWritten)?
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
        Err(AppendFault::NotWritten(TruthFault::Unreadable(
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
    ) -> Result<(), AppendFault> {
        if !self.exchange.is_connected() {
            return Err(AppendFault::NotWritten(CallFault::NotConnected.into()));
        }
        let sent = self
            .exchange
            .client()
            .publish_with_headers(subject, headers, value);
        match tokio::time::timeout_at(deadline, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(AppendFault::NotWritten(CallFault::NotConnected.into())),
            Err(_) => Err(AppendFault::NotWritten(CallFault::TimedOut.into())),
        }
    }

    async fn publish_last(
        &self,
        subject: String,
        headers: HeaderMap,
        value: Bytes,
        deadline: Instant,
    ) -> Result<Version, AppendFault> {
        let attempt = admitted(&self.writing).map_err(AppendFault::NotWritten)?;
        let longest = self.deadline();
        let asked = self
            .exchange
            .ask(subject, headers, value, deadline.min(longest))
            .await;
        let reply = match ended(attempt, asked, deadline < longest) {
            Ok(reply) => reply,
            Err(CallFault::TimedOut) => return Err(AppendFault::InDoubt),
            Err(fault) => return Err(AppendFault::NotWritten(fault.into())),
        };
        let ack: Ack = serde_json::from_slice(&reply.payload).map_err(|_| AppendFault::InDoubt)?;
        match ack.error {
            Some(error) => Err(refused(&error)),
            None => Version::new(ack.seq)
                .filter(|v| !v.is_none())
                .ok_or(AppendFault::InDoubt),
        }
    }
}

/// 10071 and 10164 are both a wrong expectation: the latter where a write to the same subjects is still under way.
fn refused(error: &ApiError) -> AppendFault {
    match error.err_code {
        10071 | 10164 => AppendFault::Conflict,
        10002 | 10047 | 10054 | 10077 => AppendFault::Full, // the account's or the server's storage, maximum size or messages
        // Too many batches open, a leader unknown or not ready, or one that did not get all of a batch, for the connection
        // or the lead changed in between: to be tried again.
        10008 | 10009 | 10023 | 10176 | 10210 => {
            AppendFault::NotWritten(CallFault::NoResponders.into())
        }
        code => {
            AppendFault::NotWritten(TruthFault::Refused(format!("{code} {}", error.description)))
        }
    }
}

/// A publish without expectation or content, for the barrier: its sequence.
pub(super) async fn publish_plain(bucket: &Bucket, subject: String) -> Result<u64, TruthFault> {
    let attempt = admitted(&bucket.writing)?;
    let subject = bucket.published(&subject);
    let asked = bucket
        .exchange
        .ask(subject, HeaderMap::new(), Bytes::new(), bucket.deadline())
        .await;
    let reply = ended(attempt, asked, false)?;
    let ack: Ack = serde_json::from_slice(&reply.payload)
        .map_err(|_| TruthFault::Unreadable("an acknowledgement"))?;
    match ack.error {
        Some(error) => match refused(&error) {
            AppendFault::NotWritten(fault) => Err(fault),
            AppendFault::Full => Err(TruthFault::Full),
            _ => Err(TruthFault::Refused(format!(
                "{} {}",
                error.err_code, error.description
            ))),
        },
        None => Ok(ack.seq),
    }
}

/// Whether a publish is answered, if only by a refusal of a server that is in order.
pub(super) async fn answers_publishes(
    exchange: Exchange,
    subject: String,
    limit: Duration,
) -> bool {
    let asked = exchange
        .ask(
            subject,
            HeaderMap::new(),
            Bytes::new(),
            Instant::now() + limit,
        )
        .await;
    let Ok(reply) = asked else { return false };
    match serde_json::from_slice::<Ack>(&reply.payload) {
        Ok(Ack {
            error: Some(error), ..
        }) => !matches!(
            refused(&error),
            AppendFault::NotWritten(TruthFault::Unavailable(_))
        ),
        Ok(_) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wrong_expectation_is_a_conflict() {
        let fault = |err_code| {
            refused(&ApiError {
                err_code,
                description: "d".into(),
            })
        };
        assert!(matches!(fault(10071), AppendFault::Conflict));
        assert!(matches!(fault(10164), AppendFault::Conflict));
        assert!(matches!(fault(10077), AppendFault::Full));
        assert!(matches!(
            fault(10210),
            AppendFault::NotWritten(TruthFault::Unavailable(_))
        ));
        assert!(matches!(
            fault(10176),
            AppendFault::NotWritten(TruthFault::Unavailable(_))
        ));
        assert!(matches!(
            fault(10052),
            AppendFault::NotWritten(TruthFault::Refused(_))
        ));
    }
}
