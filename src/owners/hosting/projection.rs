//! The projection: the bucket's messages, in their order, into this shard's Postgres.

use crate::owners::{Owners, OwnersError};
use crate::seal::{OwnerKey, Record};
use crate::shard::{LockAttempt, ProjectError, Projector, ShardError};
use crate::truth::{Entry, Follower};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

/// How long the bucket may be silent before it is looked at: whether the projection missed something, and whether the
/// connection that holds the lock still stands.
const QUIET: Duration = Duration::from_secs(2);

/// How long a step in Postgres may take. The connection that did not answer by then is given up.
const STUCK: Duration = Duration::from_secs(5);

/// Between one try to tell whose history is lost and the next.
const AGAIN: Duration = Duration::from_secs(10);

/// Why the projection stopped; it begins again from the stored cursor.
#[derive(Debug, thiserror::Error)]
enum StopReason {
    #[error(transparent)]
    Owners(#[from] OwnersError),
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error(transparent)]
    Project(#[from] ProjectError),
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
        let mut waiting = LockAttempt::default();
        loop {
            let lock = timeout(
                STUCK,
                self.0
                    .store
                    .become_projector(self.bucket_name(), &mut waiting),
            )
            .await;
            match lock.unwrap_or(Err(ShardError::TimedOut)) {
                Ok(Some(projector)) => {
                    info!("this worker projects");
                    self.0.projects.store(true, Ordering::Relaxed);
                    let stopped = self.project_while_able(projector, reconnects.clone()).await;
                    self.0.projects.store(false, Ordering::Relaxed);
                    match stopped {
                        StopReason::Reconnected => {
                            info!(
                                "the projection follows anew: the connection to NATS was made anew"
                            )
                        }
                        StopReason::Owners(OwnersError::HistoryWentBack(_)) => {
                            self.stand_still().await
                        }
                        stopped => {
                            warn!(%stopped, "the projection stopped, and begins again from its cursor")
                        }
                    }
                }
                Ok(None) => self.end_stuck_projector().await,
                Err(error) => {
                    self.0.store.breaker().doubt();
                    warn!(%error, "Postgres is away: the projection waits for it");
                }
            }
            sleep(poll).await;
        }
    }

    /// Another worker projects. One that was paused keeps its lock and its connection; both are taken from it.
    async fn end_stuck_projector(&self) {
        let limit = Duration::from_millis(self.0.settings.projection.stuck_ms);
        if self.0.continuity.is_lost() || self.behind().is_none_or(|behind| behind < limit) {
            return;
        }
        match self.0.store.end_projector().await {
            Ok(ended) => warn!(
                ended,
                "the projection stood still: the connection of who held it is ended"
            ),
            Err(error) => {
                warn!(%error, "the projection stands still, and who holds it cannot be ended")
            }
        }
    }

    /// Tells the cursor to those who wait, and hears whose copy was taken away, from Postgres; never ends.
    pub async fn listen(&self) {
        let poll = Duration::from_millis(self.0.settings.projection.poll_ms);
        loop {
            let unhosted = |whose| self.mark_unhosted(&whose);
            if let Err(error) = self
                .0
                .store
                .listen(self.bucket_name(), &self.0.cursor, unhosted)
                .await
            {
                self.0.store.breaker().doubt();
                warn!(%error, "Postgres is away: the projection's steps are not heard");
            }
            sleep(poll).await;
        }
    }

    async fn project_while_able(
        &self,
        mut projector: Projector,
        mut reconnects: watch::Receiver<u64>,
    ) -> StopReason {
        let project = async {
            let reached = projector.reached().await?;
            self.check_continuity(Some(&reached)).await?;
            let mut at = reached.sequence;
            self.0.cursor.raise(at);
            let mut follower = self.0.bucket.follow(at).await.map_err(OwnersError::from)?;
            loop {
                at = self.project_step(&mut projector, &mut follower, at).await?;
            }
        };
        reconnects.mark_unchanged();
        tokio::select! {
            stopped = project => match stopped { Ok(never) => never, Err(stopped) => stopped },
            _ = reconnects.changed() => StopReason::Reconnected,
        }
    }

    /// Stores one batch, or looks around where none comes. Returns the new cursor.
    async fn project_step(
        &self,
        projector: &mut Projector,
        follower: &mut Follower,
        at: u64,
    ) -> Result<u64, StopReason> {
        let Ok(batch) = timeout(QUIET, follower.next_batch(self.0.settings.projection.batch)).await
        else {
            let stored = timeout(STUCK, projector.reached())
                .await
                .map_err(|_| ShardError::TimedOut)??;
            let now = self.check_continuity(Some(&stored)).await?;
            return if now.sequence > stored.sequence {
                Err(StopReason::Silent)
            } else {
                Ok(stored.sequence)
            };
        };
        let batch = batch.map_err(OwnersError::from)?;
        let Some(to) = batch.last().map(|entry| entry.sequence) else {
            return Ok(at);
        };
        let records: Vec<(OwnerKey, Record)> = batch
            .into_iter()
            .filter_map(|Entry { record, .. }| record)
            .collect();
        let stored = timeout(STUCK, projector.store(&records, at, to)).await;
        let gaps = stored.map_err(|_| ShardError::TimedOut)??;
        self.0.cursor.raise(to);
        for owner in gaps {
            self.look_into_gap(&owner).await;
        }
        Ok(to)
    }

    /// Versions of the owner never came here, and one of them may have been a deletion that is no longer kept: so their
    /// rows are gone, and come anew from the truth. Where that is not whole, records are missing there, and nothing is
    /// mixed with what is left.
    async fn look_into_gap(&self, owner: &OwnerKey) {
        match self.host(owner).await {
            Ok((_, hosted)) => {
                info!(%owner, hosted, "versions of this owner never came here: brought anew")
            }
            // What passed by before stays in item_version: it may be the last copy there is.
            Err(OwnersError::Broken { broken, .. }) => {
                error!(%owner, %broken, "records of this owner are missing in the truth: nobody is served from this shard");
            }
            // Their next request brings them.
            Err(error) => {
                warn!(%owner, %error, "versions of this owner never came here, and they are not back yet")
            }
        }
    }

    /// The bucket's history went back: says whose, and projects nothing until this worker is started again.
    async fn stand_still(&self) {
        loop {
            match self.log_lost_owners().await {
                Ok(lost) => {
                    error!(
                        lost,
                        "the projection stands still: the truth has lost history of that many owners"
                    );
                    return std::future::pending().await;
                }
                Err(error) => {
                    error!(%error, "the projection stands still; whose history is lost cannot be told yet")
                }
            }
            sleep(AGAIN).await;
        }
    }
}
