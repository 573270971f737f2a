//! Reading an owner, with the consistency that the caller asks for.

use super::cache::OwnerEntry;
use super::fetch::Refresh;
use super::{Owners, OwnersError, Snapshot, allows_stale_copy};
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::OwnerKey;
use crate::truth::TruthError;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// What a read has to contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// The copy in memory, if it is not older than the settings permit.
    Eventual,
    /// What the nearest replica of the truth has.
    Head,
    /// Everything that was acknowledged anywhere before.
    Strong,
}

/// The result of a read.
pub struct Reading {
    /// The owner's data.
    pub snapshot: Arc<Snapshot>,
    /// Whether the truth did not confirm the data, so that newer data may exist.
    pub stale: bool,
}

/// The part of a caller's time that is reserved for answering from the copy, if the truth does not
/// answer.
const STALE_REPLY_RESERVE: Duration = Duration::from_millis(20);

impl Owners {
    /// Returns the owner's snapshot with the given consistency, at least of `min_version`.
    ///
    /// A `Head` or `Eventual` read does not fail if the truth is unavailable, or does not answer
    /// before the caller's `deadline`: it returns the copy that this worker has, as stale, if that
    /// copy has reached `min_version`.
    pub async fn read(
        &self,
        owner: &OwnerKey,
        consistency: Consistency,
        min_version: Version,
        deadline: tokio::time::Instant,
    ) -> Result<Reading, OwnersError> {
        let arrived = Instant::now();
        let entry = self.entry(owner);
        let truth_deadline = deadline - STALE_REPLY_RESERVE;
        let held = self
            .load_with_deadline(owner, &entry, Some(truth_deadline))
            .await?;

        let fresh = match consistency {
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
                // If the bucket has lost history, only a confirmed read shows whether this owner is
                // affected.
                let refreshed = self.refresh(owner, &entry, &held, self.0.continuity.is_lost());
                let refreshed = tokio::select! {
                    refreshed = timeout_at(truth_deadline, refreshed) => refreshed.ok(),
                    // The truth becomes unavailable while this waits.
                    () = self.0.bucket.reading().broken() => None,
                };

                match refreshed.unwrap_or(Err(TruthError::from(CallError::TimedOut).into())) {
                    Err(error) if allows_stale_copy(&error) && held.version() >= min_version => {
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

    /// Returns a snapshot of at least `min_version`: `held`, or a newer one. Fails with
    /// [`OwnersError::NeverWas`] if the truth has not reached that version.
    pub(super) async fn at_least(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        mut held: Arc<Snapshot>,
        min_version: Version,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        for confirmed in [false, true] {
            if held.version() >= min_version {
                return Ok(held);
            }
            held = self.refresh(owner, entry, &held, confirmed).await?;
        }

        if held.version() >= min_version {
            Ok(held)
        } else {
            Err(OwnersError::NeverWas {
                owner_version: held.version(),
            })
        }
    }

    /// Adds to `held` what the truth has that is newer, and keeps the result in memory. With
    /// `confirmed` the result has everything that was acknowledged before, otherwise what the
    /// nearest replica has.
    pub(super) async fn refresh(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        Ok(match self.fetch_refresh(held, confirmed).await? {
            Refresh::Extended(snapshot) => self.keep(owner, entry, snapshot),
            Refresh::Replaced(snapshot) => {
                entry.forget();
                self.keep(owner, entry, snapshot)
            }
        })
    }
}
