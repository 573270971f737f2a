//! Writing: decided on a known state, and made by a compare-and-set on the owner.

use super::cell::Cell;
use super::compose::Sealed;
use super::settle::Settled;
use super::{Opened, Owners, OwnersFault, Snapshot};
use crate::domain::{ItemId, Kind, Timestamp, Version};
use crate::exchange::CallFault;
use crate::seal::{Body, Content, OwnerKey, Record, RecordName, RequestMark, SealFault, UserId};
use crate::shard::Passed;
use crate::truth::{AppendFault, TruthFault};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::MutexGuard;
use tokio::time::timeout_at;

/// Which item a write is about, and how it is known again.
pub struct Intent {
    /// The item's kind.
    pub kind: Kind,
    /// The item's id; `None` lets the service choose one.
    pub id: Option<ItemId>,
    /// The caller's request id, and the one byte string of the request.
    pub request: Option<(String, Vec<u8>)>,
}

/// A change that a handler wants made.
pub struct Draft {
    /// The item, or that it is gone.
    pub content: Content,
}

/// What a handler makes of a state: a change, or a refusal of its own type.
pub type Change<R> = Result<Draft, R>;

/// A write that the truth has.
pub struct Written {
    /// The record, opened: the item and its version.
    pub item: Opened,
    /// Whether its row is in this shard's Postgres too.
    pub local: Passed,
}

/// How a write ended, if not by a fault.
pub enum Outcome<R> {
    /// The truth has it.
    Written(Box<Written>),
    /// The handler's refusal, on a state that the truth has confirmed.
    Refused(R),
    /// The same request id with another request.
    RequestIdReused,
    /// It lost too many races.
    TooManyRaces,
    /// The bucket takes no more.
    Full,
    /// The caller's time was up before anything was sent.
    OutOfTime,
    /// Sent, and no answer: it may be written, or may yet be.
    InDoubt,
}

/// How new the state has to be on which a write is decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    /// As it is at hand: the compare-and-set tells if it is old.
    Held,
    /// As the nearest replica has it.
    Head,
    /// Everything that was acknowledged anywhere before.
    Barrier,
}

/// What is to be done.
enum Step<R> {
    Write(Draft),
    Refuse(R),
    /// It was done before, by this record; with the mark of this request.
    Repeat(Box<Record>, RequestMark),
}

/// What an attempt came to.
enum Attempt {
    Done(Box<Opened>),
    Lost,
    Full,
    InDoubt(Sealed),
}

impl Owners {
    /// Makes the change that `decide` finds right on the owner's current state, or gives its refusal.
    ///
    /// `decide` is asked again when the owner has changed meanwhile, and before a refusal counts: a refusal has no
    /// compare-and-set behind it, so it is only given on a state that the truth has confirmed.
    pub async fn write<R, F: From<OwnersFault>>(
        &self,
        user: &UserId,
        intent: &Intent,
        deadline: tokio::time::Instant,
        decide: impl Fn(&Snapshot) -> Result<Change<R>, F>,
    ) -> Result<Outcome<R>, F> {
        let owner = self.owner(user);
        let cell = self.cell(&owner);
        let Some(turn) = self.turn(&cell, deadline).await? else { return Ok(Outcome::OutOfTime) };
        let mut since = Since::Held;
        for _ in 0..=self.0.settings.write.retries {
            // Nothing has been sent so far, and nothing is left behind: this may end wherever it stands.
            let prepared = timeout_at(deadline, self.prepare(&owner, &cell, intent, since, &decide)).await;
            let (snapshot, draft) = match prepared {
                Err(_) => return Ok(Outcome::OutOfTime),
                Ok(prepared) => match prepared? {
                    (snapshot, Step::Write(draft)) => (snapshot, draft),
                    (_, Step::Refuse(refusal)) => return Ok(Outcome::Refused(refusal)),
                    (snapshot, Step::Repeat(record, request)) => {
                        drop(turn);
                        return Ok(self.repeat(&cell, &snapshot, &record, &request, deadline).await?);
                    }
                },
            };
            let item = match self.attempt(user, &cell, &snapshot, intent, draft, deadline).await? {
                Attempt::Done(item) => item,
                Attempt::Full => return Ok(Outcome::Full),
                Attempt::InDoubt(sealed) => match self.settle(&cell, &snapshot, sealed, deadline).await {
                    Settled::Done(item) => item,
                    Settled::InDoubt => return Ok(Outcome::InDoubt),
                    Settled::Lost => {
                        since = Since::Barrier;
                        continue;
                    }
                },
                // The nearest replica may not have what beat us; after a second loss it is not relied on.
                Attempt::Lost => {
                    since = if since == Since::Held { Since::Head } else { Since::Barrier };
                    continue;
                }
            };
            drop(turn);
            let local = self.wait_local(&cell, item.version, deadline).await;
            return Ok(Outcome::Written(Box::new(Written { item: *item, local })));
        }
        Ok(Outcome::TooManyRaces)
    }

