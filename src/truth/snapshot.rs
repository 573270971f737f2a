//! Snapshots of the bucket's stream: taking one, and restoring one, over the JetStream API.
//!
//! A snapshot is an archive that the server makes and reads. Here its bytes only pass through. The
//! server sends it in chunks, each with a reply subject that names the chunk's number, and continues
//! when chunks are acknowledged.
//!
//! The server walks the stream while others write to it, up to the sequence that was the newest when
//! it began. What is dropped before it comes by, because its key was written to often or its
//! deletion was forgotten, is not in the snapshot, and neither is what replaced it. So a snapshot is
//! [complete](Bucket::is_complete) only if no record can have been dropped.

use super::api::ApiError;
use super::bucket::Bucket;
use super::error::TruthError;
use super::follow::batch_position;
use super::lineage::Lineage;
use super::setup::{SetupError, Stored};
use crate::requester::CallError;
use crate::seal::{OwnerKey, RecordName};
use async_nats::{Client, HeaderMap, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The size of a chunk, in bytes. It fits into every server's `max_payload`.
pub const CHUNK_BYTES: usize = 128 << 10;

/// How long the server may take to begin a snapshot or a restore.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the next chunk may take, in either direction.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to serve a restored stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(600);

/// The status with which a complete snapshot ends.
const COMPLETE: u16 = 204;

/// The error of a snapshot that ended too early, or of which a chunk is missing.
const INTERRUPTED: TruthError = TruthError::Unreadable("the server broke the snapshot off");

/// A snapshot that the server is sending.
pub struct Snapshot {
    /// The bucket as it is in the snapshot.
    pub stored: Stored,
    client: Client,
    chunks: Subscriber,
    /// The acknowledged chunks.
    received: u64,
}

/// A restore that the server is receiving.
pub struct Restore {
    bucket: Bucket,
    subject: String,
}

#[derive(Deserialize)]
struct SnapshotReply {
    error: Option<ApiError>,
    config: Option<Value>,
    state: Option<Value>,
}

#[derive(Deserialize)]
struct RestoreReply {
    error: Option<ApiError>,
    #[serde(default)]
    deliver_subject: String,
}

/// The server's answer to a chunk: empty, or an error.
#[derive(Deserialize)]
struct ChunkReply {
    error: Option<ApiError>,
}

impl Bucket {
    /// Begins a snapshot. The server checks each record's checksum when it reads it.
    pub async fn snapshot(&self) -> Result<Snapshot, SetupError> {
        let created = self.position().await?.created;
        let client = self.requester.client();
        let inbox = client.new_inbox();
        let chunks = client
            .subscribe(inbox.clone())
            .await
            .map_err(|_| TruthError::from(CallError::NotConnected))?;

        let request = json!({
            "deliver_subject": inbox,
            "no_consumers": true,
            "chunk_size": CHUNK_BYTES,
        });
        let reply: SnapshotReply = self
            .api_until("STREAM.SNAPSHOT", &request, Instant::now() + BEGIN_TIMEOUT)
            .await?;
        if let Some(error) = reply.error {
            return Err(TruthError::from(error).into());
        }

        let (Some(config), Some(state)) = (reply.config, reply.state) else {
            return Err(TruthError::Unreadable("a snapshot without a description").into());
        };
        Ok(Snapshot {
            stored: Stored {
                created,
                config,
                state,
            },
            client,
            chunks,
            received: 0,
        })
    }

    /// Returns whether a snapshot up to `newest`, which has just ended, has every record that was
    /// current then: since then no key was written so often that its earlier records were dropped,
    /// no deletion was forgotten, and no batch was under way.
    pub async fn is_complete(&self, newest: u64) -> Result<bool, TruthError> {
        // From the newest one itself on, so that a missing permission shows in every backup.
        let before = newest.saturating_sub(1);
        let mut messages = self.list("backup", before, None, true).await?;

        let history = self.settings.history.unsigned_abs();
        let mut written: HashMap<(OwnerKey, RecordName), u64> = HashMap::new();
        while let Some(message) = messages.next().await? {
            let info = message
                .info()
                .map_err(|_| TruthError::Unreadable("a message without metadata"))?;
            if info.stream_sequence <= newest {
                continue;
            }
            if info.stream_sequence == newest + 1 && batch_position(&message) > 1 {
                return Ok(false);
            }

            let Some((owner, name)) = self.parse_subject(&message.subject) else {
                continue;
            };
            let is_floor = name == RecordName::Floor;
            let times = written.entry((owner, name)).or_default();
            *times += 1;
            // All records of the key that are kept now may be newer than the snapshot. Before a
            // deletion is forgotten, the owner's floor is written.
            if *times >= history || is_floor {
                return Ok(false);
            }
        }

        Ok(true)
    }

    /// Begins to restore a snapshot of the bucket that `stored` describes. The stream gets the
    /// settings of the snapshot, except for the number of replicas, which the settings here have.
    /// `is_complete` is what [`is_complete`](Self::is_complete) returned for it.
    ///
    /// # Errors
    ///
    /// Fails if there is a bucket: nothing here deletes one.
    pub async fn restore(&self, stored: &Stored, is_complete: bool) -> Result<Restore, SetupError> {
        let mut config = stored.config.clone();
        config["num_replicas"] = self.settings.replicas.into();
        let newest = stored.last_sequence();
        let complete_to = if is_complete { newest } else { 0 };
        Lineage::extend(&mut config, &stored.created, complete_to, newest);

        let request = json!({ "config": config, "state": stored.state });
        let reply: RestoreReply = self
            .api_until("STREAM.RESTORE", &request, Instant::now() + BEGIN_TIMEOUT)
            .await?;
        if let Some(error) = reply.error {
            return Err(TruthError::from(error).into());
        }

        Ok(Restore {
            bucket: self.clone(),
            subject: reply.deliver_subject,
        })
    }
}

impl Snapshot {
    /// Returns the next chunk, and acknowledges it; `None` at the end of a complete snapshot.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, TruthError> {
        let chunk = timeout(CHUNK_TIMEOUT, self.chunks.next())
            .await
            .map_err(|_| CallError::TimedOut)?
            .ok_or(CallError::NotConnected)?;

        if chunk.payload.is_empty() {
            // A snapshot of one chunk ends without a status.
            let is_complete = match chunk.status {
                Some(status) => status.as_u16() == COMPLETE,
                None => self.received == 0,
            };
            return if is_complete {
                Ok(None)
            } else {
                Err(INTERRUPTED)
            };
        }

        // Only the last chunk, which is shorter, is not acknowledged.
        let Some(reply) = chunk.reply else {
            return Ok(Some(chunk.payload));
        };
        self.received += 1;
        if chunk_number(&reply) != Some(self.received) {
            return Err(INTERRUPTED);
        }

        self.client
            .publish(reply, Bytes::new())
            .await
            .map_err(|_| CallError::NotConnected)?;
        Ok(Some(chunk.payload))
    }
}

