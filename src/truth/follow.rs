//! Following the bucket in its own order.

use super::append::{BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE};
use super::bucket::{Bucket, parse_record};
use super::consumer::{Plan, StartAt};
use super::error::TruthError;
use super::pull::Puller;
use crate::domain::Timestamp;
use crate::seal::{OwnerKey, Record};
use async_nats::jetstream;
use futures::FutureExt as _;
use std::time::Duration;
use tracing::error;

/// Bytes of records at which a batch ends. The caller has only a few seconds to store a batch.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// One message of the bucket.
pub struct Entry {
    /// Its stream sequence.
    pub sequence: u64,
    /// The record and its owner; `None` for a barrier, which only moves the cursor, and for a
    /// message that is no record.
    pub record: Option<(OwnerKey, Record)>,
    /// The owner of a message that has the key of a record, and is none that this version can read.
    pub unreadable: Option<OwnerKey>,
    /// The id of the atomic batch that it belongs to, and whether it is the last of that batch.
    pub batch: Option<(String, bool)>,
    /// Its position in that batch, from 1.
    batch_position: u64,
}

/// Returns the bucket's messages from a sequence on, each once and in order, across lost
/// connections.
pub struct Follower {
    bucket: Bucket,
    messages: Puller,
    gathered: Vec<Entry>,
    /// Bytes of the gathered records.
    bytes: usize,
    /// An entry that came, and is not gathered yet.
    held: Option<Entry>,
    /// The sequence up to which everything has come; `None` while that is not known.
    reached: Option<u64>,
    /// The sequence of a batch member that did not come before `held`. The bucket is asked for it.
    missing: Option<u64>,
}

impl Bucket {
    /// Follows the bucket from the message after `sequence`.
    pub async fn follow(&self, sequence: u64) -> Result<Follower, TruthError> {
        self.follow_from(StartAt::Sequence(sequence)).await
    }

    /// Follows the bucket from the first message that it stored at that moment or later.
    pub async fn follow_since(&self, moment: Timestamp) -> Result<Follower, TruthError> {
        self.follow_from(StartAt::Time(moment)).await
    }

    async fn follow_from(&self, start: StartAt) -> Result<Follower, TruthError> {
        let plan = Plan {
            name: "projection",
            start,
            filter: None,
            headers_only: false,
            ends: false,
            // Short, because another consumer can begin where this one stopped.
            inactive_threshold: Duration::from_secs(5),
        };
        let reached = match plan.start {
            StartAt::Sequence(sequence) => Some(sequence),
            StartAt::Time(_) => None,
        };
        let messages = self.pull(plan).await?;

        Ok(Follower {
            bucket: self.clone(),
            messages,
            gathered: Vec::new(),
            bytes: 0,
            held: None,
            reached,
            missing: None,
        })
    }
}

impl Follower {
    /// Returns the next messages: about `limit` and about 8 MiB at most. Waits for the first
    /// message, then takes those that are there. Loses nothing if it is dropped before it is ready.
    ///
    /// The result never ends inside an atomic batch. The end of a batch may have been overwritten
    /// since; so a batch also ends where another message follows it.
    ///
    /// # Errors
    ///
    /// [`TruthError::Unreadable`] if the server skipped a batch member that the bucket has.
    pub async fn next_batch(&mut self, limit: usize) -> Result<Vec<Entry>, TruthError> {
        loop {
            if let Some(missing) = self.missing
                && self.bucket.has_message_at(missing).await?
            {
                return Err(TruthError::Unreadable(
                    "a batch without one of its members, which the bucket has",
                ));
            }
            self.missing = None;

            let open = open_batch(&self.gathered).map(str::to_owned);
            let Some(entry) = self.held.take() else {
                let next = self.messages.next();
                let message = if self.gathered.is_empty() || open.is_some() {
                    next.await?
                } else {
                    match next.now_or_never() {
                        Some(message) => message?,
                        None => return Ok(self.take_gathered()),
                    }
                };
                let Some(message) = message else { continue };

                let entry = self.parse_entry(message)?;
                self.missing = missing_before(self.reached, &entry);
                self.reached = Some(entry.sequence);
                self.held = Some(entry);
                continue;
            };

            let continues =
                open.is_some() && entry.batch.as_ref().map(|(id, _)| id) == open.as_ref();
            let is_full = self.gathered.len() >= limit || self.bytes >= BATCH_BYTES_MAX;
            if is_full && !continues {
                self.held = Some(entry);
                return Ok(self.take_gathered());
            }

            self.bytes += entry
                .record
                .as_ref()
                .map_or(0, |(_, record)| record.value.len());
            self.gathered.push(entry);
        }
    }

