//! Going through the bucket: its owners, and its records.

use super::bucket::{Bucket, parse_record};
use super::consumer::{Plan, StartAt};
use super::error::TruthError;
use super::follow::stored_at;
use super::pull::Puller;
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::jetstream;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::error;

/// How long a list that has begun waits for its next message. Outages are shorter, and so is the time
/// that the server needs for another consumer.
const NEXT_MESSAGE_TIMEOUT: Duration = Duration::from_secs(90);

/// Messages up to the bucket's newest one, in the order of their sequences, each once.
pub(super) struct Messages {
    bucket: Bucket,
    messages: Puller,
}

/// Returns the bucket's owners, each once, in the order of their first writes. An owner's key is
/// written once.
pub struct OwnerList(Messages);

/// Returns the records that the bucket keeps.
pub struct RecordList(Messages);

impl Bucket {
    /// Begins to list the owners that the bucket has now.
    pub async fn list_owners(&self) -> Result<OwnerList, TruthError> {
        let all = self.list("owners", Version::NONE.get(), None, true);

        Ok(OwnerList(all.await?))
    }

    /// Begins to list the records after that version that the bucket keeps now, of every owner, in
    /// the order of their versions: the current ones, and those that they superseded.
    pub async fn list_records(&self, after: Version) -> Result<RecordList, TruthError> {
        let all = self.list("records", after.get(), None, false);

        Ok(RecordList(all.await?))
    }

    /// Begins to list the messages after that sequence: all, or those of the subjects of `filter`, which
    /// may be few only.
    ///
    /// A list of only the last message of each subject would have the server look up all subjects
    /// first, and no write is stored meanwhile.
    pub(super) async fn list(
        &self,
        name: &'static str,
        after: u64,
        filter: Option<String>,
        headers_only: bool,
    ) -> Result<Messages, TruthError> {
        let plan = Plan {
            name,
            start: StartAt::Sequence(after),
            filter,
            headers_only,
            ends: true,
            // Long, because the caller may need much time for each owner.
            inactive_threshold: Duration::from_secs(60),
        };

        Ok(Messages {
            bucket: self.clone(),
            messages: self.pull(plan).await?,
        })
    }
}

impl Messages {
    /// Returns owner and name from a subject of the bucket; `None` if it is no record's.
    pub(super) fn parse_subject(&self, subject: &str) -> Option<(OwnerKey, RecordName)> {
        self.bucket.parse_subject(subject)
    }

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
    /// About how many records it has still to look at.
    pub fn left(&self) -> u64 {
        self.0.messages.pending()
    }

    /// Returns the next owners, at most `limit`; none at the end.
    pub async fn next_page(&mut self, limit: usize) -> Result<Vec<OwnerKey>, TruthError> {
        let mut page = Vec::new();

        while page.len() < limit
            && let Some(message) = self.0.next().await?
        {
            if let Some((owner, RecordName::Key)) = self.0.parse_subject(&message.subject) {
                page.push(owner);
            }
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
            match parse_record(name, sequence, stored_at(&info), &message.payload) {
                Ok(record) => return Ok(Some((owner, record))),
                Err(error) => error!(%owner, sequence, %error, "cannot read a record, skipping it"),
            }
        }

        Ok(None)
    }
}
