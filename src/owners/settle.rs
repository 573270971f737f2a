//! Settling a write that was sent and not acknowledged.
//!
//! The worker sends the same records again, based on the same version. Both attempts are a
//! compare-and-set on that version, so at most one of them can land, whenever the first arrives. If
//! the owner is at another version by then, the operation id in the sealed records shows whether
//! this write was the one that landed.

use super::cache::OwnerEntry;
use super::compose::Sealed;
use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::seal::{Body, Record};
use crate::truth::AppendError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

/// The pause before a write is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The result of settling a write.
pub(super) enum Settled {
    /// The truth has the write.
    Done(Vec<Arc<OpenedItem>>),
    /// The truth does not have the write, and never will: the owner is at another version.
    Lost,
    /// The caller's deadline passed first.
    InDoubt,
}

impl Owners {
    /// Settles a write in doubt, if the truth answers before the `deadline`.
    pub(super) async fn settle(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        sealed: Sealed,
        deadline: Instant,
    ) -> Settled {
        let settling = async {
            loop {
                self.0.bucket.writing().closed().await;
                match self.settle_once(entry, snapshot, &sealed, deadline).await {
                    Ok(Some(settled)) => return settled,
                    Ok(None) => {}
                    Err(error) => warn!(%error, "a write in doubt is not settled yet"),
                }
                sleep_until(Instant::now() + RETRY_PAUSE).await;
            }
        };
        let settled = timeout_at(deadline, settling)
            .await
            .unwrap_or(Settled::InDoubt);

        let outcome = match settled {
            Settled::Done(_) => "it is written",
            Settled::Lost => "it is not written",
            Settled::InDoubt => "the deadline passed before it was settled",
        };
        info!(outcome, "a write was in doubt");
        settled
    }

    /// Sends the write once more. Returns `None` if that did not settle it.
    async fn settle_once(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        sealed: &Sealed,
        deadline: Instant,
    ) -> Result<Option<Settled>, OwnersError> {
        let sent = self.0.following.asked();
        match self.send(snapshot, sealed, deadline).await {
            Ok(version) => Ok(Some(Settled::Done(
                self.adopt(entry, snapshot, sealed, version, sent)?,
            ))),
            Err(AppendError::Conflict) => self.settle_conflict(entry, snapshot, sealed).await,
            // A full bucket refuses this attempt, but may have stored the first one before.
            Err(
                AppendError::Full
                | AppendError::Busy
                | AppendError::InDoubt
                | AppendError::NotWritten(_),
            ) => Ok(None),
        }
    }

    /// Finds out which write moved the owner on from the version that this write is based on: this
    /// one, or another. Returns `None` if the records that would show it are no longer kept.
    async fn settle_conflict(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        sealed: &Sealed,
    ) -> Result<Option<Settled>, OwnersError> {
        let now = self
            .refresh(snapshot.owner(), entry, snapshot, true)
            .await?;
        let base = snapshot.version();

        // A write lands completely or not at all, so its last record stands for all of it.
        let Some(last) = sealed.records.last().map(|record| record.name) else {
            return Ok(Some(Settled::Lost));
        };
        let current = match now.set().get(&last).filter(|record| record.version > base) {
            Some(current) => current,
            None => return Ok(Some(Settled::Lost)),
        };
        if self.is_same_write(&now, current, sealed)? {
            return Ok(Some(Settled::Done(
                now.open_items(&sealed.stored(current.version)?)?,
            )));
        }

        // The write may have landed and been superseded since.
        let kept = self
            .0
            .bucket
            .history(snapshot.owner(), &last, base, current.version)
            .await?;
        for record in &kept {
            if self.is_same_write(&now, record, sealed)? {
                return Ok(Some(Settled::Done(
                    now.open_items(&sealed.stored(record.version)?)?,
                )));
            }
        }

        // It is lost only if every record since the base is still kept.
        let all_kept = kept
            .first()
            .is_some_and(|first| first.envelope.item_prev <= base);
        Ok(all_kept.then_some(Settled::Lost))
    }

    /// Returns whether the record belongs to this write.
    fn is_same_write(
        &self,
        now: &Snapshot,
        record: &Record,
        sealed: &Sealed,
    ) -> Result<bool, OwnersError> {
        let Some(keys) = now.keys() else {
            return Ok(false);
        };
        Ok(Body::open(keys, now.owner(), record)?.operation == sealed.operation)
    }
}
