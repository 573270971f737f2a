//! How far the projection has come. Every worker of the shard knows it.

use super::error::ShardError;
use super::store::{HOSTING_LOCK, Store, from_sql, to_sql};
use super::unhost::{UNHOSTED_CHANNEL, Unhosted};
use crate::domain::Timestamp;
use sqlx::Acquire as _;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// The channel on which the projection announces its new cursor, once a batch.
pub(super) const CURSOR_CHANNEL: &str = "gofavorites_cursor";

/// The listener's name in `pg_stat_activity`.
const LISTENER: &str = "gofavorites listener";

/// How long the listening connection may be silent before it is probed, and how long connecting and
/// probing may take.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// The projection's cursor. The listener raises it, and writes wait for it.
#[derive(Clone)]
pub struct Cursor {
    sequence: watch::Sender<u64>,
    /// The highest sequence that a write awaited in vain.
    missed: Arc<AtomicU64>,
}

/// How far the projection has come, in which bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionPosition {
    /// When the bucket was created, in the server's words.
    pub created: String,
    /// The stream sequence up to which everything is stored.
    pub sequence: u64,
    /// The sequence of a record that was there, and when the bucket stored it.
    pub anchor: Option<(u64, Timestamp)>,
    /// Why the bucket is known to have lost history since; `None` while its history is complete.
    pub lost: Option<String>,
    /// How often an operator has accepted a loss; `None` if this was not read from Postgres.
    pub accepted: Option<u64>,
    /// If the bucket was restored: the bucket that was followed before, and the sequence up to
    /// which this one continues it.
    pub continued: Option<(String, u64)>,
}

/// Whether the projection has passed a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projected {
    /// The row is committed in this shard's Postgres.
    Yes,
    /// The row is not committed yet. The truth has the record.
    Pending,
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            sequence: watch::Sender::new(0),
            missed: Arc::default(),
        }
    }
}

impl Cursor {
    /// The stream sequence up to which the projection has stored everything.
    pub fn sequence(&self) -> u64 {
        *self.sequence.borrow()
    }

    /// Raises the cursor to `sequence`. A lower sequence changes nothing.
    pub fn raise(&self, sequence: u64) {
        self.sequence.send_if_modified(|current| {
            let newer = sequence > *current;
            *current = sequence.max(*current);
            newer
        });
    }

    /// Records that a write waited its full time for `sequence`, and the projection has not passed
    /// it.
    pub fn note_lag(&self, sequence: u64) {
        self.missed.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Returns whether the projection is known to lag, so that a wait for `sequence` would be in
    /// vain: what another write awaited in vain comes before, and is still missing.
    pub fn lags_before(&self, sequence: u64) -> bool {
        let missed = self.missed.load(Ordering::Relaxed);

        self.sequence() < missed && missed < sequence
    }

    /// Waits until the projection has passed `sequence`, at most for `limit`.
    pub async fn wait_for(&self, sequence: u64, limit: Duration) -> Projected {
        let mut cursor = self.sequence.subscribe();

        match timeout(limit, cursor.wait_for(|current| *current >= sequence)).await {
            Ok(Ok(_)) => Projected::Yes,
            Ok(Err(_)) | Err(_) => Projected::Pending,
        }
    }
}

impl Store {
    /// Listens for new cursors, and for owners that are no longer hosted, until Postgres fails.
    ///
    /// Reads the cursor only after it listens, so that no step is missed in between.
    pub async fn listen(
        &self,
        bucket: &str,
        cursor: &Cursor,
        unhosted: impl Fn(Unhosted) + Send + Sync,
    ) -> Result<(), ShardError> {
        // A connection of its own, without reconnects: a listener that reconnects by itself would
        // not read the cursor.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(SILENCE_MAX)
            .connect_lazy_with(self.options.clone().application_name(LISTENER));
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener
            .listen_all([CURSOR_CHANNEL, UNHOSTED_CHANNEL])
            .await?;

        // Earlier notifications may have been missed.
        unhosted(Unhosted::Anyone);
        if let Some(reached) = self.reached(bucket).await? {
            cursor.raise(reached.sequence);
        }

        loop {
            match timeout(SILENCE_MAX, listener.try_recv()).await {
                Ok(Ok(Some(notification))) if notification.channel() == UNHOSTED_CHANNEL => {
                    unhosted(Unhosted::parse(notification.payload()))
                }
                Ok(Ok(Some(notification))) => {
                    if let Ok(sequence) = notification.payload().parse() {
                        cursor.raise(sequence);
                    }
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error.into()),
                // The client does not notice by itself that its connection is dead.
                Err(_) => {
                    let probe = async {
                        let connection = listener.acquire().await?;
                        self.check_session(connection).await
                    };
                    let probed = timeout(SILENCE_MAX, probe).await;
                    probed.map_err(|_| ShardError::TimedOut)??;
                }
            }
        }
    }

    /// Lets the projection of a new shard begin at the bucket's `newest` record: a shard that hosts
    /// no owner needs nothing older. Changes nothing if the projection has begun.
    ///
    /// This comes before any owner is hosted, so that none of their records can precede the cursor.
    pub async fn begin_cursor(
        &self,
        bucket: &str,
        created: &str,
        newest: u64,
    ) -> Result<(), ShardError> {
        sqlx::query!(
            "insert into cursor (bucket, created, sequence) values ($1, $2, $3) on conflict do nothing",
            bucket,
            created,
            to_sql(newest),
        )
        .execute(&self.pool())
        .await?;

        Ok(())
    }

