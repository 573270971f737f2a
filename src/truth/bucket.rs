//! The bucket's name, its subjects, and what can go wrong with it.

use super::append::answers_publishes;
use super::barrier::Barrier;
use super::fetch::answers_reads;
use crate::breaker::{Attempt, Breaker};
use crate::exchange::{CallFault, Exchange};
use crate::seal::{OwnerKey, Record, RecordName};
use async_nats::jetstream;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The call that reads.
pub(super) const DIRECT_GET: &str = "DIRECT.GET";

/// How to reach the truth, and how `init` makes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TruthSettings {
    /// The bucket's name; its stream is `KV_<name>`.
    pub bucket: String,
    /// Copies of the bucket in the cluster: 1, 3 or 5.
    pub replicas: usize,
    /// Records kept for each key, the current one included: 1 to 64.
    pub history: i64,
    /// How long one call to the truth may take, in milliseconds.
    pub call_ms: u64,
    /// The JetStream domain in which it is, seen from a leaf; empty where it is in the server's own.
    pub domain: String,
}

impl Default for TruthSettings {
    fn default() -> Self {
        Self {
            bucket: "favorites".into(),
            replicas: 1,
            history: 16,
            call_ms: 2_000,
            domain: String::new(),
        }
    }
}

impl TruthSettings {
    fn stream(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    /// Where that call of the stream API is asked.
    fn api(&self, call: &str) -> String {
        match self.domain.as_str() {
            "" => format!("$JS.API.{call}.{}", self.stream()),
            domain => format!("$JS.{domain}.API.{call}.{}", self.stream()),
        }
    }

    /// Where a record of that subject is published. In a domain that is below its API; the domain's server takes the
    /// front off again, so everywhere else, in what it stores and what it tells, subjects are as they are.
    fn published(&self, subject: &str) -> String {
        match self.domain.as_str() {
            "" => subject.to_owned(),
            domain => format!("$JS.{domain}.API.{subject}"),
        }
    }
}

/// Why the truth gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TruthFault {
    /// It cannot be reached, or did not answer in time.
    #[error("the truth is out of reach: {0}")]
    Unavailable(#[from] CallFault),
    /// It takes no more.
    #[error("the bucket is full")]
    Full,
    /// It answered with an error of its own.
    #[error("the truth refused: {0}")]
    Refused(String),
    /// Its answer is not what this version understands.
    #[error("the truth's answer cannot be read: {0}")]
    Unreadable(&'static str),
}

/// The bucket, as this worker reaches it.
#[derive(Clone)]
pub struct Bucket {
    pub(super) exchange: Exchange,
    pub(super) settings: TruthSettings,
    pub(super) barrier: Arc<Barrier>,
    /// Apart from `writing`: without a quorum any replica still answers reads, and nobody takes a write.
    pub(super) reading: Breaker,
    pub(super) writing: Breaker,
}

impl Bucket {
    /// The bucket named in `settings`, over `exchange`; `shard` names the key on which this worker's barriers ring.
    pub fn new(exchange: Exchange, settings: TruthSettings, shard: &str) -> Self {
        let subject = format!("$KV.{}._b.{shard}", settings.bucket);
        let barrier = Arc::new(Barrier::new(subject.clone()));
        // Short, so that a look that got lost does not delay the good news.
        let limit = Duration::from_millis(settings.call_ms / 4);
        let writing = Breaker::new("the truth, for writes,", {
            let (exchange, subject) = (exchange.clone(), settings.published(&subject));
            move || answers_publishes(exchange.clone(), subject.clone(), limit)
        });
        let reading = Breaker::new("the truth, for reads,", {
            let (exchange, api, writing) =
                (exchange.clone(), settings.api(DIRECT_GET), writing.clone());
            move || {
                let read = answers_reads(exchange.clone(), api.clone(), subject.clone(), limit);
                let writing = writing.clone();
                async move {
                    let answers = read.await;
                    // Who answers no reads hardly takes a write: that is found out before one waits.
                    if !answers {
                        writing.doubt();
                    }
                    answers
                }
            }
        });
        Self {
            exchange,
            settings,
            barrier,
            reading,
            writing,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.bucket
    }

    /// What tells whether reads are answered.
    pub fn reading(&self) -> &Breaker {
        &self.reading
    }

    /// What tells whether writes are answered.
    pub fn writing(&self) -> &Breaker {
        &self.writing
    }

    pub(super) fn stream(&self) -> String {
        self.settings.stream()
    }

    /// Where that call of the stream API is asked.
    pub(super) fn api_subject(&self, call: &str) -> String {
        self.settings.api(call)
    }

    /// Where a record of that subject is published.
    pub(super) fn published(&self, subject: &str) -> String {
        self.settings.published(subject)
    }

    /// The client's own view of JetStream, for reading a message's place.
    pub(super) fn context(&self) -> jetstream::Context {
        let client = self.exchange.client().clone();
        match self.settings.domain.as_str() {
            "" => jetstream::new(client),
            domain => jetstream::with_domain(client, domain),
        }
    }

    /// What every subject of the bucket begins with.
    pub(super) fn root(&self) -> String {
        format!("$KV.{}", self.settings.bucket)
    }

    /// All that is in the bucket.
    pub(super) fn all_subjects(&self) -> String {
        format!("$KV.{}.>", self.settings.bucket)
    }

    pub(super) fn subject(&self, owner: &OwnerKey, name: &RecordName) -> String {
        format!("$KV.{}.{owner}.{name}", self.settings.bucket)
    }

    /// All records of one owner. It is also the filter of every expectation: one that matched nothing would let the
    /// write through, so it is spelled here and nowhere else. It never names a domain: so spelt it would match nothing.
    pub(super) fn owner_subjects(&self, owner: &OwnerKey) -> String {
        format!("$KV.{}.{owner}.>", self.settings.bucket)
    }

    /// The subject on which an owner's changes ring, as a subscription to all of theirs: headers only.
    pub fn notify_subject(&self, owner: &OwnerKey) -> String {
        format!("{}.changed.{owner}.*", self.settings.bucket)
    }

    /// Owner and name from a subject of the bucket; `None` for a barrier or a foreign key.
    pub(super) fn parse_subject(&self, subject: &str) -> Option<(OwnerKey, RecordName)> {
        let rest = subject
            .strip_prefix("$KV.")?
            .strip_prefix(self.settings.bucket.as_str())?
            .strip_prefix('.')?;
        let (owner, name) = rest.split_once('.')?;
        Some((OwnerKey::parse(owner)?, RecordName::parse(name)?))
    }

    /// By when a call that begins now has to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings.call_ms)
    }
}

/// Leave for a call, or that it is known to be away.
pub(super) fn admitted(breaker: &Breaker) -> Result<Attempt, TruthFault> {
    breaker
        .admit()
        .ok_or(TruthFault::Unavailable(CallFault::KnownAway))
}

/// Tells the breaker how a call ended. One that a caller's short time cut off is a doubt, and no proof.
pub(super) fn ended<T>(
    attempt: Attempt,
    call: Result<T, CallFault>,
    cut_short: bool,
) -> Result<T, CallFault> {
    match call {
        Ok(_) => attempt.answered(),
        Err(CallFault::TimedOut) if cut_short => drop(attempt),
        Err(_) => attempt.unanswered(),
    }
    call
}

pub(super) fn record(
    name: RecordName,
    sequence: u64,
    at: crate::domain::Timestamp,
    value: Bytes,
) -> Result<Record, TruthFault> {
    let version = crate::domain::Version::new(sequence)
        .ok_or(TruthFault::Unreadable("a sequence above 2^53"))?;
    Record::parse(name, version, at, value)
        .map_err(|_| TruthFault::Unreadable("a record of an unknown format"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_named_where_something_is_sent() {
        let own = TruthSettings::default();
        assert_eq!(own.api(DIRECT_GET), "$JS.API.DIRECT.GET.KV_favorites");
        assert_eq!(own.published("$KV.favorites.x.y"), "$KV.favorites.x.y");
        let hub = TruthSettings {
            domain: "hub".into(),
            ..own
        };
        assert_eq!(hub.api(DIRECT_GET), "$JS.hub.API.DIRECT.GET.KV_favorites");
        assert_eq!(
            hub.published("$KV.favorites.x.y"),
            "$JS.hub.API.$KV.favorites.x.y"
        );
    }
}
