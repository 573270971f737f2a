//! Writing: decided on a known state, and done as one compare-and-set on the owner.

use super::cache::OwnerEntry;
use super::compose::Sealed;
use super::draft::{Decision, Draft, Intent, Outcome, WriteFailure, WriteReceipt, newest};
use super::settle::Settled;
use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::{OwnerKey, Record, RequestHash, StoredRefusal, UserId};
use crate::shard::Projected;
use crate::truth::{AppendError, BucketFill, TruthError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout_at};

/// The most bytes of records in one write. Each shard reads and stores a write at once, and has only
/// a few seconds for it.
const WRITE_BYTES_MAX: usize = 4 << 20;

/// How current the state has to be on which a write is decided.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Basis {
    /// As it is in memory: the compare-and-set fails if it is old.
    #[default]
    Cached,
    /// As the nearest replica of the bucket has it.
    Head,
    /// Everything that was acknowledged anywhere before.
    Confirmed,
}

impl Basis {
    /// The basis after a lost race. The nearest replica may not have what won it, so it is asked
    /// only once.
    fn after_lost_race(self) -> Self {
        match self {
            Self::Cached => Self::Head,
            Self::Head | Self::Confirmed => Self::Confirmed,
        }
    }
}

/// One round of a write: it decides, and tries to write.
#[derive(Default)]
struct Round {
    basis: Basis,
    /// The owner's version up to which the request is known not to have been done before.
    not_done_to: Option<Version>,
}

impl Round {
    /// Returns the next round, which decides on that basis. On a confirmed one it searches Postgres
    /// for an earlier request again.
    fn after(self, basis: Basis) -> Self {
        let not_done_to = self.not_done_to.filter(|_| basis != Basis::Confirmed);
        Self { basis, not_done_to }
    }
}

/// What a request leads to on an owner's state.
enum Step<R> {
    Write(Draft),
    Refuse(R),
    /// The request was done before. With a record that it wrote, and the hash of this request.
    Repeat(Box<Record>, RequestHash),
}

/// The result of one attempt to write.
enum Attempt {
    Done(Vec<Arc<OpenedItem>>),
    LostRace,
    Full,
    /// It was not taken, because too many batches are open.
    Busy,
    /// It was not sent, because it has this many bytes.
    TooLarge(usize),
    InDoubt(Sealed),
}

/// What follows from an attempt.
enum Next {
    Done(Vec<Arc<OpenedItem>>),
    Fail(WriteFailure),
    /// The write has lost a race, or needs a confirmed state: decide again on this basis.
    Again(Basis),
}

impl Owners {
    /// Writes what `decide` wants on the owner's current state, or returns its refusal.
    ///
    /// `decide` is called again if the owner has changed in the meantime, and before a refusal
    /// counts: no compare-and-set checks a refusal, so it is only returned on a state that the
    /// bucket has confirmed.
    pub async fn write<R, E: From<OwnersError>>(
        &self,
        user: &UserId,
        intent: &Intent,
        deadline: Instant,
        decide: impl Fn(&Snapshot) -> Result<Decision<R>, E>,
    ) -> Result<Outcome<R>, E> {
        let owner = self.owner(user);
        let entry = self.entry(&owner);

        let Some(write_lock) = self.lock_writes(&entry, deadline).await? else {
            return Ok(WriteFailure::OutOfTime.into());
        };

        let mut round = Round::default();
        for _ in 0..=self.0.settings.write.retries {
            // Nothing is under way here: what earlier rounds sent has lost its race. So this may be
            // cancelled anywhere.
            let prepare = self.prepare(&owner, &entry, intent, &mut round, deadline, &decide);
            let Ok(prepared) = timeout_at(deadline, prepare).await else {
                return Ok(WriteFailure::OutOfTime.into());
            };

            let (snapshot, step) = prepared?;
            let draft = match step {
                Step::Write(draft) => draft,
                Step::Refuse(refusal) => return Ok(Outcome::Refused(refusal)),
                Step::Repeat(record, request) => {
                    drop(write_lock);
                    let repeat = self.repeat(&entry, snapshot, &record, &request, deadline);
                    // The request was done. A caller that is told that nothing was written would
                    // repeat it.
                    let repeated = timeout_at(deadline, repeat).await;
                    return Ok(repeated.unwrap_or(Ok(WriteFailure::InDoubt.into()))?);
                }
            };

            let refused = draft.refused.clone();
            let attempt = self
                .attempt(user, &entry, &snapshot, intent, draft, deadline)
                .await?;
            let next = self
                .next(attempt, round.basis, &entry, &snapshot, deadline)
                .await;
            match next {
                Next::Done(items) => {
                    drop(write_lock);
                    return Ok(self
                        .receipt(&entry, &snapshot, items, refused, deadline)
                        .await?);
                }
                Next::Fail(failure) => return Ok(failure.into()),
                Next::Again(basis) => round = round.after(basis),
            }
        }

        Ok(WriteFailure::TooManyRaces.into())
    }