    /// Records that the bucket has lost history. From then on nothing is projected from it onto the
    /// rows that are here.
    ///
    /// `accepted` is how many losses an operator had accepted while the history was still complete.
    /// If the count is higher by now, nothing changes: the operator has accepted this loss too.
    pub async fn remember_lost(
        &self,
        bucket: &str,
        why: &str,
        accepted: u64,
    ) -> Result<(), ShardError> {
        self.within_call_limit(async {
            sqlx::query!(
                "update cursor set lost = $2 where bucket = $1 and lost is null and accepted = $3",
                bucket,
                why,
                to_sql(accepted),
            )
            .execute(&self.pool())
            .await?;
            Ok(())
        })
        .await
    }

    /// Records the name of the bucket's history, while none of it is known to be lost.
    pub async fn remember_epoch(&self, bucket: &str, epoch: &str) -> Result<(), ShardError> {
        self.within_call_limit(async {
            sqlx::query!(
                "update cursor set epoch = $2 where bucket = $1 and lost is null and epoch is distinct from $2",
                bucket,
                epoch,
            )
            .execute(&self.pool())
            .await?;
            Ok(())
        })
        .await
    }

    /// Returns the name of the bucket's history that this shard followed last; `None` if it never
    /// knew one.
    pub async fn epoch(&self, bucket: &str) -> Result<Option<String>, ShardError> {
        self.within_call_limit(async {
            let row = sqlx::query_scalar!("select epoch from cursor where bucket = $1", bucket);
            Ok(row.fetch_optional(&self.pool()).await?.flatten())
        })
        .await
    }

    /// Accepts the bucket as it is. The projection continues after `newest`, the bucket's newest
    /// sequence just before every copy of the old history was [removed](Self::empty_owners).
    pub async fn accept_history(
        &self,
        bucket: &str,
        created: &str,
        newest: u64,
        epoch: &str,
    ) -> Result<(), ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            sqlx::query!("select pg_advisory_xact_lock($1)", HOSTING_LOCK)
                .execute(&mut *transaction)
                .await?;

            sqlx::query!(
                "
                update cursor
                set created = $2, sequence = $3, anchor_sequence = null, anchor_at = null, lost = null,
                    accepted = accepted + 1, epoch = $4, continued = null, continued_to = null
                where bucket = $1
                ",
                bucket,
                created,
                to_sql(newest),
                epoch,
            )
            .execute(&mut *transaction)
            .await?;

            // Owners that came meanwhile began at the cursor of the old history, which may be
            // higher.
            sqlx::query!(
                "update owner set begun_at_sequence = $1 where begun_at_sequence > $1",
                to_sql(newest)
            )
            .execute(&mut *transaction)
            .await?;

            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Counts one more acceptance of lost history. From that every worker of the shard learns within a
    /// second that copies were given up, and that it must not keep them in memory.
    pub async fn count_acceptance(&self, bucket: &str) -> Result<(), ShardError> {
        self.in_background(async {
            sqlx::query!(
                "update cursor set accepted = accepted + 1 where bucket = $1",
                bucket
            )
            .execute(&self.background_pool())
            .await?;
            Ok(())
        })
        .await
    }

    /// Returns how far the projection has come; `None` if it never began.
    pub async fn reached(&self, bucket: &str) -> Result<Option<ProjectionPosition>, ShardError> {
        self.within_call_limit(async { reached(&mut *self.pool().acquire().await?, bucket).await })
            .await
    }
}

pub(super) async fn reached(
    connection: &mut PgConnection,
    bucket: &str,
) -> Result<Option<ProjectionPosition>, ShardError> {
    let row = sqlx::query!(
        r#"
        select created, sequence, anchor_sequence, (extract(epoch from anchor_at) * 1000)::bigint as anchor_at_ms, lost,
               accepted, continued, continued_to
        from cursor where bucket = $1
        "#,
        bucket,
    )
    .fetch_optional(connection)
    .await?;

    Ok(row.map(|row| ProjectionPosition {
        created: row.created,
        sequence: from_sql(row.sequence),
        anchor: row
            .anchor_sequence
            .map(from_sql)
            .zip(row.anchor_at_ms.map(Timestamp::from_millis)),
        lost: row.lost,
        accepted: Some(from_sql(row.accepted)),
        continued: row.continued.zip(row.continued_to.map(from_sql)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_known_until_the_missed_sequence_is_there() {
        let cursor = Cursor::default();
        cursor.raise(5);
        assert!(!cursor.lags_before(8));

        cursor.note_lag(7);
        cursor.note_lag(6);
        assert!(cursor.lags_before(8));
        assert!(!cursor.lags_before(7), "not awaited in vain by itself");

        cursor.raise(7);
        assert!(!cursor.lags_before(8));
    }

    #[tokio::test]
    async fn a_write_waits_until_its_sequence_is_projected() {
        let cursor = Cursor::default();
        cursor.raise(5);
        cursor.raise(3);

        assert_eq!(cursor.sequence(), 5);
        assert_eq!(cursor.wait_for(5, Duration::ZERO).await, Projected::Yes);
        assert_eq!(
            cursor.wait_for(6, Duration::from_millis(1)).await,
            Projected::Pending
        );

        let waiting = tokio::spawn({
            let cursor = cursor.clone();
            async move { cursor.wait_for(7, Duration::from_secs(10)).await }
        });
        cursor.raise(8);

        assert_eq!(waiting.await.expect("no panic"), Projected::Yes);
    }
}
