//! Reading: what an owner has, what is newer than a copy, and an item's earlier records.

use super::answer_size::Meter;
use super::bucket::{Bucket, admit, parse_record, report_end};
use super::error::TruthError;
use super::settings::DIRECT_GET;
use crate::domain::{Timestamp, Version};
use crate::requester::{Call, CallError};
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::{HeaderMap, Message};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// The most records of one key that a bucket can keep.
const HISTORY_RECORDS_MAX: usize = 64;
/// How the server begins its answer if the records have more than 1,024 keys.
const TOO_MANY_RESULTS: &str = "413";
/// How long a read waits before it asks again because a replica was behind.
const REPLICA_RETRY_PAUSE: Duration = Duration::from_millis(2);

/// An owner's records that are newer than a version, and how far that answer reaches.
#[derive(Debug)]
pub struct Delta {
    /// The current records that are newer than the version, in the order of their versions.
    pub records: Vec<Record>,
    /// The stream sequence up to which this is complete; `None` for an owner without any record.
    pub up_to: Option<Version>,
    /// How many more records there are than one answer could hold.
    pending: u64,
}

/// The current records of several owners, and how far that answer reaches.
pub struct SeveralOwners {
    /// The records with their owners, in the order of their versions.
    pub records: Vec<(OwnerKey, Record)>,
    /// The stream sequence up to which this is complete.
    pub up_to: Version,
}

/// One answer to a direct get of several messages.
pub(super) struct Answer {
    records: Vec<(OwnerKey, Record)>,
    /// The stream sequence up to which it is complete; `None` if there is no record.
    pub(super) up_to: Option<Version>,
    /// How many more there are.
    pending: u64,
}

impl From<Answer> for Delta {
    fn from(answer: Answer) -> Self {
        let records = answer.records.into_iter().map(|(_, record)| record);

        Self {
            records: records.collect(),
            up_to: answer.up_to,
            pending: answer.pending,
        }
    }
}

impl Bucket {
    /// Returns what the nearest replica has of the owner that is newer than `after`.
    pub async fn since(&self, owner: &OwnerKey, after: Version) -> Result<Delta, TruthError> {
        self.current_records(vec![self.owner_subjects(owner)], after.get() + 1)
            .await
    }

    /// As [`since`](Self::since), with the record at `after` itself. So the answer shows whether the replica
    /// has that one. It has an end if the replica has a barrier of this shard.
    pub async fn since_inclusive(
        &self,
        owner: &OwnerKey,
        after: Version,
    ) -> Result<Delta, TruthError> {
        let subjects = vec![self.owner_subjects(owner), self.barrier.subject.clone()];
        self.current_records(subjects, after.get()).await
    }

    /// As [`since`](Self::since), but the answer holds everything that was acknowledged anywhere
    /// before the call.
    ///
    /// It also includes the record at `after` itself. If neither that record nor anything newer is
    /// there, history was lost.
    pub async fn since_confirmed(
        &self,
        owner: &OwnerKey,
        after: Version,
    ) -> Result<Delta, TruthError> {
        let barrier = self.publish_barrier().await?;

        self.since_reaching(owner, after, barrier).await
    }

    /// Returns the current records of several owners, in an answer that holds everything that was
    /// acknowledged anywhere before the call. `None` if that is more than one answer can hold.
    pub async fn several_confirmed(
        &self,
        owners: &[OwnerKey],
    ) -> Result<Option<SeveralOwners>, TruthError> {
        let barrier = self.publish_barrier().await?;
        let mut subjects: Vec<_> = owners.iter().map(|o| self.owner_subjects(o)).collect();
        subjects.push(self.barrier.subject.clone());
        let query = json!({ "multi_last": subjects, "max_bytes": self.answer_size.bytes() });
        let end = self.deadline();

        loop {
            let answer = match self.ask_for_records(&query).await {
                Ok(answer) => answer,
                Err(TruthError::Refused(why)) if why.starts_with(TOO_MANY_RESULTS) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };

            if answer.pending > 0 {
                return Ok(None);
            }
            if let Some(up_to) = answer.up_to
                && up_to.get() >= barrier
            {
                return Ok(Some(SeveralOwners {
                    records: answer.records,
                    up_to,
                }));
            }
            pause_for_replica(end).await?;
        }
    }

    /// The owner's records from version `after` on, in an answer that reaches at least the stream
    /// sequence `least`.
    async fn since_reaching(
        &self,
        owner: &OwnerKey,
        after: Version,
        least: u64,
    ) -> Result<Delta, TruthError> {
        let subjects = vec![self.owner_subjects(owner), self.barrier.subject.clone()];
        let end = self.deadline();

        loop {
            let delta = self.current_records(subjects.clone(), after.get()).await?;
            if delta.up_to.is_some_and(|up_to| up_to.get() >= least) {
                return Ok(delta);
            }

            pause_for_replica(end).await?;
        }
    }

