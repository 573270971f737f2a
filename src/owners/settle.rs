//! What became of a write that was sent and not answered.
//!
//! It is sent once more, the same write upon the same version. Both are a compare-and-set on it, so at most one of the
//! two can land, whenever the first arrives: what comes back is the truth of it, exactly once. Where the owner has moved
//! on meanwhile, the operation id in the sealed records tells whether that was this write.

use super::cache::OwnerEntry;
use super::compose::Sealed;
use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::seal::{Body, Record};
use crate::truth::AppendError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

/// Between one look and the next.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of the write in the end.
pub(super) enum Settled {
    /// The truth has it.
    Done(Vec<OpenedItem>),
    /// The truth does not have it, and never will: the owner is at another version.
    Lost,
    /// The caller's time was up first.
    InDoubt,
}

impl Owners {
    /// Settles a write in doubt before the `deadline`, if the truth answers by then.
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
                sleep_until(Instant::now() + PAUSE).await;
            }
        };
        let settled = timeout_at(deadline, settling)
            .await
            .unwrap_or(Settled::InDoubt);
        let outcome = match settled {
            Settled::Done(_) => "it is written",
            Settled::Lost => "it is not written",
            Settled::InDoubt => "its time was up",
        };
        info!(outcome, "a write was in doubt");
        settled
    }

    async fn settle_once(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        sealed: &Sealed,
        deadline: Instant,
    ) -> Result<Option<Settled>, OwnersError> {
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
            Ok(version) => Ok(Some(Settled::Done(
                self.adopt(entry, snapshot, sealed, version)?,
            ))),
            Err(AppendError::Conflict) => self.look_for(entry, snapshot, sealed).await,
            // A full bucket refuses this one; the first may have been taken before.
            Err(AppendError::Full | AppendError::InDoubt | AppendError::NotWritten(_)) => Ok(None),
        }
    }

    /// The owner has moved on from the version that the write was made upon: by this write, or by another's.
    async fn look_for(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        sealed: &Sealed,
    ) -> Result<Option<Settled>, OwnersError> {
        let now = self
            .refresh(snapshot.owner(), entry, snapshot, true)
            .await?;
        let upon = snapshot.version();
        // All of a write landed where its last record did.
        let Some(last) = sealed.records.last().map(|record| record.name) else {
            return Ok(Some(Settled::Lost));
        };
        let current = match now.set().get(&last).filter(|record| record.version > upon) {
            Some(current) => current,
            None => return Ok(Some(Settled::Lost)),
        };
        if self.is_of(&now, current, sealed)? {
            return Ok(Some(Settled::Done(
                now.open_items(&sealed.stored(current.version)?)?,
            )));
        }
        // Written over since, perhaps.
        let kept = self
            .0
            .bucket
            .history(snapshot.owner(), &last, upon, current.version)
            .await?;
        for record in &kept {
            if self.is_of(&now, record, sealed)? {
                return Ok(Some(Settled::Done(
                    now.open_items(&sealed.stored(record.version)?)?,
                )));
            }
        }
        // Some may be kept no more.
        let all_since = kept
            .first()
            .is_some_and(|first| first.envelope.item_prev <= upon);
        Ok(all_since.then_some(Settled::Lost))
    }

    fn is_of(&self, now: &Snapshot, record: &Record, sealed: &Sealed) -> Result<bool, OwnersError> {
        let Some(keys) = now.keys() else {
            return Ok(false);
        };
        Ok(Body::open(keys, now.owner(), record)?.operation == sealed.operation)
    }
}