    /// About how many messages are still to come, those that were gathered not included.
    pub fn behind(&self) -> u64 {
        self.messages.pending()
    }

    /// Whether the bucket had nothing newer than the last entry that was returned when it sent that.
    pub fn is_at_end(&self) -> bool {
        self.gathered.is_empty() && self.held.is_none() && self.messages.pending() == 0
    }

    /// How often it had to begin again, with another consumer. The bucket of that one may be another, too.
    pub fn restarts(&self) -> u64 {
        self.messages.earlier_consumers()
    }

    fn take_gathered(&mut self) -> Vec<Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.gathered)
    }

    fn parse_entry(&self, message: jetstream::Message) -> Result<Entry, TruthError> {
        let info = message
            .info()
            .map_err(|_| TruthError::Unreadable("a message without metadata"))?;
        let sequence = info.stream_sequence;
        let at = stored_at(&info);

        let batch = message.headers.as_ref().and_then(|headers| {
            Some((
                headers.get(BATCH_ID)?.as_str().to_owned(),
                headers.get(BATCH_COMMIT).is_some(),
            ))
        });
        let batch_position = batch_position(&message);

        let (record, unreadable) = match self.bucket.parse_subject(&message.subject) {
            None => (None, None),
            Some((owner, name)) => {
                match parse_record(name, sequence, at, &message.payload) {
                    Ok(record) => (Some((owner, record)), None),
                    // One unreadable record must not keep the others from their rows. A reader of
                    // the owner notices that it is missing.
                    Err(error) => {
                        error!(%owner, sequence, %error, "cannot read a record, skipping it");
                        (None, Some(owner))
                    }
                }
            }
        };

        Ok(Entry {
            sequence,
            record,
            unreadable,
            batch,
            batch_position,
        })
    }
}

/// When the bucket stored a message.
pub(super) fn stored_at(info: &jetstream::message::Info) -> Timestamp {
    Timestamp::from_millis((info.published.unix_timestamp_nanos() / 1_000_000) as i64)
}

/// The position of a message in its atomic batch, from 1; 1 if it is in none.
pub(super) fn batch_position(message: &jetstream::Message) -> u64 {
    let headers = message.headers.as_ref();
    let position = headers.and_then(|headers| headers.get(BATCH_SEQUENCE)?.as_str().parse().ok());

    position.unwrap_or(1)
}

/// The atomic batch in which the entries end, if they end inside one.
fn open_batch(entries: &[Entry]) -> Option<&str> {
    entries
        .last()?
        .batch
        .as_ref()
        .filter(|(_, ended)| !ended)
        .map(|(id, _)| id.as_str())
}

/// Returns the sequence of the batch member before `entry` if it should have come after `reached`,
/// and did not: the server skipped it, or it is no longer kept. Any other gap shows in the owner's
/// next record, by its `prev`.
fn missing_before(reached: Option<u64>, entry: &Entry) -> Option<u64> {
    let member_before = entry.sequence.checked_sub(1)?;
    (entry.batch_position > 1 && member_before > reached?).then_some(member_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_member_of_a_batch_is_noticed() {
        let entry = |sequence, batch_position| Entry {
            sequence,
            record: None,
            unreadable: None,
            batch: None,
            batch_position,
        };

        assert_eq!(missing_before(Some(9), &entry(12, 2)), Some(11));
        assert_eq!(missing_before(Some(10), &entry(11, 3)), None, "it came");
        assert_eq!(
            missing_before(Some(9), &entry(12, 1)),
            None,
            "the entry begins a batch, or is in none"
        );
        assert_eq!(
            missing_before(Some(20), &entry(12, 2)),
            None,
            "it was not asked for"
        );
        assert_eq!(
            missing_before(None, &entry(12, 2)),
            None,
            "the follower began at a moment, and the member was before it"
        );
    }
}
