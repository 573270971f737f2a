//! Asking the bucket about an owner: their complete set, or what is newer than a copy.

use super::{Owners, OwnersError, Snapshot};
use crate::domain::Version;
use crate::seal::{Broken, OwnerKey, OwnerSet};
use crate::shard::OwnerCopy;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, error};

/// Between one look at a write that is not whole yet and the next.
const TORN_PAUSE: Duration = Duration::from_millis(5);

/// An owner's whole set, as the truth has it.
pub struct FetchedOwner {
    /// The set.
    pub snapshot: Arc<Snapshot>,
    /// The stream sequence up to which it is complete.
    pub up_to: Version,
}

/// What came of asking the truth for what is newer than a copy.
pub(super) enum Refresh {
    /// The copy, with what is newer.
    Extended(Arc<Snapshot>),
    /// Another one: the copy did not fit.
    Replaced(Arc<Snapshot>),
}

impl Owners {
    /// The owner's whole set from the truth, confirmed. A replica may have come to the middle of a write just now; it is
    /// asked again.
    pub(crate) async fn fetch_complete(
        &self,
        owner: &OwnerKey,
    ) -> Result<FetchedOwner, OwnersError> {
        let end = self.0.bucket.deadline();
        loop {
            match self.fetch_once(owner).await {
                Err(OwnersError::Broken {
                    broken: Broken::Torn,
                    ..
                }) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(TORN_PAUSE).await;
                }
                fetched => return fetched,
            }
        }
    }

    async fn fetch_once(&self, owner: &OwnerKey) -> Result<FetchedOwner, OwnersError> {
        let checked_at = Instant::now();
        let delta = self.0.bucket.since_confirmed(owner, Version::NONE).await?;
        let set = OwnerSet::empty(*owner)
            .apply(&self.0.keyring, delta.records)
            .map_err(|broken| OwnersError::Broken {
                owner: *owner,
                broken,
            })?;
        let snapshot = Arc::new(Snapshot::new(&self.0.keyring, set, Some(checked_at))?);
        Ok(FetchedOwner {
            snapshot,
            up_to: delta.up_to.unwrap_or_default(),
        })
    }

    /// `held` with what the truth has that is newer; or, where the two do not fit, what the truth has. Fails where the
    /// truth has less than `held`: acknowledged history is lost, and is not passed over in silence.
    pub(super) async fn refreshed_copy(
        &self,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<Refresh, OwnersError> {
        let (owner, broken) = match self.extend(held, confirmed).await {
            Err(OwnersError::Broken { owner, broken }) => (owner, broken),
            newer => return newer.map(|(grown, _)| Refresh::Extended(grown.into())),
        };
        let whole = self.fetch_complete(&owner).await?.snapshot;
        let (held, found) = (held.version(), whole.version());
        if found < held {
            error!(%owner, %held, %found, "the truth has lost history of this owner: the copy at hand stands in");
            return Err(OwnersError::HistoryLost { owner, held, found });
        }
        match broken {
            // So it is with every copy that was not asked for while deletions were forgotten.
            Broken::BelowFloor => {
                debug!(%owner, %held, %found, "the copy at hand is of before the floor: taken anew")
            }
            Broken::Torn => {
                debug!(%owner, %held, %found, "the replica was in the middle of a write: taken anew")
            }
            _ => {
                error!(%owner, %broken, %held, %found, "the copy at hand and the truth do not fit: the truth's is taken")
            }
        }
        Ok(Refresh::Replaced(whole))
    }

    /// What was fetched, with what the truth has that is newer, confirmed.
    pub(super) async fn fetch_since(&self, held: &Snapshot) -> Result<FetchedOwner, OwnersError> {
        match self.extend(held, true).await {
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

    /// `held` with what the truth has that is newer, and the stream sequence up to which it is complete.
    async fn extend(
        &self,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<(Snapshot, Option<Version>), OwnersError> {
        let (owner, version) = (held.owner(), held.version());
        let checked_at = Instant::now();
        let delta = match confirmed {
            true => self.0.bucket.since_confirmed(owner, version).await?,
            false => self.0.bucket.since(owner, version).await?,
        };
        let broken = |broken| OwnersError::Broken {
            owner: *owner,
            broken,
        };
        // A replica may be behind; a confirmed answer that is has lost what was acknowledged.
        if confirmed && !held.is_in(&delta.records) {
            return Err(broken(Broken::RolledBack));
        }
        let set = held
            .set()
            .apply(&self.0.keyring, delta.records)
            .map_err(broken)?;
        Ok((
            held.next(&self.0.keyring, set, Some(checked_at))?,
            delta.up_to,
        ))
    }

    /// What was fetched, as it is stored.
    pub(super) fn owner_copy(&self, fetched: &FetchedOwner) -> OwnerCopy<'_> {
        let set = fetched.snapshot.set();
        let (records, up_to) = (set.records().cloned().collect(), fetched.up_to.get());
        OwnerCopy {
            owner: *set.owner(),
            bucket: self.bucket_name(),
            records,
            up_to,
        }
    }
}
