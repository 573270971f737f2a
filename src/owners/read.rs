//! Reading an owner, as fresh as asked for.

use super::cache::OwnerEntry;
use super::fetch::Refresh;
use super::{Owners, OwnersError, Snapshot, a_copy_stands_in};
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::OwnerKey;
use crate::truth::TruthError;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
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
        need: Consistency,
        min_version: Version,
        deadline: tokio::time::Instant,
    ) -> Result<Reading, OwnersError> {
        let arrived = Instant::now();
        let entry = self.entry(owner);
        let held = self
            .load_by(owner, &entry, Some(deadline - LAST_MOMENT))
            .await?;
        let fresh = match need {
            Consistency::Strong => self.refresh(owner, &entry, &held, true).await?,
            Consistency::Head if held.checked_at().is_some_and(|at| at >= arrived) => held,
            Consistency::Eventual
                if held
                    .checked_at()
                    .is_some_and(|at| at.elapsed() <= self.max_age()) =>
            {
                held
            }
            Consistency::Head | Consistency::Eventual => {
                // Where the truth went back, only a confirmed read tells whose history it lost.
                let refreshed = self.refresh(owner, &entry, &held, self.0.continuity.is_lost());
                let refreshed = tokio::select! {
                    refreshed = timeout_at(deadline - LAST_MOMENT, refreshed) => refreshed.ok(),
                    // It turns out to be away while this waits.
                    () = self.0.bucket.reading().broken() => None,
                };
                match refreshed.unwrap_or(Err(TruthError::from(CallError::TimedOut).into())) {
                    Err(error) if a_copy_stands_in(&error) && held.version() >= min_version => {
                        return Ok(Reading {
                            snapshot: held,
                            stale: true,
                        });
                    }
                    refreshed => refreshed?,
                }
            }
        };
        let snapshot = self.at_least(owner, &entry, fresh, min_version).await?;
        Ok(Reading {
            snapshot,
            stale: false,
        })
    }

    /// A snapshot of at least that version: `held`, or a newer one.
    pub(super) async fn at_least(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        mut held: Arc<Snapshot>,
        least: Version,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        for confirmed in [false, true] {
            if held.version() >= least {
                return Ok(held);
            }
            held = self.refresh(owner, entry, &held, confirmed).await?;
        }
        if held.version() >= least {
            Ok(held)
        } else {
            Err(OwnersError::NeverWas {
                owner_version: held.version(),
            })
        }
    }

    /// A snapshot that holds what the truth has by now.
    pub(super) async fn refresh(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        Ok(match self.refreshed_copy(held, confirmed).await? {
            Refresh::Extended(snapshot) => self.keep(owner, entry, snapshot),
            Refresh::Replaced(snapshot) => {
                entry.forget();
                self.keep(owner, entry, snapshot)
            }
        })
    }
}
