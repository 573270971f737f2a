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
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// What a read has to contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// How far a worker has to have followed the bucket for a read.
#[derive(Clone, Copy)]
enum Reach {
    /// As far as the nearest replica has come.
    Replica,
    /// Up to everything that was acknowledged anywhere before.
    Acknowledged,
}

/// The part of a caller's time that is reserved for answering from the copy, if the truth does not
/// answer.
const STALE_REPLY_RESERVE: Duration = Duration::from_millis(20);

impl Owners {
    /// Returns the owner's snapshot with the given consistency, at least of `min_version`.
    ///
    /// A `Head` or `Eventual` read does not fail if the truth is unavailable, or does not answer
    /// before the caller's `deadline`: it returns the newest copy that this worker has, in memory or
    /// in Postgres, as stale, if that copy has reached `min_version`.
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
            .load_with_deadline(owner, &entry, deadline, Some(truth_deadline))
            .await?;

        let fresh = match consistency {
            Consistency::Strong => match self.followed(&entry, &held, Reach::Acknowledged).await? {
                Some(followed) => followed,
                None => self.refresh(owner, &entry, &held, true).await?,
            },
            Consistency::Head if held.checked_at().is_some_and(|at| at >= arrived) => held,
            Consistency::Eventual if self.is_fresh_enough(&held) => held,
            Consistency::Head | Consistency::Eventual => {
                let refreshed = self.follow_or_refresh(owner, &entry, &held, arrived);
                let refreshed = tokio::select! {
                    refreshed = timeout_at(truth_deadline, refreshed) => refreshed.ok(),
                    // The truth becomes unavailable while this waits.
                    () = self.0.bucket.reading().broken() => None,
                };

                match refreshed.unwrap_or(Err(TruthError::from(CallError::TimedOut).into())) {
                    Err(error) if allows_stale_copy(&error) => {
                        let limit = deadline - STALE_REPLY_RESERVE / 2;
                        let snapshot = self.newest_copy(owner, &entry, held, limit).await;
                        return (snapshot.version() >= min_version)
                            .then_some(Reading {
                                snapshot,
                                stale: true,
                            })
                            .ok_or(error);
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

    /// Whether an `eventual` read may be answered from the copy at once.
    fn is_fresh_enough(&self, held: &Snapshot) -> bool {
        let max_age = self.max_age();

        held.checked_at().is_some_and(|at| at.elapsed() <= max_age)
            || !self.0.continuity.is_lost() && self.0.following.was_current_within(held, max_age)
    }

    /// Returns what the nearest replica has of the owner: what this worker has in memory if it follows the
    /// bucket and knows that this is current, or else what the bucket answers.
    async fn follow_or_refresh(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: &Arc<Snapshot>,
        arrived: Instant,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        if let Some(followed) = self.followed(entry, held, Reach::Replica).await? {
            return Ok(followed);
        }

        // If the bucket has lost history, only a confirmed read shows whether this owner is affected.
        let confirmed = self.0.continuity.is_lost();
        self.refresh_together(owner, entry, held, arrived, confirmed)
            .await
    }

    /// Returns the owner's set in memory, if this worker follows the bucket, has come as far as `reach`
    /// says, and knows of nothing newer. `None` if the bucket has to be asked.
    async fn followed(
        &self,
        entry: &OwnerEntry,
        held: &Snapshot,
        reach: Reach,
    ) -> Result<Option<Arc<Snapshot>>, OwnersError> {
        let following = &self.0.following;
        let may_serve = |held: &Snapshot| {
            !self.0.continuity.is_lost()
                && !entry.lost.load(Ordering::Relaxed)
                && following.is_current(held)
        };
        let Some(place) = following.place().filter(|_| may_serve(held)) else {
            return Ok(None);
        };

        let asked_at = Instant::now();
        let (sequence, least) = match reach {
            Reach::Replica => (self.0.bucket.newest_sequence().await?, place.position),
            Reach::Acknowledged => (self.0.bucket.publish_barrier().await?, place.position + 1),
        };
        // The replica may be behind this worker, or the bucket has lost history.
        let is_reached = sequence >= least
            && following.reach(sequence).await
            && following.confirm(asked_at, place);

        Ok(entry.held().filter(|held| is_reached && may_serve(held)))
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

    /// Does the same as [`refresh`](Self::refresh) for a request that came at `arrived`. Of the
    /// owner's requests that come while the truth is asked, one asks again, and all others take its
    /// result. With `confirmed` each asks for itself.
    async fn refresh_together(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: &Arc<Snapshot>,
        arrived: Instant,
        confirmed: bool,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        if confirmed {
            return self.refresh(owner, entry, held, true).await;
        }

        let _turn = entry.refreshing.lock().await;
        let held = entry.held().unwrap_or_else(|| held.clone());
        if held.checked_at().is_some_and(|at| at >= arrived) {
            return Ok(held);
        }

        self.refresh(owner, entry, &held, false).await
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
        let refresh = self.fetch_refresh(held, confirmed).await;
        self.note_whether_lost(entry, held, &refresh).await;

        Ok(match refresh? {
            Refresh::Extended(snapshot) => self.keep(owner, entry, snapshot),
            Refresh::Replaced(snapshot) => {
                entry.forget();
                self.keep(owner, entry, snapshot)
            }
        })
    }

    /// Marks the copy in this shard's Postgres as lost history, the first time that the truth turns
    /// out to lack something of the same version in memory.
    async fn note_whether_lost(
        &self,
        entry: &OwnerEntry,
        held: &Snapshot,
        refresh: &Result<Refresh, OwnersError>,
    ) {
        match refresh {
            Ok(_) => entry.lost.store(false, Ordering::Relaxed),
            Err(OwnersError::HistoryLost { .. }) => {
                if !entry.lost.swap(true, Ordering::Relaxed) {
                    self.mark_lost(held.owner(), held.version()).await;
                }
            }
            Err(_) => {}
        }
    }
}
