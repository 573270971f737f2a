//! Reading: what an owner has, what is newer than a copy, and what an item was.

use super::bucket::{Bucket, TruthError, admitted, ended, record};
use super::settings::DIRECT_GET;
use crate::domain::{Timestamp, Version};
use crate::requester::{Call, CallError};
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::{HeaderMap, Message};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// The most records of one key that a bucket can keep.
const HISTORY: usize = 64;
/// Bytes of one answer, about. Left to itself the server sends as much in one go as it keeps for a connection, and ends it.
const BYTES: u64 = 2 << 20;

/// An owner's records that are newer than a version, and how far that answer reaches.
#[derive(Debug)]
pub struct Delta {
    /// The current records among those newer than asked, in the order of their versions.
    pub records: Vec<Record>,
    /// The stream sequence up to which this is complete; `None` for an owner without any record.
    pub up_to: Option<Version>,
    /// How many more there are than one answer could hold.
    pending: u64,
}

impl Bucket {
    /// What the nearest replica has of the owner that is newer than `after`.
    pub async fn since(&self, owner: &OwnerKey, after: Version) -> Result<Delta, TruthError> {
        self.last_of(vec![self.owner_subjects(owner)], after.get() + 1)
            .await
    }

    /// As [`since`](Self::since), holds everything that was acknowledged anywhere before the call, and besides what the
    /// truth has at `after` itself: where that is not there and nothing newer is, history was lost.
    pub async fn since_confirmed(
        &self,
        owner: &OwnerKey,
        after: Version,
    ) -> Result<Delta, TruthError> {
        let barrier = self.publish_barrier().await?;
        self.since_reaching(owner, after, barrier).await
    }

    /// The owner's records from version `after` on, reaching at least the stream sequence `least`.
    async fn since_reaching(
        &self,
        owner: &OwnerKey,
        after: Version,
        least: u64,
    ) -> Result<Delta, TruthError> {
        let subjects = vec![self.owner_subjects(owner), self.barrier.subject.clone()];
        let end = self.deadline();
        loop {
            let delta = self.last_of(subjects.clone(), after.get()).await?;
            if delta.up_to.is_some_and(|up_to| up_to.get() >= least) {
                return Ok(delta);
            }
            ask_again(end).await?;
        }
    }

    /// When the record at that stream sequence was stored; `None` if it is no longer kept.
    pub async fn time_of(&self, sequence: u64) -> Result<Option<Timestamp>, TruthError> {
        self.message_at(sequence)
            .await?
            .map(|message| time_of(&message))
            .transpose()
    }

    /// The owner's record of that version, which the truth once gave; `None` if it is no longer kept, or another's. A
    /// replica that is behind does not tell: it is asked again until it has what came at that version or after it.
    pub async fn record_at(
        &self,
        owner: &OwnerKey,
        version: Version,
    ) -> Result<Option<Record>, TruthError> {
        let sequence = version.get();
        let message = self.from(sequence).await?;
        let ours = header(&message, "Nats-Subject").and_then(|subject| self.parse_subject(subject));
        let is_it = number(&message, "Nats-Sequence") == Some(sequence);
        if !is_it || ours.is_none_or(|(whose, _)| whose != *owner) {
            return Ok(None);
        }
        self.record_of(&message)
    }

    /// Whether there is a message at that stream sequence.
    pub(super) async fn holds(&self, sequence: u64) -> Result<bool, TruthError> {
        Ok(number(&self.from(sequence).await?, "Nats-Sequence") == Some(sequence))
    }

    /// The first message from that stream sequence on. A replica that has none is behind, and is asked again.
    async fn from(&self, sequence: u64) -> Result<Message, TruthError> {
        let end = self.deadline();
        loop {
            match self
                .message(json!({ "seq": sequence, "next_by_subj": ">" }))
                .await?
            {
                Some(message) => return Ok(message),
                None => ask_again(end).await?,
            }
        }
    }

    /// The message at that stream sequence; `None` if the nearest replica does not have it.
    async fn message_at(&self, sequence: u64) -> Result<Option<Message>, TruthError> {
        self.message(json!({ "seq": sequence })).await
    }

    async fn message(&self, query: Value) -> Result<Option<Message>, TruthError> {
        let attempt = admitted(&self.reading)?;
        let subject = self.api_subject(DIRECT_GET);
        let asked = self
            .requester
            .ask(
                subject,
                HeaderMap::new(),
                query.to_string().into(),
                self.deadline(),
            )
            .await;
        let reply = ended(attempt, asked, false)?;
        Ok(if reply.status.is_none() {
            Some(reply)
        } else {
            None
        })
    }

    /// The kept records of one item that are newer than `after`, oldest first. They reach `current`, its record as it is
    /// known: what a replica has that is behind would lack some, and nobody could tell. Only of an item that was purged
    /// since there may be fewer, or none.
    ///
    /// The subject is literal: a wildcard would make the server scan the stream to its end.
    pub async fn history(
        &self,
        owner: &OwnerKey,
        name: &RecordName,
        after: Version,
        current: Version,
    ) -> Result<Vec<Record>, TruthError> {
        let subject = self.subject(owner, name);
        let end = self.deadline();
        loop {
            let kept = self.kept(&subject, after).await?;
            let reached = kept.last().map_or(after, |last| last.version);
            if reached >= current || self.is_purged(&subject, current).await? {
                return Ok(kept);
            }
            ask_again(end).await?;
        }
    }