    /// The owner's turn to write; none if it does not come in time. Nobody waits for it while no write is taken.
    async fn turn<'c>(
        &self,
        cell: &'c Cell,
        deadline: tokio::time::Instant,
    ) -> Result<Option<MutexGuard<'c, ()>>, OwnersFault> {
        tokio::select! {
            biased;
            () = self.0.bucket.writing().broken() => Err(TruthFault::from(CallFault::KnownAway).into()),
            turn = timeout_at(deadline, cell.writing.lock()) => Ok(turn.ok()),
        }
    }

    /// What is to be done on the owner's state, which is as new as `since` says: a refusal only on one that the truth
    /// has confirmed.
    async fn prepare<R, F: From<OwnersFault>>(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        intent: &Intent,
        mut since: Since,
        decide: &impl Fn(&Snapshot) -> Result<Change<R>, F>,
    ) -> Result<(Arc<Snapshot>, Step<R>), F> {
        let mut snapshot = self.at_hand(owner, cell).await?;
        loop {
            if since != Since::Held {
                snapshot = self.refresh(owner, cell, &snapshot, since == Since::Barrier).await?;
            }
            if let Some((id, request)) = marks(&snapshot, intent)
                && let Some(record) = self.earlier(&snapshot, &id, intent).await?
            {
                return Ok((snapshot, Step::Repeat(Box::new(record), request)));
            }
            match decide(&snapshot)? {
                Ok(draft) => return Ok((snapshot, Step::Write(draft))),
                Err(refusal) if since == Since::Barrier => return Ok((snapshot, Step::Refuse(refusal))),
                Err(_) => since = Since::Barrier,
            }
        }
    }

    async fn attempt(
        &self,
        user: &UserId,
        cell: &Arc<Cell>,
        snapshot: &Snapshot,
        intent: &Intent,
        draft: Draft,
        deadline: tokio::time::Instant,
    ) -> Result<Attempt, OwnersFault> {
        let sealed = self.sealed(user, snapshot, intent, draft)?;
        match self.0.bucket.append(snapshot.owner(), snapshot.version(), &sealed.records, deadline).await {
            Ok(version) => self.adopt(cell, snapshot, &sealed, version).map(Attempt::Done),
            Err(AppendFault::Conflict) => Ok(Attempt::Lost),
            Err(AppendFault::Full) => Ok(Attempt::Full),
            Err(AppendFault::InDoubt) => Ok(Attempt::InDoubt(sealed)),
            Err(AppendFault::NotWritten(fault)) => Err(fault.into()),
        }
    }

    /// Takes over what was just written, so that the next request needs not fetch it, and gives the item.
    pub(super) fn adopt(
        &self,
        cell: &Arc<Cell>,
        snapshot: &Snapshot,
        sealed: &Sealed,
        last: Version,
    ) -> Result<Box<Opened>, OwnersFault> {
        let first = last.get() + 1 - sealed.records.len() as u64;
        let mut records = Vec::with_capacity(sealed.records.len());
        for (version, record) in (first..).zip(&sealed.records) {
            let version = Version::new(version).ok_or(SealFault::Malformed)?;
            records.push(Record::parse(record.name, version, Timestamp::now(), record.value.clone())?);
        }
        let owner = *snapshot.owner();
        let set = snapshot.set().apply(&self.0.keyring, records.iter().cloned());
        let set = set.map_err(|broken| OwnersFault::Broken { owner, broken })?;
        let next = snapshot.next(&self.0.keyring, set, Some(Instant::now()))?;
        let item = records.last().ok_or(SealFault::Malformed).map_err(OwnersFault::from);
        let item = item.and_then(|record| opened(&next, record))?;
        self.keep(&owner, cell, next);
        Ok(Box::new(item))
    }

    /// The answer that the request got the first time.
    async fn repeat<R>(
        &self,
        cell: &Cell,
        snapshot: &Snapshot,
        record: &Record,
        request: &RequestMark,
        deadline: tokio::time::Instant,
    ) -> Result<Outcome<R>, OwnersFault> {
        if record.envelope.request.is_none_or(|(_, made)| made != *request) {
            return Ok(Outcome::RequestIdReused);
        }
        let item = opened(snapshot, record)?;
        let local = self.wait_local(cell, item.version, deadline).await;
        Ok(Outcome::Written(Box::new(Written { item, local })))
    }

    /// Waits for the projection to pass that version, which is a row of this shard only where it hosts the owner.
    async fn wait_local(&self, cell: &Cell, version: Version, deadline: tokio::time::Instant) -> Passed {
        // Nobody is made to wait for a row that is known not to come soon.
        if !cell.hosted.load(Ordering::Acquire) || !self.0.store.is_up() || self.0.history.is_lost() {
            return Passed::NotYet;
        }
        let limit = Duration::from_millis(self.0.settings.write.local_wait_ms);
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let passed = self.0.cursor.wait_for(version.get(), limit.min(left)).await;
        if passed == Passed::NotYet {
            self.0.store.breaker().doubt();
        }
        passed
    }
}

pub(super) fn opened(snapshot: &Snapshot, record: &Record) -> Result<Opened, OwnersFault> {
    let (Some(keys), RecordName::Item(key)) = (snapshot.keys(), record.name) else {
        return Err(SealFault::Malformed.into());
    };
    Ok(Opened { key, version: record.version, body: Body::open(keys, snapshot.owner(), record)? })
}

fn marks(snapshot: &Snapshot, intent: &Intent) -> Option<(RequestMark, RequestMark)> {
    let (id, body) = intent.request.as_ref()?;
    Some(snapshot.keys()?.request_marks(id, body))
}

impl Written {
    /// The owner's version that the write made: it was their newest.
    pub fn owner_version(&self) -> Version {
        self.item.version
    }
}
