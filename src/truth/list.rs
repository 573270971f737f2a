//! What the bucket has now, key by key: its owners, and whose deletions are old.

use super::bucket::{Bucket, TruthError, record};
use super::consumer::{From, Plan};
use super::follow::taken_at;
use super::pull::Puller;
use crate::requester::CallError;
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::jetstream;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::error;

/// How long a list that was going on waits for its next message: outages are shorter.
const PATIENCE: Duration = Duration::from_secs(30);

/// The current message of each key, in the order of their sequences; a key that is written meanwhile comes once more.
struct CurrentMessages {
    bucket: Bucket,
    messages: Puller,
}

/// Gives the bucket's owners, each once, in no order.
pub struct OwnerList(CurrentMessages);

/// Gives the bucket's current records.
pub struct RecordList(CurrentMessages);

impl Bucket {
    /// Begins to list the owners that the bucket has now.
    pub async fn list_owners(&self) -> Result<OwnerList, TruthError> {
        let filter = format!("{}.*.{}", self.root(), RecordName::Key);
        Ok(OwnerList(self.list_current("owners", filter, true).await?))
    }

    /// Begins to list the records that the bucket has now, of every owner.
    pub async fn list_records(&self) -> Result<RecordList, TruthError> {
        Ok(RecordList(
            self.list_current("records", format!("{}.*.*", self.root()), false)
                .await?,
        ))
    }

    async fn list_current(
        &self,
        name: &'static str,
        filter: String,
        headers_only: bool,
    ) -> Result<CurrentMessages, TruthError> {
        let plan = Plan {
            name,
            from: From::LastOfEach,
            filter,
            headers_only,
            // Another one begins at the beginning; and who lists owners may have much to do for each.
            kept: Duration::from_secs(60),
        };
        Ok(CurrentMessages {
            bucket: self.clone(),
            messages: self.pull(plan).await?,
        })
    }
}

impl CurrentMessages {
    /// The next message. One that was listed, and is gone before it came, is not waited for.
    async fn next(&mut self) -> Result<Option<jetstream::Message>, TruthError> {
        let (since, mut asked_again) = (Instant::now(), false);
        while self.messages.pending() > 0 {
            // Who has heard nothing at all may lack the right to.
            let until = if self.messages.given() == 0 {
                self.bucket.deadline()
            } else {
                since + PATIENCE
            };
            match timeout_at(until, self.messages.next())
                .await
                .map_err(|_| CallError::TimedOut)??
            {
                Some(message) => return Ok(Some(message)),
                None if asked_again => return Ok(None),
                None => self.messages.begin_again(),
            }
            asked_again = true;
        }
        Ok(None)
    }
}

impl OwnerList {
    /// About how many are still to come.
    pub fn left(&self) -> u64 {
        self.0.messages.pending()
    }

    /// The next owners, at most `most`; none at the end.
    pub async fn next_page(&mut self, most: usize) -> Result<Vec<OwnerKey>, TruthError> {
        let mut page = Vec::new();
        while page.len() < most
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
    /// The next record and whose it is; `None` at the end. What is no record is passed over.
    pub async fn next(&mut self) -> Result<Option<(OwnerKey, Record)>, TruthError> {
        while let Some(message) = self.0.next().await? {
            let Some((owner, name)) = self.0.bucket.parse_subject(&message.subject) else {
                continue;
            };
            let info = message
                .info()
                .map_err(|_| TruthError::Unreadable("a message without its place"))?;
            match record(
                name,
                info.stream_sequence,
                taken_at(&info),
                message.payload.clone(),
            ) {
                Ok(record) => return Ok(Some((owner, record))),
                Err(error) => {
                    error!(%owner, sequence = info.stream_sequence, %error, "a record is passed over")
                }
            }
        }
        Ok(None)
    }
}