    /// What the nearest replica keeps of that subject and is newer than `after`.
    async fn kept(&self, subject: &str, after: Version) -> Result<Vec<Record>, TruthError> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let from = records.last().map_or(after, |last| last.version).get() + 1;
            let batch = HISTORY - records.len();
            let query =
                json!({ "next_by_subj": subject, "seq": from, "batch": batch, "max_bytes": BYTES });
            let next = self.direct_get(&query).await?;
            let more = next.pending > 0 && !next.records.is_empty();
            records.extend(next.records);
            if !more || records.len() >= HISTORY {
                return Ok(records);
            }
        }
    }

    /// Whether a replica that has come as far as `current` has no record of that subject from there on.
    async fn is_purged(&self, subject: &str, current: Version) -> Result<bool, TruthError> {
        let subjects = vec![subject.to_owned(), self.barrier.subject.clone()];
        let delta = self.last_of(subjects, current.get()).await?;
        Ok(delta.records.is_empty() && delta.up_to.is_some_and(|up_to| up_to >= current))
    }

    /// The current records of those subjects from the stream sequence `from` on. One answer holds so many bytes at most;
    /// what is left comes with the next, of a moment that is not earlier: from a replica that is behind it is not taken.
    async fn last_of(&self, subjects: Vec<String>, from: u64) -> Result<Delta, TruthError> {
        let mut query = json!({ "multi_last": subjects, "max_bytes": BYTES });
        if from > 1 {
            query["seq"] = Value::from(from);
        }
        let mut whole = self.direct_get(&query).await?;
        let mut end = self.deadline();
        while let (Some(last), true) = (whole.records.last(), whole.pending > 0) {
            query["seq"] = Value::from(last.version.get() + 1);
            let next = self.direct_get(&query).await?;
            if next.up_to < whole.up_to {
                ask_again(end).await?;
                continue;
            }
            let over = next.records.is_empty();
            whole.records.extend(next.records);
            (whole.up_to, whole.pending, end) = (next.up_to, next.pending, self.deadline());
            if over {
                break;
            }
        }
        Ok(whole)
    }

    /// A direct get of several messages (NATS ADR-31): messages, then an end mark that says how far they reach.
    async fn direct_get(&self, query: &Value) -> Result<Delta, TruthError> {
        let subject = self.api_subject(DIRECT_GET);
        let payload = query.to_string().into();
        let attempt = admitted(&self.reading)?;
        let deadline = self.deadline();
        let answer = async {
            let mut call = self
                .requester
                .send(subject, HeaderMap::new(), payload, deadline)
                .await?;
            self.collect(&mut call).await
        };
        let answer = answer.await;
        match &answer {
            Err(TruthError::Unavailable(_)) => attempt.unanswered(),
            _ => attempt.answered(),
        }
        let mut delta = answer?;
        delta.records.sort_by_key(|record| record.version);
        Ok(delta)
    }

    async fn collect(&self, call: &mut Call) -> Result<Delta, TruthError> {
        let mut records = Vec::new();
        loop {
            let message = call.next().await?;
            // An answer of many large messages takes its time: what is away sends none at all.
            call.extend(self.deadline());
            match message.status.map(|status| status.as_u16()) {
                None => records.extend(self.record_of(&message)?),
                Some(204) => {
                    let up_to = number(&message, "Nats-UpTo-Sequence").and_then(Version::new);
                    let pending = number(&message, "Nats-Num-Pending").unwrap_or_default();
                    return Ok(Delta {
                        records,
                        up_to,
                        pending,
                    });
                }
                Some(404) => {
                    return Ok(Delta {
                        records,
                        up_to: None,
                        pending: 0,
                    });
                }
                Some(status) => {
                    let description = message.description.as_deref().unwrap_or_default();
                    return Err(TruthError::Refused(format!("{status} {description}")));
                }
            }
        }
    }

    /// The record in a direct get's message; `None` for the barrier.
    fn record_of(&self, message: &Message) -> Result<Option<Record>, TruthError> {
        let subject = header(message, "Nats-Subject")
            .ok_or(TruthError::Unreadable("a message without subject"))?;
        let Some((_, name)) = self.parse_subject(subject) else {
            let barrier = subject == self.barrier.subject;
            return if barrier {
                Ok(None)
            } else {
                Err(TruthError::Unreadable("a key of an unknown form"))
            };
        };
        let sequence = number(message, "Nats-Sequence")
            .ok_or(TruthError::Unreadable("a message without sequence"))?;
        record(name, sequence, time_of(message)?, message.payload.clone()).map(Some)
    }
}

/// The replica that answered is behind; the next may be another. Fails where none has caught up by `end`.
async fn ask_again(end: Instant) -> Result<(), TruthError> {
    if Instant::now() >= end {
        return Err(CallError::TimedOut.into());
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(())
}

fn time_of(message: &Message) -> Result<Timestamp, TruthError> {
    let time = header(message, "Nats-Time-Stamp").and_then(Timestamp::parse_rfc3339);
    time.ok_or(TruthError::Unreadable("a message without time"))
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message
        .headers
        .as_ref()?
        .get(name)
        .map(|value| value.as_str())
}

fn number(message: &Message, name: &str) -> Option<u64> {
    header(message, name)?.parse().ok()
}
