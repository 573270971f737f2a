//! Writing: decided on a known state, and made by a compare-and-set on the owner.

use super::cell::Cell;
use super::compose::Sealed;
use super::settle::Settled;
use super::{Opened, Owners, OwnersFault, Snapshot};
use crate::domain::{ItemId, Kind, Version};
use crate::exchange::CallFault;
use crate::seal::{
    Body, Content, OwnerKey, Record, RecordName, Refused, RequestMark, SealFault, UserId,
};
use crate::shard::Passed;
use crate::truth::{AppendFault, TruthFault};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::MutexGuard;
use tokio::time::timeout_at;

/// Which items a write is about, and how it is known again.
pub struct Intent {
    /// Each item's kind and id; no id lets the service choose one.
    pub items: Vec<(Kind, Option<ItemId>)>,
    /// The caller's request id, and the one byte string of the request.
    pub request: Option<(String, Vec<u8>)>,
}

/// A change that a handler wants made, all of it or nothing.
pub struct Draft {
    /// The items as they will be, or that they are gone, in the order of their versions; at least one, and none twice.
    pub contents: Vec<Content>,
    /// What was asked beside and is refused, by its place in the request: kept with the write where it has a request id,
    /// for who asks again.
    pub refused: BTreeMap<u16, Refused>,
}

/// A refusal beside a write, as the caller is told.
pub struct Told {
    /// In JSON, but for the item that it shows.
    pub told: String,
    /// That item, where it shows one and that is still kept.
    pub shown: Option<Opened>,
}

impl Draft {
    /// Of one item.
    pub fn one(content: Content) -> Self {
        Self {
            contents: vec![content],
            refused: BTreeMap::new(),
        }
    }
}

/// What a handler makes of a state: a change, or a refusal of its own type.
pub type Change<R> = Result<Draft, R>;

/// A write that the truth has.
pub struct Written {
    /// The items and their versions, at least one, in the order in which they were written.
    pub items: Vec<Opened>,
    /// What was asked beside and was refused.
    pub refused: BTreeMap<u16, Told>,
    /// Whether the rows are in this shard's Postgres too.
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
    /// It was done before, and not all that it wrote is kept any more.
    Forgotten(Version),
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
    Done(Vec<Opened>),
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
        let Some(turn) = self.turn(&cell, deadline).await? else {
            return Ok(Outcome::OutOfTime);
        };
        let mut since = Since::Held;
        for _ in 0..=self.0.settings.write.retries {
            // Nothing has been sent so far, and nothing is left behind: this may end wherever it stands.
            let prepared = timeout_at(
                deadline,
                self.prepare(&owner, &cell, intent, since, &decide),
            )
            .await;
            let (snapshot, draft) = match prepared {
                Err(_) => return Ok(Outcome::OutOfTime),
                Ok(prepared) => match prepared? {
                    (snapshot, Step::Write(draft)) => (snapshot, draft),
                    (_, Step::Refuse(refusal)) => return Ok(Outcome::Refused(refusal)),
                    (snapshot, Step::Repeat(record, request)) => {
                        drop(turn);
                        let repeated = self.repeat(&cell, snapshot, &record, &request, deadline);
                        // It was done: whoever hears that nothing was written would do it once more.
                        return Ok(timeout_at(deadline, repeated)
                            .await
                            .unwrap_or(Ok(Outcome::InDoubt))?);
                    }
                },
            };
            let refused = draft.refused.clone();
            let items = match self
                .attempt(user, &cell, &snapshot, intent, draft, deadline)
                .await?
            {
                Attempt::Done(items) => items,
                Attempt::Full => return Ok(Outcome::Full),
                Attempt::InDoubt(sealed) => {
                    match self.settle(&cell, &snapshot, sealed, deadline).await {
                        Settled::Done(items) => items,
                        Settled::InDoubt => return Ok(Outcome::InDoubt),
                        Settled::Lost => {
                            since = Since::Barrier;
                            continue;
                        }
                    }
                }
                // The nearest replica may not have what beat us; after a second loss it is not relied on.
                Attempt::Lost => {
                    since = if since == Since::Held {
                        Since::Head
                    } else {
                        Since::Barrier
                    };
                    continue;
                }
            };
            drop(turn);
            let local = self.wait_local(&cell, newest(&items), deadline).await;
            let refused = self.told(&snapshot, refused).await?;
            return Ok(Outcome::Written(Box::new(Written {
                items,
                refused,
                local,
            })));
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
                snapshot = self
                    .refresh(owner, cell, &snapshot, since == Since::Barrier)
                    .await?;
            }
            if let Some((id, request)) = marks(&snapshot, intent)
                && let Some(record) = self.earlier(&snapshot, &id, intent).await?
            {
                return Ok((snapshot, Step::Repeat(Box::new(record), request)));
            }
            match decide(&snapshot)? {
                Ok(draft) => return Ok((snapshot, Step::Write(draft))),
                Err(refusal) if since == Since::Barrier => {
                    return Ok((snapshot, Step::Refuse(refusal)));
                }
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
        match self
            .0
            .bucket
            .append(
                snapshot.owner(),
                snapshot.version(),
                &sealed.records,
                deadline,
            )
            .await
        {
            Ok(version) => self
                .adopt(cell, snapshot, &sealed, version)
                .map(Attempt::Done),
            Err(AppendFault::Conflict) => Ok(Attempt::Lost),
            Err(AppendFault::Full) => Ok(Attempt::Full),
            Err(AppendFault::InDoubt) => Ok(Attempt::InDoubt(sealed)),
            Err(AppendFault::NotWritten(fault)) => Err(fault.into()),
        }
    }

