//! Whether the shard's Postgres stores what a worker writes.
//!
//! After a failover, sessions may stay on a server that only reads. They answer, so the breaker of
//! Postgres stays closed. A second breaker knows whether a new session may write.

use super::error::ShardError;
use super::refusal::{Refusal, reads_only};
use super::store::Store;
use crate::breaker::Breaker;
use sqlx::postgres::PgConnection;

impl Store {
    /// The circuit breaker of writes to Postgres. It is open while new sessions may only read.
    pub fn writing(&self) -> &Breaker {
        &self.writing
    }

    /// Returns why Postgres refuses this worker; `None` if it does not, or does not answer at all.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.is_up() {
            self.writing.is_open().then_some(Refusal::ReadOnly)
        } else {
            self.last_refusal.get()
        }
    }

    /// Fails if a session that requests use may only read. The breaker of writes probes then.
    pub async fn check_writable(&self) -> Result<(), ShardError> {
        self.within_call_limit(async { check_writable(&mut *self.pool().acquire().await?).await })
            .await
    }

    /// Fails if a session of its own may only read while new ones may write, so that it has to be
    /// made again.
    pub(super) async fn check_session(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), ShardError> {
        let Err(error) = check_writable(connection).await else {
            return Ok(());
        };

        self.note_refusal(&error);
        if self.writing.is_open() && error.refusal().is_some() {
            return Ok(());
        }
        Err(error)
    }
}

/// Fails if the session may only read.
pub(super) async fn check_writable(connection: &mut PgConnection) -> Result<(), ShardError> {
    if reads_only(connection).await? {
        Err(ShardError::ReadOnly)
    } else {
        Ok(())
    }
}
