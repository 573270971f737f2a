//! What the bucket has now, key by key: its owners, and whose deletions are old.

use super::bucket::{Bucket, TruthFault, record};
use super::follow::taken_at;
use crate::exchange::CallFault;
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::jetstream::{self, consumer::DeliverPolicy, consumer::pull};
use futures::StreamExt as _;
use tokio::time::timeout_at;
use tracing::error;

/// The current message of each key, once if the connection holds, in the order of their sequences.
struct Current {
    bucket: Bucket,
    messages: pull::Ordered,
    /// Messages that are still to come.
    left: u64,
}

/// Gives the bucket's owners, each once if the connection holds, in no order.
pub struct OwnerList(Current);

/// Gives the bucket's current records.
pub struct RecordList(Current);

impl Bucket {
    /// Begins to list the owners that the bucket has now.
    pub async fn list_owners(&self) -> Result<OwnerList, TruthFault> {
        let filter = format!("{}.*.{}", self.root(), RecordName::Key);
        Ok(OwnerList(self.list_current("owners", filter, true).await?))
    }

    /// Begins to list the records that the bucket has now, of every owner.
    pub async fn list_records(&self) -> Result<RecordList, TruthFault> {
        Ok(RecordList(self.list_current("records", format!("{}.*.*", self.root()), false).await?))
    }

    async fn list_current(&self, what: &str, filter: String, headers_only: bool) -> Result<Current, TruthFault> {
        let config = pull::OrderedConfig {
            name: Some(format!("{what}-{}", uuid::Uuid::now_v7().simple())),
            deliver_policy: DeliverPolicy::LastPerSubject,
            filter_subject: filter,
            headers_only,
            ..Default::default()
        };
        let opening = async {
            let stream = self.context().get_stream_no_info(self.stream()).await.map_err(|e| e.to_string())?;
            let consumer = stream.create_consumer(config).await.map_err(|e| e.to_string())?;
            let left = consumer.cached_info().num_pending;
            Ok((consumer.messages().await.map_err(|e| e.to_string())?, left))
        };
        let (messages, left) = timeout_at(self.deadline(), opening)
            .await
            .map_err(|_| CallFault::TimedOut)?
            .map_err(TruthFault::Refused)?;
        Ok(Current { bucket: self.clone(), messages, left })
    }
}

impl Current {
    async fn next(&mut self) -> Result<Option<jetstream::Message>, TruthFault> {
        if self.left == 0 {
            return Ok(None);
        }
        let message = timeout_at(self.bucket.deadline(), self.messages.next()).await;
        let message = message
            .map_err(|_| CallFault::TimedOut)?
            .ok_or(TruthFault::Unreadable("the end of the bucket's keys"))?
            .map_err(|fault| TruthFault::Refused(fault.to_string()))?;
        self.left = message.info().map_err(|_| TruthFault::Unreadable("a message without its place"))?.pending;
        Ok(Some(message))
    }
}

impl OwnerList {
    /// About how many are still to come.
    pub fn left(&self) -> u64 {
        self.0.left
    }

    /// The next owners, at most `most`; none at the end.
    pub async fn next_page(&mut self, most: usize) -> Result<Vec<OwnerKey>, TruthFault> {
        let mut page = Vec::new();
        while page.len() < most
            && let Some(message) = self.0.next().await?
        {
            page.extend(self.0.bucket.parse_subject(&message.subject).map(|(owner, _)| owner));
        }
        Ok(page)
    }
}

impl RecordList {
    /// The next record and whose it is; `None` at the end. What is no record is passed over.
    pub async fn next(&mut self) -> Result<Option<(OwnerKey, Record)>, TruthFault> {
        while let Some(message) = self.0.next().await? {
            let Some((owner, name)) = self.0.bucket.parse_subject(&message.subject) else { continue };
            let info = message.info().map_err(|_| TruthFault::Unreadable("a message without its place"))?;
            match record(name, info.stream_sequence, taken_at(&info), message.payload.clone()) {
                Ok(record) => return Ok(Some((owner, record))),
                Err(fault) => error!(%owner, sequence = info.stream_sequence, %fault, "a record is passed over"),
            }
        }
        Ok(None)
    }
}
