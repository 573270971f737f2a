//! How far the projection has come, as every worker of the shard knows it.

use super::store::{HOSTING_LOCK, ShardError, Store, from_sql, to_sql};
use super::unhost::{UNHOSTED, Unhosted};
use crate::domain::Timestamp;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// The channel on which the projection tells its new cursor, once a batch.
pub(super) const CHANNEL: &str = "gofavorites_cursor";

/// How long the projection may be silent before the connection is looked at.
const QUIET: Duration = Duration::from_secs(2);

/// The projection's cursor: told by the listener, waited for by writes.
#[derive(Clone)]
pub struct Cursor(watch::Sender<u64>);

/// How far the projection has come, in which bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionPosition {
    /// When the bucket was made, as the server tells it.
    pub created: String,
    /// The stream sequence up to which everything is stored.
    pub sequence: u64,
    /// A record that was there, and when the bucket took it.
    pub anchor: Option<(u64, Timestamp)>,
    /// Why the bucket is known to have lost history since; none while it is whole.
    pub lost: Option<String>,
    /// How often an operator accepted a loss, as Postgres tells it.
    pub accepted: Option<u64>,
}

/// Whether the projection has passed a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projected {
    /// The row is committed in this shard's Postgres.
    Yes,
    /// Not yet; the truth has it.
    Pending,
}

impl Default for Cursor {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Cursor {
    /// Where it stands.
    pub fn sequence(&self) -> u64 {
        *self.0.borrow()
    }

    /// Says that the projection has come to `sequence`; an older word changes nothing.
    pub fn raise(&self, sequence: u64) {
        self.0.send_if_modified(|current| {
            let newer = sequence > *current;
            *current = sequence.max(*current);
            newer
        });
    }

    /// Waits until the projection has passed `sequence`, at most for `limit`.
    pub async fn wait_for(&self, sequence: u64, limit: Duration) -> Projected {
        let mut heard = self.0.subscribe();
        match timeout(limit, heard.wait_for(|current| *current >= sequence)).await {
            Ok(Ok(_)) => Projected::Yes,
            Ok(Err(_)) | Err(_) => Projected::Pending,
        }
    }
}

impl Store {
    /// Listens to the projection, and to who is not hosted any more, until Postgres fails. Listens first and reads the
    /// cursor then, so that no step is missed in between.
    pub async fn listen(
        &self,
        bucket: &str,
        cursor: &Cursor,
        unhosted: impl Fn(Unhosted) + Send + Sync,
    ) -> Result<(), ShardError> {
        // On a connection of its own, and only once: a listener that reconnects by itself would not read the cursor.
        let own = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(QUIET)
            .connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.eager_reconnect(false);
        listener.listen_all([CHANNEL, UNHOSTED]).await?;
        // What was told before is not known here.
        unhosted(Unhosted::Anyone);
        if let Some(reached) = self.reached(bucket).await? {
            cursor.raise(reached.sequence);
        }
        loop {
            match timeout(QUIET, listener.try_recv()).await {
                Ok(Ok(Some(told))) if told.channel() == UNHOSTED => {
                    unhosted(Unhosted::parse(told.payload()))
                }
                Ok(Ok(Some(told))) => {
                    if let Ok(sequence) = told.payload().parse() {
                        cursor.raise(sequence);
                    }
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error.into()),
                // A connection over which nothing comes any more does not know it.
                Err(_) => {
                    let alive =
                        timeout(QUIET, sqlx::query("select 1").execute(&mut listener)).await;
                    alive.map_err(|_| ShardError::TimedOut)??;
                }
            }
        }
    }

    /// Lets the projection of a new shard begin at the bucket's `newest` record: who hosts nobody yet has nothing to gain
    /// from what is older. Changes nothing where it has begun. Before any owner is hosted, so that nothing of theirs can
    /// lie before it.
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

    /// Remembers that the bucket has lost history: nothing more may be projected from it onto what is here. Changes
    /// nothing where an operator has accepted that since: `accepted` is how often that was so when it was whole.
    pub async fn remember_lost(
        &self,
        bucket: &str,
        why: &str,
        accepted: u64,
    ) -> Result<(), ShardError> {
        self.within(async {
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

    /// Accepts the bucket as it is: the projection goes on from the record that was its `newest` when everything that
    /// stood upon the history before was [taken away](Self::empty_owners).
    pub async fn accept_history(
        &self,
        bucket: &str,
        created: &str,
        newest: u64,
    ) -> Result<(), ShardError> {
        self.unhurried(async {
            let mut transaction = self.slow_pool().begin().await?;
            sqlx::query!("select pg_advisory_xact_lock($1)", HOSTING_LOCK).execute(&mut *transaction).await?;
            sqlx::query!(
                "
                update cursor
                set created = $2, sequence = $3, anchor_sequence = null, anchor_at = null, lost = null,
                    accepted = accepted + 1
                where bucket = $1
                ",
                bucket,
                created,
                to_sql(newest),
            )
            .execute(&mut *transaction)
            .await?;
            // Of owners who came meanwhile, while the cursor was one of another history.
            sqlx::query!("update owner set begun_at_sequence = $1 where begun_at_sequence > $1", to_sql(newest))
                .execute(&mut *transaction)
                .await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// How far the projection has come; `None` where it never began.
    pub async fn reached(&self, bucket: &str) -> Result<Option<ProjectionPosition>, ShardError> {
        self.within(async { reached(&mut *self.pool().acquire().await?, bucket).await })
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
               accepted
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
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_is_told_when_its_sequence_is_passed() {
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
