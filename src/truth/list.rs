//! The bucket's current keys: its owners, and its records.

use super::bucket::{Bucket, TruthError, parse_record};
use super::consumer::{Plan, StartAt};
use super::follow::stored_at;
use super::pull::Puller;
use crate::requester::CallError;
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::jetstream;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::error;

/// How long a list that has begun waits for its next message. Outages are shorter.
const NEXT_MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages up to the bucket's newest one, in the order of their sequences. A key that is written
/// meanwhile comes a second time.
pub(super) struct Messages {
    bucket: Bucket,
    messages: Puller,
}

/// Returns the bucket's owners, each once, in no order.
pub struct OwnerList(Messages);

/// Returns the bucket's current records.
pub struct RecordList(Messages);

impl Bucket {
    /// Begins to list the owners that the bucket has now.
    pub async fn list_owners(&self) -> Result<OwnerList, TruthError> {
        let filter = format!("{}.*.{}", self.root(), RecordName::Key);

        let start = StartAt::LastPerSubject;
        Ok(OwnerList(self.list("owners", start, filter, true).await?))
    }

    /// Begins to list the records that the bucket has now, of every owner.
    pub async fn list_records(&self) -> Result<RecordList, TruthError> {
        let filter = self.record_subjects();

        let start = StartAt::LastPerSubject;
        Ok(RecordList(
            self.list("records", start, filter, false).await?,
        ))
    }

    /// Begins to list the messages from `start` on.
    pub(super) async fn list(
        &self,
        name: &'static str,
        start: StartAt,
        filter: String,
        headers_only: bool,
    ) -> Result<Messages, TruthError> {
        let plan = Plan {
            name,
            start,
            filter,
            headers_only,
            // Long, because another consumer would begin at the beginning, and the caller may need
            // much time for each owner.
            inactive_threshold: Duration::from_secs(60),
        };

        Ok(Messages {
            bucket: self.clone(),
            messages: self.pull(plan).await?,
        })
    }
}

impl Messages {
    /// The next message; `None` at the end. A message that was listed, and removed before it came,
    /// is not waited for.
    pub(super) async fn next(&mut self) -> Result<Option<jetstream::Message>, TruthError> {
        let began = Instant::now();
        let mut restarted = false;

        while self.messages.pending() > 0 {
            // A list that has got no message at all may lack the permission, so it does not wait
            // long.
            let until = if self.messages.last_delivered() == 0 {
                self.bucket.deadline()
            } else {
                began + NEXT_MESSAGE_TIMEOUT
            };
            match timeout_at(until, self.messages.next())
                .await
                .map_err(|_| CallError::TimedOut)??
            {
                Some(message) => return Ok(Some(message)),
                None if restarted => return Ok(None),
                None => self.messages.restart(),
            }
            restarted = true;
        }

        Ok(None)
    }
}

impl OwnerList {
    /// About how many owners are still to come.
    pub fn left(&self) -> u64 {
        self.0.messages.pending()
    }

    /// Returns the next owners, at most `limit`; none at the end.
    pub async fn next_page(&mut self, limit: usize) -> Result<Vec<OwnerKey>, TruthError> {
        let mut page = Vec::new();

        while page.len() < limit
            && let Some(message) = self.0.next().await?
        {
            page.extend(
                self.0
                    .bucket
                    .parse_subject(&message.subject)
                    .map(|(owner, _)| owner),
            );
        }

        Ok(page)
    }
}

impl RecordList {
    /// Returns the next record and its owner; `None` at the end. A message that is no record is
    /// skipped.
    pub async fn next(&mut self) -> Result<Option<(OwnerKey, Record)>, TruthError> {
        while let Some(message) = self.0.next().await? {
            let Some((owner, name)) = self.0.bucket.parse_subject(&message.subject) else {
                continue;
            };

            let info = message
                .info()
                .map_err(|_| TruthError::Unreadable("a message without metadata"))?;
            let sequence = info.stream_sequence;
            match parse_record(name, sequence, stored_at(&info), message.payload.clone()) {
                Ok(record) => return Ok(Some((owner, record))),
                Err(error) => error!(%owner, sequence, %error, "cannot read a record, skipping it"),
            }
        }

        Ok(None)
    }
}
