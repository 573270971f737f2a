//! Reading an owner, as fresh as asked for.

use super::cell::Cell;
use super::{Owners, OwnersFault, Snapshot, is_away};
use crate::domain::Version;
use crate::seal::{Broken, OwnerKey};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;
use tracing::error;

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
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

impl Owners {
    /// The owner's snapshot, as fresh as `need` says and at least of `min_version`.
    pub async fn read(&self, owner: &OwnerKey, need: Need, min_version: Version) -> Result<Reading, OwnersFault> {
        let arrived = Instant::now();
        let cell = self.cell(owner);
        let held = self.at_hand(owner, &cell).await?;
        let fresh = match need {
            Need::Strong => self.refresh(owner, &cell, &held, true).await?,
            Need::Head if held.checked_at().is_some_and(|at| at >= arrived) => held,
            Need::Eventual if held.checked_at().is_some_and(|at| at.elapsed() <= self.max_age()) => held,
            Need::Head | Need::Eventual => match self.refresh(owner, &cell, &held, false).await {
                Err(fault) if is_away(&fault) && held.version() >= min_version => {
                    return Ok(Reading { snapshot: held, stale: true });
                }
                refreshed => refreshed?,
            },
        };
        let snapshot = self.at_least(owner, &cell, fresh, min_version).await?;
        Ok(Reading { snapshot, stale: false })
    }

    async fn at_least(
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
        if held.version() >= least { Ok(held) } else { Err(OwnersFault::NeverWas { owner_version: held.version() }) }
    }

    /// A snapshot that holds what the truth has by now. One that is found not to be whole is fetched anew.
    pub(super) async fn refresh(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        held: &Snapshot,
        confirmed: bool,
    ) -> Result<Arc<Snapshot>, OwnersFault> {
        let snapshot = match self.newer(held, confirmed).await {
            Err(OwnersFault::Broken { owner, broken }) => {
                error!(%owner, %broken, "the copy in memory and the truth do not fit: fetched anew");
                cell.forget();
                self.fetch_whole(&owner).await?.0
            }
            newer => newer?,
        };
        Ok(self.keep(owner, cell, snapshot))
    }

    /// `held` with what the truth has that is newer.
    pub(super) async fn newer(&self, held: &Snapshot, confirmed: bool) -> Result<Snapshot, OwnersFault> {
        let (owner, version) = (held.owner(), held.version());
        let checked_at = Instant::now();
        let delta = match confirmed {
            true => self.0.bucket.since_confirmed(owner, version).await?,
            false => self.0.bucket.since(owner, version).await?,
        };
        // A replica may be behind; a confirmed answer that is has lost what was acknowledged.
        if confirmed && delta.up_to.unwrap_or_default() < version {
            return Err(OwnersFault::Broken { owner: *owner, broken: Broken::RolledBack });
        }
        let set = held
            .set()
            .apply(&self.0.keyring, delta.records)
            .map_err(|broken| OwnersFault::Broken { owner: *owner, broken })?;
        held.next(&self.0.keyring, set, Some(checked_at))
    }
}
