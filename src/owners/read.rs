//! Reading an owner, as fresh as asked for.

use super::cell::Cell;
use super::host::Fetched;
use super::{Owners, OwnersFault, Snapshot, a_copy_stands_in};
use crate::domain::Version;
use crate::exchange::CallFault;
use crate::seal::{Broken, OwnerKey};
use crate::truth::TruthFault;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;
use tracing::{debug, error};

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// The copy at hand, if it is not older than the settings allow.
    Eventual,
    /// What the nearest replica of the truth has.
    Head,
    /// Everything that was acknowledged anywhere before.
    Strong,
}

/// An owner as a read sees them.
pub struct Reading {
    /// Their data.
    pub snapshot: Arc<Snapshot>,
    /// Whether the truth could not be asked, so that there may be newer.
    pub stale: bool,
}

/// What is kept of a caller's time for giving the copy at hand, where the truth does not answer.
const LAST_MOMENT: Duration = Duration::from_millis(20);

impl Owners {
    /// The owner's snapshot, as fresh as `need` says and at least of `min_version`. The copy at hand stands in for a
    /// truth that does not answer before the caller's `deadline`.
    pub async fn read(
        &self,
        owner: &OwnerKey,
        need: Need,
        min_version: Version,
        deadline: tokio::time::Instant,
    ) -> Result<Reading, OwnersFault> {
        let arrived = Instant::now();
        let cell = self.cell(owner);
        let held = self
            .at_hand_by(owner, &cell, Some(deadline - LAST_MOMENT))
            .await?;
        let fresh = match need {
            Need::Strong => self.refresh(owner, &cell, &held, true).await?,
            Need::Head if held.checked_at().is_some_and(|at| at >= arrived) => held,
            Need::Eventual
                if held
                    .checked_at()
                    .is_some_and(|at| at.elapsed() <= self.max_age()) =>
            {
                held
            }
            Need::Head | Need::Eventual => {
                // Where the truth went back, only a confirmed read tells whose history it lost.
                let refreshed = self.refresh(owner, &cell, &held, self.0.history.is_lost());
                let refreshed = tokio::select! {
                    refreshed = timeout_at(deadline - LAST_MOMENT, refreshed) => refreshed.ok(),
                    // It turns out to be away while this waits.
                    () = self.0.bucket.reading().broken() => None,
                };
                match refreshed.unwrap_or(Err(TruthFault::from(CallFault::TimedOut).into())) {
                    Err(fault) if a_copy_stands_in(&fault) && held.version() >= min_version => {
                        return Ok(Reading {
                            snapshot: held,
                            stale: true,
                        });
                    }
                    refreshed => refreshed?,
                }
            }
        };
        let snapshot = self.at_least(owner, &cell, fresh, min_version).await?;
        Ok(Reading {
            snapshot,
            stale: false,
        })
    }

    /// A snapshot of at least that version: `held`, or a newer one.
    pub(super) async fn at_least(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        mut held: Arc<Snapshot>,
        least: Version,
    ) -> Result<Arc<Snapshot>, OwnersFault> {
        for confirmed in [false, true] {
            if held.version() >= least {
                return Ok(held);
            }
            held = self.refresh(owner, cell, &held, confirmed).await?;
        }
        if held.version() >= least {
            Ok(held)
        } else {
            Err(OwnersFault::NeverWas {
                owner_version: held.version(),
            })
        }
    }

    /// A snapshot that holds what the truth has by now.
    pub(super) async fn refresh(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<Arc<Snapshot>, OwnersFault> {
        Ok(match self.renewed(held, confirmed).await? {
            Renewed::Grown(snapshot) => self.keep(owner, cell, snapshot),
            Renewed::Replaced(snapshot) => {
                cell.forget();
                self.keep(owner, cell, snapshot)
            }
        })
    }

    /// `held` with what the truth has that is newer; or, where the two do not fit, what the truth has. Fails where the
    /// truth has less than `held`: acknowledged history is lost, and is not passed over in silence.
    pub(super) async fn renewed(
        &self,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<Renewed, OwnersFault> {
        let (owner, broken) = match self.newer(held, confirmed).await {
            Err(OwnersFault::Broken { owner, broken }) => (owner, broken),
            newer => return newer.map(|(grown, _)| Renewed::Grown(grown.into())),
        };
        let whole = self.fetch_whole(&owner).await?.snapshot;
        let (held, found) = (held.version(), whole.version());
        if found < held {
            error!(%owner, %held, %found, "the truth has lost history of this owner: the copy at hand stands in");
            return Err(OwnersFault::HistoryLost { owner, held, found });
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
        Ok(Renewed::Replaced(whole))
    }

    /// What was fetched, with what the truth has that is newer, confirmed.
    pub(super) async fn fetch_newer(&self, held: &Snapshot) -> Result<Fetched, OwnersFault> {
        match self.newer(held, true).await {
            Ok((snapshot, up_to)) => Ok(Fetched {
                snapshot: snapshot.into(),
                up_to: up_to.unwrap_or_default(),
            }),
            Err(OwnersFault::Broken {
                broken: Broken::Torn | Broken::BelowFloor,
                owner,
            }) => self.fetch_whole(&owner).await,
            Err(fault) => Err(fault),
        }
    }

    /// `held` with what the truth has that is newer, and the stream sequence up to which it is complete.
    async fn newer(
        &self,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<(Snapshot, Option<Version>), OwnersFault> {
        let (owner, version) = (held.owner(), held.version());
        let checked_at = Instant::now();
        let delta = match confirmed {
            true => self.0.bucket.since_confirmed(owner, version).await?,
            false => self.0.bucket.since(owner, version).await?,
        };
        let broken = |broken| OwnersFault::Broken {
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
}

/// What came of asking the truth for what is newer than a copy.
pub(super) enum Renewed {
    /// The copy, with what is newer.
    Grown(Arc<Snapshot>),
    /// Another one: the copy did not fit.
    Replaced(Arc<Snapshot>),
}
