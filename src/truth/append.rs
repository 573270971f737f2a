//! Writing: the one compare-and-set of the service.

use super::api::Ack;
use super::bucket::{Bucket, admit, report_end};
use super::error::TruthError;
use super::first_writes::is_first_write;
use super::owner_write::{AppendError, NewRecord, OwnerWrite};
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::{OwnerKey, random};
use async_nats::HeaderMap;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

pub(super) const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
pub(super) const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// The headers of an atomic batch publish (NATS ADR-50).
pub(super) const BATCH_ID: &str = "Nats-Batch-Id";
pub(super) const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
pub(super) const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// The most records of one batch that the server takes.
pub const BATCH_RECORDS_MAX: usize = 1_000;
/// How many batches a worker has open at once. The server opens 50 for a stream by default, for all
/// workers, and refuses more; and it stores one after the other. So more at once would end no
/// sooner, and would run into the time of a call.
pub(super) const OPEN_BATCHES_MAX: usize = 4;
/// The pause before a batch is sent again that the server did not take. It doubles each time.
const BATCH_PAUSE_MIN: Duration = Duration::from_millis(10);
const BATCH_PAUSE_MAX: Duration = Duration::from_millis(320);

impl Bucket {
    /// Writes all of `records` or none, if `expected` is still the owner's version.
    ///
    /// Returns the version of the last record; the versions of one call are consecutive. Several
    /// records are published as one atomic batch, with the expectation on its first member. A batch
    /// that the server did not take is sent again until the deadline.
    pub async fn append(
        &self,
        owner: &OwnerKey,
        expected: Version,
        records: &[NewRecord],
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        let write = OwnerWrite {
            owner,
            expected,
            records,
        };

        self.append_all(&[write], deadline).await
    }

    /// As [`append`](Self::append), for several owners at once: writes all or none. Their records are
    /// one batch, of which the server takes [`BATCH_RECORDS_MAX`].
    pub async fn append_all(
        &self,
        writes: &[OwnerWrite<'_>],
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        // Fails before anything is sent if the bucket is known to be unavailable.
        admit(&self.writing)
            .map_err(AppendError::NotWritten)?
            .unused();

        let written = self.write(writes, deadline).await;
        if written.is_ok() {
            let records = writes.iter().flat_map(|write| write.records);
            let bytes = records.map(|record| record.value.len()).sum();
            self.full.note_stored(bytes);
        }
        written
    }

    /// Sends the records: a single one at once, several when the server may have room for a batch.
    async fn write(
        &self,
        writes: &[OwnerWrite<'_>],
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        if let [write] = writes
            && write.records.len() == 1
        {
            return self.send(writes, deadline).await;
        }

        // A batch that is sent when its time is nearly up would be in doubt, and not refused. So it may
        // wait for two thirds of its time.
        let begun = Instant::now();
        let last_begin = begun + deadline.saturating_duration_since(begun) * 2 / 3;
        if let [write] = writes
            && is_first_write(write)
        {
            return self.write_first(write, last_begin, deadline).await;
        }
        let _permit = self.permit(&self.open_batches, last_begin).await?;

        self.send_until(writes, last_begin, deadline).await
    }

    /// Sends a batch, and again while the server has no room for it, until `last_begin`.
    pub(super) async fn send_until(
        &self,
        writes: &[OwnerWrite<'_>],
        last_begin: Instant,
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        let mut pause = BATCH_PAUSE_MIN;
        loop {
            let sent = self.send(writes, deadline).await;
            let again = Instant::now() + jittered(pause);
            if !matches!(sent, Err(AppendError::Busy)) || again >= last_begin {
                return sent;
            }

            sleep_until(again).await;
            pause = BATCH_PAUSE_MAX.min(pause * 2);
        }
    }

    /// Returns one of the permits to write, at once or by `until`.
    pub(super) async fn permit(
        &self,
        permits: &Arc<Semaphore>,
        until: Instant,
    ) -> Result<OwnedSemaphorePermit, AppendError> {
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            return Ok(permit);
        }

        tokio::select! {
            biased;
            () = self.writing.broken() => {
                Err(AppendError::NotWritten(CallError::KnownUnavailable.into()))
            }
            permit = timeout_at(until, permits.clone().acquire_owned()) => match permit {
                Ok(Ok(permit)) => Ok(permit),
                _ => Err(AppendError::Busy),
            }
        }
    }

    /// Publishes the records once.
    async fn send(
        &self,
        writes: &[OwnerWrite<'_>],
        deadline: Instant,
    ) -> Result<Version, AppendError> {
        let mut members = Vec::new();
        for write in writes {
            members.extend(write.records.iter().map(|record| (write, record)));
        }

        let count = members.len();
        let batch = (count > 1).then(|| uuid::Uuid::now_v7().simple().to_string());
        for (i, (write, record)) in members.into_iter().enumerate() {
            let mut headers = HeaderMap::new();
            if std::ptr::eq(record, &write.records[0]) {
                headers.insert(EXPECTED_SEQUENCE, write.expected.get().to_string());
                headers.insert(EXPECTED_SUBJECT, self.owner_subjects(write.owner));
                headers.insert(EXPECTED_STREAM, self.stream());
            }
            if let Some(batch) = &batch {
                headers.insert(BATCH_ID, batch.as_str());
                headers.insert(BATCH_SEQUENCE, (i + 1).to_string());
            }

            let subject = self.published(&self.subject(write.owner, &record.name));
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
        let client = self.requester.connected(deadline).await;
        let client = client.map_err(|error| AppendError::NotWritten(error.into()))?;
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
        let bytes = value.len();
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

        self.full.record(bytes, ack.is_full());
        match ack.error {
            Some(error) => Err(error.into()),
            None => Version::new(ack.seq)
                .filter(|v| !v.is_none())
                .ok_or(AppendError::InDoubt),
        }
    }
}

/// Returns between half of the pause and all of it, so that workers that were refused together do not
/// come back together.
fn jittered(pause: Duration) -> Duration {
    let [share] = random::<1>();

    pause / 2 + pause / 2 * u32::from(share) / 256
}

/// Publishes a barrier of that many bytes, without an expectation. Returns its sequence.
pub(super) async fn publish_barrier_of(bucket: &Bucket, bytes: usize) -> Result<u64, TruthError> {
    let attempt = admit(&bucket.writing)?;
    let subject = bucket.published(&bucket.barrier.subject);
    let result = bucket
        .requester
        .ask(
            subject,
            HeaderMap::new(),
            vec![0; bytes].into(),
            bucket.deadline(),
        )
        .await;

    let reply = report_end(attempt, result, false)?;
    let ack: Ack = serde_json::from_slice(&reply.payload)
        .map_err(|_| TruthError::Unreadable("an acknowledgement"))?;

    bucket.full.record(bytes, ack.is_full());
    match ack.error {
        Some(error) if error.is_full() => Err(TruthError::Full),
        Some(error) => Err(error.into()),
        None => Ok(ack.seq),
    }
}