/// Returns the number of a chunk, from 1: the last token of its reply subject.
fn chunk_number(reply: &str) -> Option<u64> {
    reply.rsplit('.').next()?.parse().ok()
}

impl Restore {
    /// Sends the next chunk, and waits until the server has taken it.
    pub async fn send(&self, chunk: Bytes) -> Result<(), TruthError> {
        self.deliver(chunk, CHUNK_TIMEOUT).await
    }

    /// Ends the restore, and waits until the server serves the restored stream.
    pub async fn finish(self) -> Result<(), TruthError> {
        self.deliver(Bytes::new(), OPEN_TIMEOUT).await
    }

    async fn deliver(&self, chunk: Bytes, limit: Duration) -> Result<(), TruthError> {
        let subject = self.subject.clone();
        let reply = self
            .bucket
            .requester
            .ask(subject, HeaderMap::new(), chunk, Instant::now() + limit)
            .await?;
        if reply.payload.is_empty() {
            return Ok(());
        }

        let reply: ChunkReply = serde_json::from_slice(&reply.payload)
            .map_err(|_| TruthError::Unreadable("an answer to a restore"))?;
        reply.error.map_or(Ok(()), |error| Err(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_chunk_is_the_end_of_its_reply_subject() {
        let reply = "$JS.SNAPSHOT.ACK.KV_favorites.94p1Wq1jE4rEabzvPfivaY.131072.7";

        assert_eq!(chunk_number(reply), Some(7));
        assert_eq!(chunk_number("$JS.SNAPSHOT.ACK.x"), None);
    }
}