    /// Takes over what was just written, so that the next request needs not fetch it, and gives the items.
    pub(super) fn adopt(
        &self,
        cell: &Arc<Cell>,
        snapshot: &Snapshot,
        sealed: &Sealed,
        last: Version,
    ) -> Result<Vec<Opened>, OwnersFault> {
        let records = sealed.stored(last)?;
        let owner = *snapshot.owner();
        let set = snapshot
            .set()
            .apply(&self.0.keyring, records.iter().cloned());
        let set = set.map_err(|broken| OwnersFault::Broken { owner, broken })?;
        let next = snapshot.next(&self.0.keyring, set, Some(Instant::now()))?;
        let items = opened_items(&next, &records)?;
        self.keep(&owner, cell, next);
        Ok(items)
    }

    /// The answer that the request got the first time.
    async fn repeat<R>(
        &self,
        cell: &Arc<Cell>,
        snapshot: Arc<Snapshot>,
        record: &Record,
        request: &RequestMark,
        deadline: tokio::time::Instant,
    ) -> Result<Outcome<R>, OwnersFault> {
        if record
            .envelope
            .request
            .is_none_or(|(_, made)| made != *request)
        {
            return Ok(Outcome::RequestIdReused);
        }
        let Some((items, refused)) = self.whole_write(&snapshot, record).await? else {
            return Ok(Outcome::Forgotten(snapshot.version()));
        };
        self.catch_up(cell, snapshot.clone(), newest(&items))
            .await?;
        let local = self.wait_local(cell, newest(&items), deadline).await;
        let refused = self.told(&snapshot, refused).await?;
        Ok(Outcome::Written(Box::new(Written {
            items,
            refused,
            local,
        })))
    }

    /// Holds that version of the owner before anybody is told of it, and so tells of none before it from then on: another
    /// worker's write may have been found in Postgres, or in the truth, that is newer than the copy at hand.
    async fn catch_up(
        &self,
        cell: &Arc<Cell>,
        snapshot: Arc<Snapshot>,
        to: Version,
    ) -> Result<(), OwnersFault> {
        let owner = *snapshot.owner();
        match self.at_least(&owner, cell, snapshot, to).await {
            Ok(_) => Ok(()),
            Err(OwnersFault::NeverWas { owner_version }) => Err(OwnersFault::HistoryLost {
                owner,
                held: to,
                found: owner_version,
            }),
            Err(fault) => Err(fault),
        }
    }

    /// Waits for the projection to pass that version, which is a row of this shard only where it hosts the owner.
    async fn wait_local(
        &self,
        cell: &Cell,
        version: Version,
        deadline: tokio::time::Instant,
    ) -> Passed {
        // Nobody is made to wait for a row that is known not to come soon.
        if !cell.hosted.load(Ordering::Acquire) || !self.0.store.is_up() || self.0.history.is_lost()
        {
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
    Ok(Opened {
        key,
        version: record.version,
        body: Body::open(keys, snapshot.owner(), record)?,
    })
}

/// The items among records of one owner, opened.
pub(super) fn opened_items(
    snapshot: &Snapshot,
    records: &[Record],
) -> Result<Vec<Opened>, OwnersFault> {
    let items = records
        .iter()
        .filter(|record| matches!(record.name, RecordName::Item(_)));
    items.map(|record| opened(snapshot, record)).collect()
}

fn newest(items: &[Opened]) -> Version {
    items.last().map(|item| item.version).unwrap_or_default()
}

fn marks(snapshot: &Snapshot, intent: &Intent) -> Option<(RequestMark, RequestMark)> {
    let (id, body) = intent.request.as_ref()?;
    Some(snapshot.keys()?.request_marks(id, body))
}

impl Written {
    /// The owner's version that the write made: it was their newest.
    pub fn owner_version(&self) -> Version {
        newest(&self.items)
    }
}
