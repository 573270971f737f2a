//! A bare worker: the least that any worker has to do, and nothing else.
//!
//! It receives requests on the road of the real workers, as a worker of a shard of its own. A `get` asks
//! the bucket for the newest record of an owner, a `put` writes a record with a compare-and-set and its
//! row in Postgres, and both reply. There is no token, no cipher, no check, and no copy in memory. What
//! it reaches is the limit for every worker on this machine.

use super::bucket::RawBucket;
use crate::shard::{BareRow, BareRows};
use async_nats::{Client, Message};
use bytes::Bytes;
use futures::StreamExt as _;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// The operation that replies at once.
pub(super) const ECHO: &str = "echo";
/// The operation that asks for the newest record of an owner, and replies.
pub(super) const GET: &str = "get";
/// The operation that writes a record, and replies.
pub(super) const PUT: &str = "put";

/// The queue group in which workers receive requests.
const QUEUE: &str = "favorites";

/// A bare worker that runs until it is dropped.
pub(super) struct BareWorker {
    _running: AbortOnDropHandle<()>,
}

/// What a bare worker replies with.
struct Worker {
    front: Client,
    bucket: Arc<RawBucket>,
    rows: Arc<BareRows>,
    reply: Bytes,
}

impl BareWorker {
    /// Starts one that receives the requests below `subjects`, and replies with so many bytes.
    pub async fn start(
        front: Client,
        subjects: &str,
        bucket: Arc<RawBucket>,
        rows: Arc<BareRows>,
        reply_bytes: usize,
    ) -> anyhow::Result<Self> {
        let pattern = format!("{subjects}.*");
        let mut requests = front.queue_subscribe(pattern, QUEUE.into()).await?;
        front.flush().await?;

        let worker = Arc::new(Worker {
            front,
            bucket,
            rows,
            reply: vec![b'x'; reply_bytes].into(),
        });
        let running = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let worker = worker.clone();
                tokio::spawn(async move { worker.answer(request).await });
            }
        });
        Ok(Self {
            _running: AbortOnDropHandle::new(running),
        })
    }
}

impl Worker {
    async fn answer(&self, request: Message) {
        let Some(reply_to) = request.reply else {
            return;
        };
        let operation = request.subject.rsplit('.').next().unwrap_or_default();
        let is_done = match (operation, names(&request.payload)) {
            (GET, Some((owner, _))) => self.bucket.head(owner).await,
            (PUT, Some((owner, item))) => self.put(owner, item).await.unwrap_or(false),
            _ => operation == ECHO,
        };

        let reply = if is_done {
            self.reply.clone()
        } else {
            Bytes::new()
        };
        // A caller who gets no reply counts the request as unanswered.
        let _ = self.front.publish(reply_to, reply).await;
    }

    /// Writes a record and its row. Returns whether both are written.
    async fn put(&self, owner: usize, item: usize) -> Option<bool> {
        let version = self.bucket.compare_and_set(owner, item).await?;
        let row = BareRow {
            owner: owner.try_into().ok()?,
            item: item.try_into().ok()?,
            version: version.try_into().ok()?,
            body: self.bucket.record.clone(),
        };

        Some(self.rows.store(row).await)
    }
}

/// Writes the body of a request about an item.
pub(super) fn body(owner: usize, item: usize) -> String {
    format!("{owner} {item}")
}

/// Reads the body of a request.
fn names(body: &[u8]) -> Option<(usize, usize)> {
    let (owner, item) = std::str::from_utf8(body).ok()?.split_once(' ')?;

    Some((owner.parse().ok()?, item.parse().ok()?))
}
