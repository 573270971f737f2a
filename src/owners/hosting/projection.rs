//! The projection: copies the bucket's records, in order, into this shard's Postgres, for the
//! owners that it hosts.

use super::source::Source;
use super::step_size::{Pace, Takeovers};
use crate::owners::{Owners, OwnersError};
use crate::seal::{OwnerKey, Record};
use crate::shard::{LockAttempt, ProjectError, Projector, ShardError};
use crate::truth::Entry;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

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
        let mut pace = Pace::new(self.0.settings.projection.batch);
        let mut takeovers = Takeovers::default();
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
                    let stopped = self
                        .project_while_able(projector, &mut pace, reconnects.clone())
                        .await;
                    self.0.projects.store(false, Ordering::Relaxed);

                    match stopped {
                        StopReason::Reconnected => {
                            info!("reconnected to NATS: the projection continues from its cursor")
                        }
                        StopReason::Owners(OwnersError::HistoryWentBack(_)) => {
                            self.halt_projection().await
                        }
                        stopped => {
                            warn!(error = %stopped, "projection stopped, restarts at its cursor");
                            self.note_refusal(&stopped);
                        }
                    }
                }
                Ok(None) => self.end_stuck_projector(&mut takeovers).await,
                Err(error) => {
                    self.0.store.breaker().doubt();
                    self.0.store.note_refusal(&error);
                    warn!(%error, "Postgres is unavailable: the projection waits for it");
                }
            }

            sleep(poll_interval).await;
            self.0.store.writing().closed().await;
        }
    }

    /// Records that Postgres only reads, if that is why the projection stopped.
    fn note_refusal(&self, stopped: &StopReason) {
        if let StopReason::Shard(error) | StopReason::Project(ProjectError::Shard(error)) = stopped
        {
            self.0.store.note_refusal(error);
        }
    }

    /// Terminates the connection of the worker that projects, if the projection is stalled and
    /// nothing happens on the connection. A worker that was paused would otherwise keep it, and with
    /// it the lock.
    async fn end_stuck_projector(&self, takeovers: &mut Takeovers) {
        let limit = Duration::from_millis(self.0.settings.projection.stuck_ms);
        let cursor = self.0.cursor.sequence();
        let patience = takeovers.patience(limit, cursor);
        if self.0.continuity.is_lost() || self.behind().is_none_or(|behind| behind < patience) {
            return;
        }

        match self.0.store.end_idle_projector(limit).await {
            Ok(true) => {
                takeovers.record(cursor);
                warn!("projection stalled: ended the lock holder's connection")
            }
            // Postgres works for the projector, however slowly.
            Ok(false) => {}
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
        pace: &mut Pace,
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

            let follower = self.0.bucket.follow(cursor).await;
            let follower = follower.map_err(OwnersError::from)?;
            let learns = self.0.settings.read.follow;
            let passing = learns.then(|| self.begin_passing(cursor));
            let mut source = Source::new(follower, passing);
            loop {
                cursor = self
                    .project_step(&mut projector, &mut source, pace, cursor)
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
        source: &mut Source<'_>,
        pace: &mut Pace,
        cursor: u64,
    ) -> Result<u64, StopReason> {
        let next = self.next_messages(source, pace.size.messages());
        let Ok(batch) = timeout(pace.silence.limit(), next).await else {
            let check = async {
                self.0.store.check_projector(projector).await?;
                projector.reached().await
            };
            let stored = timeout(STEP_TIMEOUT, check)
                .await
                .map_err(|_| ShardError::TimedOut)??;
            let now = self.check_continuity(Some(&stored)).await?;
            return if now.sequence > stored.sequence || now.created != stored.created {
                pace.silence.begin_again();
                Err(StopReason::Silent)
            } else {
                Ok(stored.sequence)
            };
        };

        let batch = batch?;
        let Some(end) = batch.last().map(|entry| entry.sequence) else {
            return Ok(cursor);
        };
        let messages = batch.len();
        let records: Vec<(OwnerKey, Record)> = batch
            .into_iter()
            .filter_map(|Entry { record, .. }| record)
            .collect();

        let store = timeout(STEP_TIMEOUT, projector.store(&records, cursor, end));
        let stored = self.read_ahead(source, pace.size.messages(), store).await;
        let stored = stored.unwrap_or_else(|_| Err(ShardError::TimedOut.into()));
        if let Err(ProjectError::Shard(error)) = &stored
            && error.ran_out_of_time()
        {
            // The next step may fit into the time.
            pace.size.shrink(messages);
        }
        let doubted = stored?;

        pace.size.grow();
        pace.silence.end();
        self.0.cursor.raise(end);
        self.note_written(&records);
        if !doubted.is_empty() {
            self.0.doubts.notify_one();
        }
        Ok(end)
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