    /// Returns when the record at that stream sequence was stored; `None` if it is no longer kept.
    pub async fn time_of(&self, sequence: u64) -> Result<Option<Timestamp>, TruthError> {
        self.message_at(sequence)
            .await?
            .map(|message| time_of(&message))
            .transpose()
    }

    /// Returns the owner's record of a version that the truth returned before; `None` if it is no
    /// longer kept, or is not the owner's.
    ///
    /// An answer from a replica that is behind proves nothing. So the call asks again until a
    /// replica has a message at that version or after it.
    pub async fn record_at(
        &self,
        owner: &OwnerKey,
        version: Version,
    ) -> Result<Option<Record>, TruthError> {
        let sequence = version.get();
        let message = self.first_message_from(sequence).await?;

        let parsed =
            header(&message, "Nats-Subject").and_then(|subject| self.parse_subject(subject));
        let is_at_version = number(&message, "Nats-Sequence") == Some(sequence);
        if !is_at_version || parsed.is_none_or(|(found, _)| found != *owner) {
            return Ok(None);
        }

        Ok(self.parse_message(&message)?.map(|(_, record)| record))
    }

    /// Returns whether there is a message at that stream sequence.
    pub(super) async fn has_message_at(&self, sequence: u64) -> Result<bool, TruthError> {
        let message = self.first_message_from(sequence).await?;

        Ok(number(&message, "Nats-Sequence") == Some(sequence))
    }

    /// The first message at that stream sequence or after it. A replica that has none is behind, so
    /// the call asks again.
    async fn first_message_from(&self, sequence: u64) -> Result<Message, TruthError> {
        let end = self.deadline();

        loop {
            match self
                .message(json!({ "seq": sequence, "next_by_subj": ">" }))
                .await?
            {
                Some(message) => return Ok(message),
                None => pause_for_replica(end).await?,
            }
        }
    }

    /// The message at that stream sequence; `None` if the nearest replica does not have it.
    async fn message_at(&self, sequence: u64) -> Result<Option<Message>, TruthError> {
        self.message(json!({ "seq": sequence })).await
    }

    pub(super) async fn message(&self, query: Value) -> Result<Option<Message>, TruthError> {
        let attempt = admit(&self.reading)?;
        let subject = self.api_subject(DIRECT_GET);
        let result = self
            .requester
            .ask(
                subject,
                HeaderMap::new(),
                query.to_string().into(),
                self.deadline(),
            )
            .await;

        let reply = report_end(attempt, result, false)?;
        match reply.status.map(|status| status.as_u16()) {
            None => Ok(Some(reply)),
            Some(404) => Ok(None),
            Some(status) => Err(refused(status, &reply)),
        }
    }

    /// Returns the kept records of one item that are newer than `after`, oldest first.
    ///
    /// `current` is the version of the item's current record. An answer counts only if it reaches
    /// that version: a replica that is behind lacks records, and its answer does not show it. Only
    /// an item that was purged since may have fewer records, or none.
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
            let records = self.kept_records(&subject, after).await?;
            let reached = records.last().map_or(after, |last| last.version);
            if reached >= current || self.is_purged(&subject, current).await? {
                return Ok(records);
            }

