//! The projection: the bucket's messages, in their order, into this shard's Postgres.

use super::{Owners, OwnersFault};
use crate::seal::{OwnerKey, Record};
use crate::shard::{ProjectFault, Projector, ShardFault};
use crate::truth::{Entry, Follower, SetupFault};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

/// How long the bucket may be silent before it is looked at: whether the projection missed something, and whether the
/// connection that holds the lock still stands.
const QUIET: Duration = Duration::from_secs(2);

/// Why the projection stopped; it begins again from the stored cursor.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Owners(#[from] OwnersFault),
    #[error(transparent)]
    Setup(#[from] SetupFault),
    #[error(transparent)]
    Shard(#[from] ShardFault),
    #[error(transparent)]
    Project(#[from] ProjectFault),
    #[error("the connection to NATS was made anew")]
    Reconnected,
    #[error("the bucket is ahead and sends nothing")]
    Silent,
}

impl Owners {
    /// Projects while this worker is the one of its shard to do so, and waits for its turn otherwise; never ends.
    /// `reconnects` counts the connections made to NATS.
    pub async fn project(&self, reconnects: watch::Receiver<u64>) {
        let poll = Duration::from_millis(self.0.settings.projection.poll_ms);
        loop {
            match self.0.store.become_projector(self.bucket_name()).await {
                Ok(Some(projector)) => {
                    info!("this worker projects");
                    match self.project_while_able(projector, reconnects.clone()).await {
                        Stopped::Reconnected => {
                            info!("the projection follows anew: the connection to NATS was made anew")
                        }
                        Stopped::Shard(ShardFault::Unfit(reason)) => error!(reason, "the projection stands still"),
                        stopped => warn!(%stopped, "the projection stopped, and begins again from its cursor"),
                    }
                }
                Ok(None) => {}
                Err(fault) => warn!(%fault, "Postgres is away: the projection waits for it"),
            }
            sleep(poll).await;
        }
    }

    /// Tells the cursor to those who wait, from Postgres; never ends.
    pub async fn listen(&self) {
        let poll = Duration::from_millis(self.0.settings.projection.poll_ms);
        loop {
            if let Err(fault) = self.0.store.listen(self.bucket_name(), &self.0.cursor).await {
                warn!(%fault, "Postgres is away: the projection's steps are not heard");
            }
            sleep(poll).await;
        }
    }

    async fn project_while_able(&self, mut projector: Projector, mut reconnects: watch::Receiver<u64>) -> Stopped {
        let project = async {
            let (created, newest) = self.0.bucket.position().await?;
            let mut at = projector.cursor(&created, newest).await?;
            self.0.cursor.raise(at);
            let mut follower = self.0.bucket.follow(at).await.map_err(OwnersFault::from)?;
            loop {
                at = self.project_step(&mut projector, &mut follower, at).await?;
            }
        };
        reconnects.mark_unchanged();
        tokio::select! {
            stopped = project => match stopped { Ok(never) => never, Err(stopped) => stopped },
            _ = reconnects.changed() => Stopped::Reconnected,
        }
    }

    /// Stores one batch, or looks around where none comes. Returns the new cursor.
    async fn project_step(&self, projector: &mut Projector, follower: &mut Follower, at: u64) -> Result<u64, Stopped> {
        let Ok(batch) = timeout(QUIET, follower.next_batch(self.0.settings.projection.batch)).await else {
            let (created, newest) = self.0.bucket.position().await?;
            let stored = projector.cursor(&created, newest).await?;
            return if newest > stored { Err(Stopped::Silent) } else { Ok(stored) };
        };
        let batch = batch.map_err(OwnersFault::from)?;
        let Some(to) = batch.last().map(|entry| entry.sequence) else { return Ok(at) };
        let records: Vec<(OwnerKey, Record)> = batch.into_iter().filter_map(|Entry { record, .. }| record).collect();
        projector.store(&records, at, to).await?;
        self.0.cursor.raise(to);
        Ok(to)
    }
}
