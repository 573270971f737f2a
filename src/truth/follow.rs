//! Following the bucket in its own order, for the projection.

use super::append::{BATCH_COMMIT, BATCH_ID};
use super::bucket::{Bucket, TruthFault, record};
use crate::domain::Timestamp;
use crate::seal::{OwnerKey, Record};
use async_nats::jetstream::{self, consumer::DeliverPolicy, consumer::pull};
use futures::{FutureExt as _, StreamExt as _};
use tracing::error;

/// One message of the bucket.
pub struct Entry {
    /// Its stream sequence.
    pub sequence: u64,
    /// Whose record it is, and the record; `None` for a barrier, which only moves the cursor, and for what is no record.
    pub record: Option<(OwnerKey, Record)>,
    /// The atomic batch that it belongs to, and whether it ends it.
    pub batch: Option<(String, bool)>,
}

/// Gives the bucket's messages from a sequence on, each once and in order, through lost connections.
pub struct Follower {
    bucket: Bucket,
    messages: pull::Ordered,
    /// The newest sequence given so far: a consumer that the client makes anew may begin before it.
    given: u64,
    gathered: Vec<Entry>,
    held: Option<Entry>,
}

/// What one look at the bucket gave.
type Message = Result<jetstream::Message, pull::OrderedError>;

impl Bucket {
    /// Follows the bucket from the message after `sequence`.
    pub async fn follow(&self, sequence: u64) -> Result<Follower, TruthFault> {
        self.follow_from(DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 }, sequence).await
    }

    /// Follows the bucket from the first message that it took at that moment or later.
    pub async fn follow_since(&self, moment: Timestamp) -> Result<Follower, TruthFault> {
        let nanos = i128::from(moment.millis()) * 1_000_000;
        let start_time = time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .map_err(|_| TruthFault::Unreadable("a moment that never was"))?;
        self.follow_from(DeliverPolicy::ByStartTime { start_time }, 0).await
    }

    async fn follow_from(&self, deliver_policy: DeliverPolicy, given: u64) -> Result<Follower, TruthFault> {
        let context = self.context();
        let config = pull::OrderedConfig {
            // A name, because a worker may make named consumers of this bucket only.
            name: Some(format!("projection-{}", uuid::Uuid::now_v7().simple())),
            deliver_policy,
            filter_subject: self.all_subjects(),
            ..Default::default()
        };
        let opening = async {
            let stream = context.get_stream_no_info(self.stream()).await.map_err(|e| e.to_string())?;
            let consumer = stream.create_consumer(config).await.map_err(|e| e.to_string())?;
            consumer.messages().await.map_err(|e| e.to_string())
        };
        let messages = tokio::time::timeout_at(self.deadline(), opening)
            .await
            .map_err(|_| crate::exchange::CallFault::TimedOut)?
            .map_err(TruthFault::Refused)?;
        Ok(Follower { bucket: self.clone(), messages, given, gathered: Vec::new(), held: None })
    }
}

impl Follower {
    /// The next messages, at most about `most`, never ending inside an atomic batch. Waits for the first one, then
    /// takes what is there. Loses nothing when it is dropped before it is ready.
    ///
    /// The end of a batch may have been overwritten since; so a batch also ends where another message follows it.
    pub async fn next_batch(&mut self, most: usize) -> Result<Vec<Entry>, TruthFault> {
        loop {
            let open = open_batch(&self.gathered).map(str::to_owned);
            let entry = match self.held.take() {
                Some(entry) => entry,
                None => {
                    let message = match self.gathered.is_empty() || open.is_some() {
                        true => self.messages.next().await,
                        false => match self.messages.next().now_or_never() {
                            Some(message) => message,
                            None => return Ok(std::mem::take(&mut self.gathered)),
                        },
                    };
                    let entry = self.entry(message)?;
                    if entry.sequence <= self.given {
                        continue;
                    }
                    self.given = entry.sequence;
                    entry
                }
            };
            let continues = open.is_some() && entry.batch.as_ref().map(|(id, _)| id) == open.as_ref();
            if self.gathered.len() >= most && !continues {
                self.held = Some(entry);
                return Ok(std::mem::take(&mut self.gathered));
            }
            self.gathered.push(entry);
        }
    }

    fn entry(&self, message: Option<Message>) -> Result<Entry, TruthFault> {
        let message = message
            .ok_or(TruthFault::Unreadable("the end of the bucket's messages"))?
            .map_err(|fault| TruthFault::Refused(fault.to_string()))?;
        let info = message.info().map_err(|_| TruthFault::Unreadable("a message without its place"))?;
        let sequence = info.stream_sequence;
        let at = taken_at(&info);
        let batch = message.headers.as_ref().and_then(|headers| {
            Some((headers.get(BATCH_ID)?.as_str().to_owned(), headers.get(BATCH_COMMIT).is_some()))
        });
        let record = match self.bucket.parse_subject(&message.subject) {
            None => None,
            Some((owner, name)) => match record(name, sequence, at, message.payload.clone()) {
                Ok(record) => Some((owner, record)),
                // One record that nobody can read must not keep the others from their rows; who reads the owner notices.
                Err(fault) => {
                    error!(%owner, sequence, %fault, "the projection passes over a record");
                    None
                }
            },
        };
        Ok(Entry { sequence, record, batch })
    }
}

/// When the bucket took a message.
pub(super) fn taken_at(info: &jetstream::message::Info) -> Timestamp {
    Timestamp::from_millis((info.published.unix_timestamp_nanos() / 1_000_000) as i64)
}

/// The atomic batch in which the entries end, if they end inside one.
fn open_batch(entries: &[Entry]) -> Option<&str> {
    entries.last()?.batch.as_ref().filter(|(_, ended)| !ended).map(|(id, _)| id.as_str())
}