            pause_for_replica(end).await?;
        }
    }

    /// The records of that subject that the nearest replica keeps and that are newer than `after`.
    async fn kept_records(&self, subject: &str, after: Version) -> Result<Vec<Record>, TruthError> {
        let mut records: Vec<Record> = Vec::new();

        loop {
            let from = records.last().map_or(after, |last| last.version).get() + 1;
            let batch = HISTORY_RECORDS_MAX - records.len();
            let query = json!({
                "next_by_subj": subject,
                "seq": from,
                "batch": batch,
                "max_bytes": self.answer_size.bytes(),
            });
            let next = self.direct_get(&query).await?;

            let more = next.pending > 0 && !next.records.is_empty();
            records.extend(next.records);
            if !more || records.len() >= HISTORY_RECORDS_MAX {
                return Ok(records);
            }
        }
    }

    /// Returns whether a replica that has come as far as `current` has no record of that subject
    /// from there on.
    async fn is_purged(&self, subject: &str, current: Version) -> Result<bool, TruthError> {
        let subjects = vec![subject.to_owned(), self.barrier.subject.clone()];
        let delta = self.current_records(subjects, current.get()).await?;

        Ok(delta.records.is_empty() && delta.up_to.is_some_and(|up_to| up_to >= current))
    }

    /// The current records of those subjects from the stream sequence `from` on.
    ///
    /// One answer has a limit of bytes; the next answer holds what is left, as of the same moment
    /// or a later one. The answer of a replica that is behind the one before is not used.
    async fn current_records(&self, subjects: Vec<String>, from: u64) -> Result<Delta, TruthError> {
        let mut query = json!({ "multi_last": subjects, "max_bytes": self.answer_size.bytes() });
        if from > 1 {
            query["seq"] = Value::from(from);
        }
        let mut delta = self.direct_get(&query).await?;

        let mut end = self.deadline();
        while delta.pending > 0
            && let Some(last) = delta.records.last()
        {
            query["seq"] = Value::from(last.version.get() + 1);
            query["max_bytes"] = self.answer_size.bytes().into();
            let next = self.direct_get(&query).await?;
            if next.up_to < delta.up_to {
                pause_for_replica(end).await?;
                continue;
            }

            let is_last = next.records.is_empty();
            delta.records.extend(next.records);
            delta.up_to = next.up_to;
            delta.pending = next.pending;
            if is_last {
                break;
            }
            end = self.deadline();
        }

        Ok(delta)
    }

    /// A direct get of several messages (NATS ADR-31): messages, then an end mark that says how far
    /// they reach.
    async fn direct_get(&self, query: &Value) -> Result<Delta, TruthError> {
        Ok(self.ask_for_records(query).await?.into())
    }

    pub(super) async fn ask_for_records(&self, query: &Value) -> Result<Answer, TruthError> {
        let subject = self.api_subject(DIRECT_GET);
        let payload = query.to_string().into();
        let attempt = admit(&self.reading)?;
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

        let mut answer = answer?;
        answer.records.sort_by_key(|(_, record)| record.version);
        Ok(answer)
    }

    async fn collect(&self, call: &mut Call) -> Result<Answer, TruthError> {
        let mut records = Vec::new();
        let mut meter = Meter::default();
        let mut is_first = true;

        loop {
            let begun = Instant::now();
            let message = call.next().await?;
            if std::mem::take(&mut is_first) {
                self.answer_size.learn_round_trip(begun.elapsed());
            }
            // An answer of many large messages takes time. A server that is unavailable sends none.
            call.extend(self.deadline());

            match message.status.map(|status| status.as_u16()) {
                None => {
                    meter.count(message.length, begun.elapsed());
                    records.extend(self.parse_message(&message)?);
                }
                Some(204) => {
                    self.answer_size.learn(&meter);
                    let up_to = number(&message, "Nats-UpTo-Sequence").and_then(Version::new);
                    let pending = number(&message, "Nats-Num-Pending").unwrap_or_default();
                    return Ok(Answer {
                        records,
                        up_to,
                        pending,
                    });
                }
                Some(404) => {
                    return Ok(Answer {
                        records,
                        up_to: None,
                        pending: 0,
                    });
                }
                Some(status) => return Err(refused(status, &message)),
            }
        }
    }

    /// The record in a direct get's message, and its owner; `None` for the barrier.
    pub(super) fn parse_message(
        &self,
        message: &Message,
    ) -> Result<Option<(OwnerKey, Record)>, TruthError> {
        let subject = header(message, "Nats-Subject")
            .ok_or(TruthError::Unreadable("a message without subject"))?;
        let Some((owner, name)) = self.parse_subject(subject) else {
            let is_barrier = subject == self.barrier.subject;
            return if is_barrier {
                Ok(None)
            } else {
                Err(TruthError::Unreadable("a key of an unknown form"))
            };
        };

        let sequence = number(message, "Nats-Sequence")
            .ok_or(TruthError::Unreadable("a message without sequence"))?;
        let record = parse_record(name, sequence, time_of(message)?, &message.payload)?;
        Ok(Some((owner, record)))
    }
}

/// Pauses before the same question is asked again: the replica that answered is behind, and another
/// may answer next. Fails if `end` is past.
async fn pause_for_replica(end: Instant) -> Result<(), TruthError> {
    if Instant::now() >= end {
        return Err(CallError::TimedOut.into());
    }

    tokio::time::sleep(REPLICA_RETRY_PAUSE).await;
    Ok(())
}

fn refused(status: u16, message: &Message) -> TruthError {
    let description = message.description.as_deref().unwrap_or_default();
    TruthError::Refused(format!("{status} {description}"))
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

pub(super) fn number(message: &Message, name: &str) -> Option<u64> {
    header(message, name)?.parse().ok()
}
