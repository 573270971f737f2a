//! Fetching an owner from the bucket: the complete set, or what is newer than a copy.

use super::{Owners, OwnersError, Snapshot};
use crate::domain::Version;
use crate::seal::{Broken, OwnerKey, OwnerSet};
use crate::shard::OwnerCopy;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, error};

/// The pause before the bucket is asked again, after a replica returned only part of a write.
const TORN_WRITE_PAUSE: Duration = Duration::from_millis(5);

/// An owner's complete set, as the truth has it.
pub struct FetchedOwner {
    /// The set.
    pub snapshot: Arc<Snapshot>,
    /// The stream sequence up to which the set is complete.
    pub up_to: Version,
}

/// A copy after the truth was asked for what is newer.
pub(super) enum Refresh {
    /// The copy, with what is newer.
    Extended(Arc<Snapshot>),
    /// The truth's set, because the copy does not fit it.
    Replaced(Arc<Snapshot>),
}

/// How the truth is asked for what is newer than a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// For what the nearest replica has.
    Newer,
    /// Also whether that replica has the copy's newest record, and how far it has come.
    Inclusive,
    /// The same, in an answer with everything that was acknowledged before.
    Confirmed,
}

impl Owners {
    /// Fetches the owner's complete set from the truth, confirmed. If a replica has just part of
    /// the newest write, it is asked again.
    pub(crate) async fn fetch_complete(
        &self,
        owner: &OwnerKey,
    ) -> Result<FetchedOwner, OwnersError> {
        let deadline = self.0.bucket.deadline();
        loop {
            match self.fetch_once(owner).await {
                Err(OwnersError::Broken {
                    broken: Broken::Torn,
                    ..
                }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(TORN_WRITE_PAUSE).await;
                }
                fetched => return fetched,
            }
        }
    }

    async fn fetch_once(&self, owner: &OwnerKey) -> Result<FetchedOwner, OwnersError> {
        let asked = self.0.following.asked();
        let delta = self.0.bucket.since_confirmed(owner, Version::NONE).await?;

        let keyring = &self.0.keyring;
        let snapshot = Snapshot::of_records(keyring, *owner, delta.records, Some(asked.at))?;
        let up_to = delta.up_to.unwrap_or_default();
        snapshot.note_known(asked, up_to.get());

        Ok(FetchedOwner {
            snapshot: Arc::new(snapshot),
            up_to,
        })
    }

