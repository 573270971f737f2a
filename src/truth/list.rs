//! Who has anything in the bucket: their key records, without what those hold.

use super::bucket::{Bucket, TruthFault};
use crate::exchange::CallFault;
use crate::seal::{OwnerKey, RecordName};
use async_nats::jetstream::{self, consumer::DeliverPolicy, consumer::pull};
use futures::StreamExt as _;
use tokio::time::timeout_at;

/// Gives the bucket's owners, each once if the connection holds, in no order.
pub struct OwnerList {
    bucket: Bucket,
    messages: pull::Ordered,
    /// Messages that are still to come.
    left: u64,
}

impl Bucket {
    /// Begins to list the owners that the bucket has now.
    pub async fn list_owners(&self) -> Result<OwnerList, TruthFault> {
        let context = jetstream::new(self.exchange.client().clone());
        let config = pull::OrderedConfig {
            name: Some(format!("owners-{}", uuid::Uuid::now_v7().simple())),
            deliver_policy: DeliverPolicy::LastPerSubject,
            filter_subject: format!("$KV.{}.*.{}", self.settings.bucket, RecordName::Key),
            headers_only: true,
            ..Default::default()
        };
        let opening = async {
            let stream = context.get_stream_no_info(self.stream()).await.map_err(|e| e.to_string())?;
            let consumer = stream.create_consumer(config).await.map_err(|e| e.to_string())?;
            let left = consumer.cached_info().num_pending;
            Ok((consumer.messages().await.map_err(|e| e.to_string())?, left))
        };
        let (messages, left) = timeout_at(self.deadline(), opening)
            .await
            .map_err(|_| CallFault::TimedOut)?
            .map_err(TruthFault::Refused)?;
        Ok(OwnerList { bucket: self.clone(), messages, left })
    }
}

impl OwnerList {
    /// About how many are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next owners, at most `most`; none at the end.
    pub async fn next_page(&mut self, most: usize) -> Result<Vec<OwnerKey>, TruthFault> {
        let mut page = Vec::new();
        while self.left > 0 && page.len() < most {
            let message = timeout_at(self.bucket.deadline(), self.messages.next()).await;
            let message = message
                .map_err(|_| CallFault::TimedOut)?
                .ok_or(TruthFault::Unreadable("the end of the bucket's keys"))?
                .map_err(|fault| TruthFault::Refused(fault.to_string()))?;
            let info = message.info().map_err(|_| TruthFault::Unreadable("a message without its place"))?;
            self.left = info.pending;
            page.extend(self.bucket.parse_subject(&message.subject).map(|(owner, _)| owner));
        }
        Ok(page)
    }
}
