//! Following the bucket in its own order, for the projection.

use super::append::{BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE};
use super::bucket::{Bucket, TruthError, record};
use super::consumer::{From, Plan};
use super::pull::Puller;
use crate::domain::Timestamp;
use crate::seal::{OwnerKey, Record};
use async_nats::jetstream;
use futures::FutureExt as _;
use std::time::Duration;
use tracing::error;

/// Bytes of records at which a batch ends: what stores it has a few seconds for it.
const BYTES: usize = 8 << 20;

/// One message of the bucket.
pub struct Entry {
    /// Its stream sequence.
    pub sequence: u64,
    /// Whose record it is, and the record; `None` for a barrier, which only moves the cursor, and for what is no record.
    pub record: Option<(OwnerKey, Record)>,
    /// The atomic batch that it belongs to, and whether it ends it.
    pub batch: Option<(String, bool)>,
    /// Its place in that batch, from 1.
    place: u64,
}

/// Gives the bucket's messages from a sequence on, each once and in order, through lost connections.
pub struct Follower {
    bucket: Bucket,
    messages: Puller,
    gathered: Vec<Entry>,
    /// Of the records gathered.
    bytes: usize,
    held: Option<Entry>,
    /// The sequence before which nothing is to come any more; `None` while that is not known.
    before: Option<u64>,
    /// What did not come before the entry that is held, and is to be looked for.
    missing: Option<u64>,
}

impl Bucket {
    /// Follows the bucket from the message after `sequence`.
    pub async fn follow(&self, sequence: u64) -> Result<Follower, TruthError> {
        self.follow_from(From::Sequence(sequence)).await
    }

    /// Follows the bucket from the first message that it took at that moment or later.
    pub async fn follow_since(&self, moment: Timestamp) -> Result<Follower, TruthError> {
        self.follow_from(From::Moment(moment)).await
    }

    async fn follow_from(&self, from: From) -> Result<Follower, TruthError> {
        let plan = Plan {
            name: "projection",
            from,
            filter: self.all_subjects(),
            headers_only: false,
            // Another one begins where this one stood.
            kept: Duration::from_secs(5),
        };
        let before = match plan.from {
            From::Sequence(sequence) => Some(sequence),
            From::Moment(_) | From::LastOfEach => None,
        };
        let messages = self.pull(plan).await?;
        Ok(Follower {
            bucket: self.clone(),
            messages,
            gathered: Vec::new(),
            bytes: 0,
            held: None,
            before,
            missing: None,
        })
    }
}

impl Follower {
    /// The next messages, at most about `most` and of about 8 MiB, never ending inside an atomic batch. Waits for the
    /// first one, then takes what is there. Loses nothing when it is dropped before it is ready.
    ///
    /// The end of a batch may have been overwritten since; so a batch also ends where another message follows it.
    pub async fn next_batch(&mut self, most: usize) -> Result<Vec<Entry>, TruthError> {
        loop {
            if let Some(missing) = self.missing
                && self.bucket.holds(missing).await?
            {
                return Err(TruthError::Unreadable(
                    "a batch without its beginning, which the bucket has",
                ));
            }
            self.missing = None;
            let open = open_batch(&self.gathered).map(str::to_owned);
            let entry = match self.held.take() {
                Some(entry) => entry,
                None => {
                    let next = self.messages.next();
                    let message = match self.gathered.is_empty() || open.is_some() {
                        true => next.await?,
                        false => match next.now_or_never() {
                            Some(message) => message?,
                            None => return Ok(self.give()),
                        },
                    };
                    let Some(message) = message else { continue };
                    let entry = self.entry(message)?;
                    self.missing = missing(self.before, &entry);
                    self.before = Some(entry.sequence);
                    self.held = Some(entry);
                    continue;
                }
            };
            let continues =
                open.is_some() && entry.batch.as_ref().map(|(id, _)| id) == open.as_ref();
            if (self.gathered.len() >= most || self.bytes >= BYTES) && !continues {
                self.held = Some(entry);
                return Ok(self.give());
            }
            self.bytes += entry
                .record
                .as_ref()
                .map_or(0, |(_, record)| record.value.len());
            self.gathered.push(entry);
        }
    }

    fn give(&mut self) -> Vec<Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.gathered)
    }

    fn entry(&self, message: jetstream::Message) -> Result<Entry, TruthError> {
        let info = message
            .info()
            .map_err(|_| TruthError::Unreadable("a message without its place"))?;
        let sequence = info.stream_sequence;
        let at = taken_at(&info);
        let batch = message.headers.as_ref().and_then(|headers| {
            Some((
                headers.get(BATCH_ID)?.as_str().to_owned(),
                headers.get(BATCH_COMMIT).is_some(),
            ))
        });
        let record = match self.bucket.parse_subject(&message.subject) {
            None => None,
            Some((owner, name)) => match record(name, sequence, at, message.payload.clone()) {
                Ok(record) => Some((owner, record)),
                // One record that nobody can read must not keep the others from their rows; who reads the owner notices.
                Err(error) => {
                    error!(%owner, sequence, %error, "the projection passes over a record");
                    None
                }
            },
        };
        let place = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(BATCH_SEQUENCE)?.as_str().parse().ok());
        Ok(Entry {
            sequence,
            record,
            batch,
            place: place.unwrap_or(1),
        })
    }
}

/// When the bucket took a message.
pub(super) fn taken_at(info: &jetstream::message::Info) -> Timestamp {
    Timestamp::from_millis((info.published.unix_timestamp_nanos() / 1_000_000) as i64)
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

/// The sequence of the member before this one of a batch, where that did not come though it was to: the server passed over
/// it, or it is no longer kept. Of everything else that does not come the owner's next record tells, by its `prev`.
fn missing(before: Option<u64>, entry: &Entry) -> Option<u64> {
    let member_before = entry.sequence.checked_sub(1)?;
    (entry.place > 1 && member_before > before?).then_some(member_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_batch_the_member_before_has_to_have_come() {
        let entry = |sequence, place| Entry {
            sequence,
            record: None,
            batch: None,
            place,
        };
        assert_eq!(missing(Some(9), &entry(12, 2)), Some(11));
        assert_eq!(missing(Some(10), &entry(11, 3)), None, "it came");
        assert_eq!(
            missing(Some(9), &entry(12, 1)),
            None,
            "it begins a batch, or is none"
        );
        assert_eq!(
            missing(Some(20), &entry(12, 2)),
            None,
            "it was not asked for"
        );
        assert_eq!(
            missing(None, &entry(12, 2)),
            None,
            "followed from a moment: it was before that"
        );
    }
}