    /// Fetches what the truth has that is newer than `held`. If the two do not fit, fetches the
    /// truth's complete set.
    ///
    /// Fails with [`OwnersError::HistoryLost`] if the truth lacks something that `held` has, however
    /// far it has moved on since: the loss of acknowledged history must not go unnoticed.
    pub(super) async fn fetch_refresh(
        &self,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<Refresh, OwnersError> {
        let question = if confirmed {
            Question::Confirmed
        } else if self.0.following.needs_answer(held) {
            Question::Inclusive
        } else {
            Question::Newer
        };
        // The newest record alone does not show how far the replica has come.
        if question == Question::Newer
            && let Some(snapshot) = self.extend_by_newest(held).await?
        {
            return Ok(Refresh::Extended(snapshot.into()));
        }
        let (owner, broken) = match self.extend(held, question).await {
            Err(OwnersError::Broken { owner, broken }) => (owner, broken),
            extended => return extended.map(|(snapshot, _)| Refresh::Extended(snapshot.into())),
        };

        let complete = self.fetch_complete(&owner).await?.snapshot;
        let is_lost = self.is_lost(held.set(), complete.set()).await;
        let held = held.version();
        let found = complete.version();
        if is_lost {
            error!(
                %owner, %held, %found,
                "the truth has lost history of this owner: the copy is served"
            );
            return Err(OwnersError::HistoryLost { owner, held, found });
        }

        match broken {
            // This is normal for a copy that was not refreshed while deletions were forgotten.
            Broken::BelowFloor => {
                debug!(%owner, %held, %found, "the copy is older than the floor: fetched again")
            }
            Broken::Torn => {
                debug!(%owner, %held, %found, "the replica had part of a write: fetched again")
            }
            _ => {
                error!(
                    %owner, error = %broken, %held, %found,
                    "the copy does not fit the truth: fetched again"
                )
            }
        }

        Ok(Refresh::Replaced(complete))
    }

    /// Returns whether the complete `copy` has what the truth's set lacks. A copy with a record that
    /// cannot be opened was altered here, and is none to keep.
    pub(crate) async fn is_lost(&self, copy: &OwnerSet, truth: &OwnerSet) -> bool {
        !copy.can_become(truth) && self.is_genuine(copy).await
    }

    /// Returns whether all records of the set can be opened.
    pub(super) async fn is_genuine(&self, set: &OwnerSet) -> bool {
        let Ok(snapshot) = Snapshot::new(&self.0.keyring, set.clone(), None) else {
            return false;
        };

        let snapshot = Arc::new(snapshot);
        self.open(&snapshot).await;
        snapshot.items().is_ok()
    }

    /// Adds to a fetched set what the truth has that is newer, confirmed.
    pub(super) async fn fetch_since(&self, held: &Snapshot) -> Result<FetchedOwner, OwnersError> {
        match self.extend(held, Question::Confirmed).await {
            Ok((snapshot, up_to)) => Ok(FetchedOwner {
                snapshot: snapshot.into(),
                up_to: up_to.unwrap_or_default(),
            }),
            Err(OwnersError::Broken {
                broken: Broken::Torn | Broken::BelowFloor,
                owner,
            }) => self.fetch_complete(&owner).await,
            Err(error) => Err(error),
        }
    }

    /// Returns `held` with the newest record that the nearest replica has, if that is all that `held` may
    /// lack. `None` if it lacks more, or if the newest record is large.
    async fn extend_by_newest(&self, held: &Snapshot) -> Result<Option<Snapshot>, OwnersError> {
        if held.newest_bytes() > self.0.bucket.newest_bytes_max() {
            return Ok(None);
        }

        let asked = self.0.following.asked();
        let newest = self.0.bucket.newest(held.owner()).await?;
        let newer = newest.filter(|record| record.version > held.version());
        if let Some(record) = &newer
            && record.envelope.prev != held.version()
        {
            return Ok(None);
        }
        let keyring = &self.0.keyring;
        let Ok(set) = held.set().apply(keyring, newer) else {
            return Ok(None);
        };
        // The record may be one of several of a batch: then the set is not whole.
        let extended = held.next(keyring, set, Some(asked.at)).ok();
        if let Some(newer) = extended.as_ref().filter(|it| it.version() > held.version()) {
            newer.note_known(asked, newer.version().get());
        }
        Ok(extended)
    }

    /// Returns `held` with what the truth has that is newer, and the stream sequence up to which
    /// that is complete.
    async fn extend(
        &self,
        held: &Snapshot,
        question: Question,
    ) -> Result<(Snapshot, Option<Version>), OwnersError> {
        let owner = held.owner();
        let version = held.version();
        let asked = self.0.following.asked();
        let bucket = &self.0.bucket;
        let delta = match question {
            Question::Newer => bucket.since(owner, version).await?,
            Question::Inclusive => bucket.since_inclusive(owner, version).await?,
            Question::Confirmed => bucket.since_confirmed(owner, version).await?,
        };

        let broken = |broken| OwnersError::Broken {
            owner: *owner,
            broken,
        };
        // A replica may be behind. An answer that reaches so far, and lacks the newest record, shows that
        // the bucket has lost what it acknowledged.
        let has_all_of_held = held.is_confirmed_by(&delta.records);
        let would_have_it = match question {
            Question::Newer => false,
            Question::Inclusive => delta.up_to.is_some_and(|up_to| up_to >= version),
            Question::Confirmed => true,
        };
        if would_have_it && !has_all_of_held {
            return Err(broken(Broken::RolledBack));
        }
        let set = held
            .set()
            .apply(&self.0.keyring, delta.records)
            .map_err(broken)?;
        let snapshot = held.next(&self.0.keyring, set, Some(asked.at))?;
        if let Some(up_to) = delta.up_to.filter(|_| has_all_of_held) {
            snapshot.note_known(asked, up_to.get());
        }
        Ok((snapshot, delta.up_to))
    }

    /// Returns the fetched set in the form in which Postgres stores it.
    pub(super) fn owner_copy(&self, fetched: &FetchedOwner) -> OwnerCopy {
        let set = fetched.snapshot.set();
        OwnerCopy {
            owner: *set.owner(),
            bucket: self.bucket_name().to_owned(),
            records: set.records().cloned().collect(),
            up_to: fetched.up_to.get(),
        }
    }
}
