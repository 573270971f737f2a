//! Following the bucket's marks: the format of records, and the name of the bucket's history.

use super::Owners;
use crate::truth::losses;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// How often the marks are read.
const READ_INTERVAL: Duration = Duration::from_secs(1);

impl Owners {
    /// Reads the bucket's marks once a second. Never returns.
    pub async fn watch_marks(&self) {
        let mut remembered = None;
        loop {
            let format = self.0.bucket.format();
            match self.0.bucket.read_marks().await {
                Ok(_) if self.0.bucket.format() != format => {
                    let format = self.0.bucket.format().number();
                    info!(format, "the bucket permits a newer format of records");
                }
                Ok(_) => {}
                Err(error) if self.0.bucket.reading().is_open() => {
                    tracing::debug!(%error, "cannot read the bucket's marks");
                }
                Err(error) => warn!(%error, "cannot read the bucket's marks, will retry"),
            }

            let epoch = self.0.bucket.epoch();
            if epoch != remembered && self.remember_epoch(epoch.as_deref()).await {
                remembered = epoch;
            }
            sleep(READ_INTERVAL).await;
        }
    }

    /// Stores in Postgres which history this shard follows. Returns whether that is done.
    async fn remember_epoch(&self, epoch: Option<&str>) -> bool {
        // The name is that of the history that was followed before the loss.
        let Some(epoch) = epoch.filter(|_| !self.0.continuity.is_lost()) else {
            return false;
        };

        let stored = self.0.store.remember_epoch(self.bucket_name(), epoch).await;
        if let Err(error) = &stored {
            tracing::debug!(%error, "cannot store the name of the bucket's history, will retry");
        }
        stored.is_ok()
    }

    /// The name of the bucket's history; `None` if it has none yet.
    pub fn epoch(&self) -> Option<String> {
        self.0.bucket.epoch()
    }

    /// Returns whether the bucket is known to have lost history, now or before.
    pub fn has_lost_history(&self) -> bool {
        self.0.continuity.is_lost() || self.epoch().is_some_and(|epoch| losses(&epoch) > 0)
    }
}
