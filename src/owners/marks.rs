//! Following the bucket's marks: the format of records, and the name of the bucket's history.

use super::{Owners, OwnersError};
use crate::truth::losses;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// How often the marks are read.
const READ_INTERVAL: Duration = Duration::from_secs(1);

impl Owners {
    /// Reads the bucket's marks once a second. Never returns.
    pub async fn watch_marks(&self) {
        loop {
            sleep(READ_INTERVAL).await;
            match self.follow_marks().await {
                Ok(()) => {}
                Err(error) if self.0.bucket.reading().is_open() => {
                    debug!(%error, "cannot read the bucket's marks");
                }
                Err(error) => warn!(%error, "cannot read the bucket's marks, will retry"),
            }
        }
    }

    /// Reads the bucket's marks, and follows them.
    async fn follow_marks(&self) -> Result<(), OwnersError> {
        let format = self.0.bucket.format();
        self.0.bucket.read_marks().await?;
        if self.0.bucket.format() != format {
            let format = self.0.bucket.format().number();
            info!(format, "the bucket permits a newer format of records");
        }

        self.follow_epoch().await
    }

    /// Follows the name of the bucket's history, unless a part of the history is lost. Then the
    /// copies that this shard serves are still those of the history before.
    pub async fn follow_epoch(&self) -> Result<(), OwnersError> {
        let followed = self.followed_epoch();
        let Some(epoch) = self.0.bucket.epoch() else {
            return Ok(());
        };
        // A replica that is behind may still have a name from before an accepted loss.
        let is_older = |followed: &String| losses(followed) > losses(&epoch);
        if followed.as_ref() == Some(&epoch) || followed.as_ref().is_some_and(is_older) {
            return Ok(());
        }

        // Another name may be that of another bucket, which this check finds out.
        let reached = self.0.store.reached(self.bucket_name()).await?;
        match self.check_continuity(reached.as_ref()).await {
            Ok(_) if !self.0.continuity.is_lost() => {
                self.0
                    .store
                    .remember_epoch(self.bucket_name(), &epoch)
                    .await?;
                self.set_followed_epoch(epoch);
                Ok(())
            }
            Ok(_) | Err(OwnersError::HistoryWentBack(_)) => {
                // Postgres still has the name from before the loss, until an operator accepts it.
                let is_lost = reached.is_some_and(|reached| reached.lost.is_some());
                if followed.is_none()
                    && is_lost
                    && let Some(before) = self.0.store.epoch(self.bucket_name()).await?
                {
                    self.set_followed_epoch(before);
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn followed_epoch(&self) -> Option<String> {
        let epoch = self.0.epoch.read();
        epoch.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_followed_epoch(&self, epoch: String) {
        let mut followed = self.0.epoch.write().unwrap_or_else(PoisonError::into_inner);
        *followed = Some(epoch);
    }

    /// The name of the history of the bucket's records; `None` if it has none, or the worker does
    /// not know it yet.
    ///
    /// While this shard has not accepted a loss that another one has, that is the new name. The
    /// copies that this shard answers with, as stale, are of the history before.
    pub fn epoch(&self) -> Option<String> {
        let followed = self.followed_epoch();
        let present = self.0.bucket.epoch();

        match (&followed, &present) {
            (Some(before), Some(now)) if losses(now) > losses(before) => present,
            _ => followed,
        }
    }

    /// The name of the history that a reply is of; a stale one may be of the history before.
    pub fn epoch_of(&self, stale: bool) -> Option<String> {
        if stale {
            self.followed_epoch()
        } else {
            self.epoch()
        }
    }

    /// Returns whether the bucket is known to have lost history, now or before.
    pub fn has_lost_history(&self) -> bool {
        self.0.continuity.is_lost() || self.epoch().is_some_and(|epoch| losses(&epoch) > 0)
    }
}
