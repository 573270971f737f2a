//! The projection: copies the bucket's records, in order, into this shard's Postgres, for the
//! owners that it hosts.

use crate::owners::{Owners, OwnersError};
use crate::seal::{OwnerKey, Record};
use crate::shard::{LockAttempt, ProjectError, Projector, ShardError};
use crate::truth::{Entry, Follower};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

/// How long the bucket may send nothing. After that the projection checks that it missed nothing,
/// and that the connection that holds the lock still works.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long a step in Postgres may take. After that the connection is given up.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before the owners that lost history are looked up again, after that failed.
const REPORT_RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Why the projection stopped. It begins again from the stored cursor.
#[derive(Debug, thiserror::Error)]
enum StopReason {
    #[error(transparent)]
    Owners(#[from] OwnersError),
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error("reconnected to NATS")]
    Reconnected,
    #[error("the bucket is ahead and sends nothing")]
    Silent,
}

impl Owners {
    /// Projects while this worker holds the shard's projection lock, and otherwise tries to get it.
    /// Never returns. `reconnects` counts the connections made to NATS.
    pub async fn project(&self, reconnects: watch::Receiver<u64>) {
        let poll_interval = Duration::from_millis(self.0.settings.projection.poll_ms);
        let mut attempt = LockAttempt::default();
        loop {
            let lock = timeout(
                STEP_TIMEOUT,
                self.0
                    .store
                    .become_projector(self.bucket_name(), &mut attempt),
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
                            info!("reconnected to NATS: the projection continues from its cursor")
                        }
                        StopReason::Owners(OwnersError::HistoryWentBack(_)) => {
                            self.halt_projection().await
                        }
                        stopped => {
                            warn!(error = %stopped, "projection stopped, restarts at its cursor")
                        }
                    }
                }
                Ok(None) => self.end_stuck_projector().await,
                Err(error) => {
                    self.0.store.breaker().doubt();
                    warn!(%error, "Postgres is unavailable: the projection waits for it");
                }
            }

            sleep(poll_interval).await;
        }
    }

    /// Terminates the connection of the worker that projects, if the projection is stalled. A
    /// worker that was paused would otherwise keep its connection, and with it the lock.
    async fn end_stuck_projector(&self) {
        let limit = Duration::from_millis(self.0.settings.projection.stuck_ms);
        if self.0.continuity.is_lost() || self.behind().is_none_or(|behind| behind < limit) {
            return;
        }

        match self.0.store.end_projector().await {
            Ok(ended) => {
                warn!(
                    ended,
                    "projection stalled: asked Postgres to end the lock holder's connection"
                )
            }
            Err(error) => {
                warn!(%error, "projection stalled: cannot terminate the lock holder's connection")
            }
        }
    }

    /// Listens in Postgres for the projection's cursor, and for owners that lost their copy. Never
    /// returns.
    pub async fn listen(&self) {
        let poll_interval = Duration::from_millis(self.0.settings.projection.poll_ms);
        loop {
            let on_unhosted = |unhosted| self.mark_unhosted(&unhosted);
            if let Err(error) = self
                .0
                .store
                .listen(self.bucket_name(), &self.0.cursor, on_unhosted)
                .await
            {
                self.0.store.breaker().doubt();
                warn!(%error, "Postgres is unavailable: cannot follow the projection's cursor");
            }

            sleep(poll_interval).await;
        }
    }

    /// Projects until that fails, or until NATS reconnects. Returns why it stopped.
    async fn project_while_able(
        &self,
        mut projector: Projector,
        mut reconnects: watch::Receiver<u64>,
    ) -> StopReason {
        let project = async {
            let mut reached = projector.reached().await?;
            let now = self.check_continuity(Some(&reached)).await?;
            if let Some(continued) = &now.continued
                && now.created != reached.created
            {
                projector.adopt_restored(&now.created, continued).await?;
                reached = projector.reached().await?;
            }
            let mut cursor = reached.sequence;
            self.0.cursor.raise(cursor);

            let mut follower = self
                .0
                .bucket
                .follow(cursor)
                .await
                .map_err(OwnersError::from)?;
            loop {
                cursor = self
                    .project_step(&mut projector, &mut follower, cursor)
                    .await?;
            }
        };

        reconnects.mark_unchanged();
        tokio::select! {
            stopped = project => match stopped { Ok(never) => never, Err(stopped) => stopped },
            _ = reconnects.changed() => StopReason::Reconnected,
        }
    }

    /// Stores the next batch. If none comes in time, checks the lock's connection and the bucket.
    /// Returns the new cursor.
    async fn project_step(
        &self,
        projector: &mut Projector,
        follower: &mut Follower,
        cursor: u64,
    ) -> Result<u64, StopReason> {
        let next = follower.next_batch(self.0.settings.projection.batch);
        let Ok(batch) = timeout(SILENCE_MAX, next).await else {
            let stored = timeout(STEP_TIMEOUT, projector.reached())
                .await
                .map_err(|_| ShardError::TimedOut)??;
            let now = self.check_continuity(Some(&stored)).await?;
            return if now.sequence > stored.sequence || now.created != stored.created {
                Err(StopReason::Silent)
            } else {
                Ok(stored.sequence)
            };
        };

        let batch = batch.map_err(OwnersError::from)?;
        let Some(end) = batch.last().map(|entry| entry.sequence) else {
            return Ok(cursor);
        };
        let records: Vec<(OwnerKey, Record)> = batch
            .into_iter()
            .filter_map(|Entry { record, .. }| record)
            .collect();

        let stored = timeout(STEP_TIMEOUT, projector.store(&records, cursor, end)).await;
        let gaps = stored.map_err(|_| ShardError::TimedOut)??;
        self.0.cursor.raise(end);
        for owner in gaps {
            self.host_after_gap(&owner).await;
        }
        Ok(end)
    }

    /// Hosts the owner again after a gap: a projected record is based on a version that never came
    /// here.
    ///
    /// One of the missing versions may have been a deletion that is no longer kept, so the owner's
    /// rows were reset. If the owner's records in the truth are not complete either, the owner
    /// stays un-hosted, so that nothing is mixed.
    async fn host_after_gap(&self, owner: &OwnerKey) {
        match self.host(owner).await {
            Ok((_, hosted)) => {
                info!(%owner, hosted, "missed versions of this owner: hosting the owner again")
            }
            // Superseded versions stay in `item_version`: they may be the last copy.
            Err(OwnersError::Broken { broken, .. }) => {
                error!(
                    %owner, error = %broken,
                    "the truth lacks records of this owner: not served from this shard's Postgres"
                );
            }
            // The owner's next request tries again.
            Err(error) => {
                warn!(%owner, %error, "missed versions of this owner: cannot host the owner yet")
            }
        }
    }

    /// Logs the owners that lost history, then waits for ever: nothing is projected until this
    /// worker is restarted.
    async fn halt_projection(&self) {
        loop {
            match self.log_lost_owners().await {
                Ok(lost) => {
                    error!(
                        lost,
                        "projection halted: the truth has lost history of that many owners"
                    );
                    return std::future::pending().await;
                }
                Err(error) => {
                    error!(%error, "projection halted: cannot find out which owners lost history")
                }
            }

            sleep(REPORT_RETRY_PAUSE).await;
        }
    }
}