    /// Takes the lock that serialises the owner's writes in this worker. Returns `None` if the
    /// deadline comes first. Fails at once while the bucket takes no writes.
    async fn lock_writes<'e>(
        &self,
        entry: &'e OwnerEntry,
        deadline: Instant,
    ) -> Result<Option<MutexGuard<'e, ()>>, OwnersError> {
        tokio::select! {
            biased;
            () = self.0.bucket.writing().broken() => {
                Err(TruthError::from(CallError::KnownUnavailable).into())
            }
            locked = timeout_at(deadline, entry.writing.lock()) => Ok(locked.ok()),
        }
    }

    /// Decides on the owner's state, which is at least as current as the round's basis. A refusal is
    /// returned only on a state that the bucket has confirmed.
    async fn prepare<R, E: From<OwnersError>>(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        intent: &Intent,
        round: &mut Round,
        deadline: Instant,
        decide: &impl Fn(&Snapshot) -> Result<Decision<R>, E>,
    ) -> Result<(Arc<Snapshot>, Step<R>), E> {
        let mut basis = round.basis;
        let mut snapshot = self.load(owner, entry, deadline).await?;
        self.wait_for_hosting(entry, &snapshot, deadline).await;
        loop {
            if basis != Basis::Cached {
                let confirmed = basis == Basis::Confirmed;
                snapshot = self.refresh(owner, entry, &snapshot, confirmed).await?;
            }

            self.open(&snapshot).await;
            if let Some((id, request)) = request_hashes(&snapshot, intent)
                && let Some(record) = self
                    .find_prior_request(&snapshot, &id, intent, &mut round.not_done_to)
                    .await?
            {
                return Ok((snapshot, Step::Repeat(Box::new(record), request)));
            }

            match decide(&snapshot)? {
                Decision::Write(draft) => return Ok((snapshot, Step::Write(draft))),
                Decision::Refuse(refusal) if basis == Basis::Confirmed => {
                    return Ok((snapshot, Step::Refuse(refusal)));
                }
                Decision::Refuse(_) => basis = Basis::Confirmed,
            }
        }
    }

    /// Returns what follows from an attempt. Settles it first if it is in doubt.
    async fn next(
        &self,
        attempt: Attempt,
        basis: Basis,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> Next {
        match attempt {
            Attempt::Done(items) => Next::Done(items),
            Attempt::LostRace => Next::Again(basis.after_lost_race()),
            Attempt::Full => Next::Fail(WriteFailure::Full),
            Attempt::Busy => Next::Fail(WriteFailure::TooManyBatches),
            Attempt::TooLarge(_) if basis != Basis::Confirmed => Next::Again(Basis::Confirmed),
            Attempt::TooLarge(used) => {
                let limit = WRITE_BYTES_MAX;
                Next::Fail(WriteFailure::TooLarge { used, limit })
            }
            Attempt::InDoubt(sealed) => {
                match self.settle(entry, snapshot, sealed, deadline).await {
                    Settled::Done(items) => Next::Done(items),
                    Settled::InDoubt => Next::Fail(WriteFailure::InDoubt),
                    Settled::Lost => Next::Again(Basis::Confirmed),
                }
            }
        }
    }

    /// Seals the draft and sends it once.
    async fn attempt(
        &self,
        user: &UserId,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        intent: &Intent,
        draft: Draft,
        deadline: Instant,
    ) -> Result<Attempt, OwnersError> {
        // The rest of a bucket that is nearly full is kept for what frees room, and for codes.
        let fill = self.0.bucket.fill();
        if fill.is_some_and(BucketFill::is_in_reserve) && !intent.is_urgent && !draft.only_deletes()
        {
            return Ok(Attempt::Full);
        }

        let sealed = self.seal_draft(user, snapshot, intent, draft)?;
        let used = sealed.bytes();
        if used > WRITE_BYTES_MAX {
            return Ok(Attempt::TooLarge(used));
        }

        let sent = self.0.following.asked();
        match self.send(snapshot, &sealed, deadline).await {
            Ok(version) => Ok(Attempt::Done(
                self.adopt(entry, snapshot, &sealed, version, sent)?,
            )),
            Err(AppendError::Conflict) => Ok(Attempt::LostRace),
            Err(AppendError::Full) => Ok(Attempt::Full),
            Err(AppendError::Busy) => Ok(Attempt::Busy),
            Err(AppendError::InDoubt) => Ok(Attempt::InDoubt(sealed)),
            Err(AppendError::NotWritten(error)) => Err(error.into()),
        }
    }

    /// Answers a repeated request as it was answered the first time.
    async fn repeat<R>(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: Arc<Snapshot>,
        record: &Record,
        request: &RequestHash,
        deadline: Instant,
    ) -> Result<Outcome<R>, OwnersError> {
        let written_by = record.envelope.request.map(|(_, request)| request);
        if written_by != Some(*request) {
            return Ok(WriteFailure::RequestIdReused.into());
        }

        let Some((items, refused)) = self.complete_write(&snapshot, record).await? else {
            return Ok(WriteFailure::Forgotten(snapshot.version()).into());
        };

        self.catch_up(entry, snapshot.clone(), newest(&items))
            .await?;
        self.receipt(entry, &snapshot, items, refused, deadline)
            .await
    }

    /// Composes the result of an acknowledged write, once its row is here or the wait for it is
    /// over.
    async fn receipt<R>(
        &self,
        entry: &OwnerEntry,
        snapshot: &Snapshot,
        items: Vec<Arc<OpenedItem>>,
        refused: BTreeMap<u16, StoredRefusal>,
        deadline: Instant,
    ) -> Result<Outcome<R>, OwnersError> {
        let local = self.wait_for_row(entry, newest(&items), deadline).await;
        let refused = self.recall_refusals(snapshot, refused).await?;
        Ok(Outcome::Written(Box::new(WriteReceipt {
            items,
            refused,
            local,
        })))
    }

    /// Brings the copy in memory up to that version before the caller learns the version, so that
    /// this worker never answers with an older copy after that. The repeated write may be another
    /// worker's, found in Postgres or in the bucket, and newer than the copy in memory.
    async fn catch_up(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: Arc<Snapshot>,
        to: Version,
    ) -> Result<(), OwnersError> {
        let owner = *snapshot.owner();
        match self.at_least(&owner, entry, snapshot, to).await {
            Ok(_) => Ok(()),
            Err(OwnersError::NeverWas { owner_version }) => Err(OwnersError::HistoryLost {
                owner,
                held: to,
                found: owner_version,
            }),
            Err(error) => Err(error),
        }
    }

    /// Waits until the projection has passed that version. The row is in this shard's Postgres then
    /// if the shard hosts the owner.
    async fn wait_for_row(
        &self,
        entry: &OwnerEntry,
        version: Version,
        deadline: Instant,
    ) -> Projected {
        // There is no wait for a row that is known not to come soon.
        let hosted = entry.hosted.load(Ordering::Acquire);
        let is_awaited = hosted
            && self.0.store.stores_rows()
            && !self.0.continuity.is_lost()
            && !self.0.cursor.lags_before(version.get());
        if !is_awaited {
            return Projected::Pending;
        }

        let limit = Duration::from_millis(self.0.settings.write.local_wait_ms);
        let left = deadline.saturating_duration_since(Instant::now());
        let projected = self.0.cursor.wait_for(version.get(), limit.min(left)).await;
        if projected == Projected::Pending {
            self.0.store.breaker().doubt();
            if limit <= left {
                self.0.cursor.note_lag(version.get());
            }
        }

        projected
    }
}

/// The keyed hashes of the request's id and of the request itself; `None` without an id, or for an
/// owner without keys.
fn request_hashes(snapshot: &Snapshot, intent: &Intent) -> Option<(RequestHash, RequestHash)> {
    let (id, body) = intent.request.as_ref()?;
    Some(snapshot.keys()?.request_hashes(id, body))
}
