//! Writing the projection. One worker of the shard does so at a time, on the connection that holds
//! the lock.

use super::cursor::{CURSOR_CHANNEL, ProjectionPosition, reached};
use super::pools::{OPEN_TRANSACTION_TIMEOUT, set_timeouts};
use super::records::upsert_records;
use super::store::{HOSTING_LOCK, PROJECTOR_LOCK, ShardError, Store, from_sql, to_sql};
use super::unhost::reset_owners;
use crate::domain::Version;
use crate::seal::{OwnerKey, Record};
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{Connection as _, Transaction};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long a statement of the projection may take: no longer than the worker waits for a step.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The right to project, and the connection that holds it. A worker that loses the connection can
/// no longer commit.
pub struct Projector {
    connection: PgConnection,
    bucket: String,
}

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The cursor is not where this projector read it, or the bucket has lost history: nothing was
    /// stored.
    #[error("another projector has moved the cursor")]
    Overtaken,
    /// Postgres failed.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

impl From<sqlx::Error> for ProjectError {
    fn from(error: sqlx::Error) -> Self {
        Self::Shard(error.into())
    }
}

/// The connection with which a worker tries to become the projector, kept from one attempt to the
/// next.
#[derive(Default)]
pub struct LockAttempt(Option<PgConnection>);

impl Store {
    /// Takes the right to project; `None` while another worker has it.
    pub async fn become_projector(
        &self,
        bucket: &str,
        attempt: &mut LockAttempt,
    ) -> Result<Option<Projector>, ShardError> {
        // The connection is taken out: after an error or a timeout the next attempt makes a new
        // one.
        let mut connection = match attempt.0.take() {
            Some(connection) => connection,
            None => {
                let mut connection = PgConnection::connect_with(&self.options).await?;
                set_timeouts(&mut connection, STATEMENT_TIMEOUT, OPEN_TRANSACTION_TIMEOUT).await?;
                connection
            }
        };

        let taken = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock($1) as "taken!""#,
            PROJECTOR_LOCK
        )
        .fetch_one(&mut connection)
        .await?;
        if !taken {
            attempt.0 = Some(connection);
            return Ok(None);
        }

        Ok(Some(Projector {
            connection,
            bucket: bucket.to_owned(),
        }))
    }

    /// Terminates the connection that holds the right to project. Returns whether there was one.
    pub async fn end_projector(&self) -> Result<bool, ShardError> {
        self.within_call_limit(async {
            let ended = sqlx::query_scalar!(
                r#"
                select pg_terminate_backend(pid) as "ended!"
                from pg_locks
                where locktype = 'advisory' and granted and objsubid = 1
                  and database = (select oid from pg_database where datname = current_database())
                  and classid::bigint = ($1::bigint >> 32) and objid::bigint = ($1::bigint & 4294967295)
                "#,
                PROJECTOR_LOCK,
            )
            .fetch_optional(&self.pool())
            .await?;

            Ok(ended.unwrap_or_default())
        })
        .await
    }
}

impl Projector {
    /// Returns how far the projection has come.
    pub async fn reached(&mut self) -> Result<ProjectionPosition, ShardError> {
        reached(&mut self.connection, &self.bucket)
            .await?
            .ok_or(ShardError::Unreadable)
    }

    /// Records that the cursor counts in the bucket that was created at `created`. It was restored,
    /// and continues the bucket `continued.0` up to the sequence `continued.1`.
    pub async fn adopt_restored(
        &mut self,
        created: &str,
        continued: &(String, u64),
    ) -> Result<(), ShardError> {
        let (earlier, complete_to) = continued;
        let mut transaction = self.connection.begin().await?;
        sqlx::query!("select pg_advisory_xact_lock($1)", HOSTING_LOCK)
            .execute(&mut *transaction)
            .await?;

        // What came after `complete_to` were barriers. Now those sequences belong to other records.
        sqlx::query!(
            "
            update cursor
            set created = $2, sequence = least(sequence, $4), continued = $3, continued_to = $4
            where bucket = $1 and lost is null
            ",
            self.bucket,
            created,
            earlier,
            to_sql(*complete_to),
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "update owner set begun_at_sequence = $1 where begun_at_sequence > $1",
            to_sql(*complete_to)
        )
        .execute(&mut *transaction)
        .await?;

        Ok(transaction.commit().await?)
    }

    /// Stores a batch of records and moves the cursor from `from` to `to`, both or neither.
    ///
    /// Owners that the shard does not host are skipped. Of one name the newer version wins.
    ///
    /// Returns the owners with a gap, and resets their copies. Such an owner has a record that is
    /// based on a version that never came here: it was overwritten before, or lost.
    pub async fn store(
        &mut self,
        records: &[(OwnerKey, Record)],
        from: u64,
        to: u64,
    ) -> Result<Vec<OwnerKey>, ProjectError> {
        let mut transaction = self.connection.begin().await?;
        sqlx::query!("select pg_advisory_xact_lock($1)", HOSTING_LOCK)
            .execute(&mut *transaction)
            .await?;

        let owners = records.iter().map(|(owner, _)| owner);
        let hosted = lock_hosted_owners(&mut transaction, owners).await?;
        let hosted_records = || {
            records
                .iter()
                .filter(|(owner, _)| hosted.contains_key(owner))
                .map(|(owner, record)| (*owner, record))
        };
        upsert_records(&mut transaction, hosted_records()).await?;
        let gaps = owners_with_gap(hosted.clone(), hosted_records());
        reset_owners(&mut transaction, &gaps, to_sql(to)).await?;

        let anchor = records
            .last()
            .map(|(_, record)| (record.version.get(), record.at));
        let moved = sqlx::query!(
            "
            update cursor
            set sequence = $3, anchor_sequence = coalesce($4, anchor_sequence),
                anchor_at = coalesce(to_timestamp($5::bigint / 1000.0), anchor_at)
            where bucket = $1 and sequence = $2 and lost is null
            ",
            self.bucket,
            to_sql(from),
            to_sql(to),
            anchor.map(|(sequence, _)| to_sql(sequence)),
            anchor.map(|(_, at)| at.millis()),
        )
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() != 1 {
            return Err(ProjectError::Overtaken);
        }

        sqlx::query!("select pg_notify($1, $2)", CURSOR_CHANNEL, to.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;

        Ok(gaps)
    }
}

/// The completely hosted owners with a record that is based on a version which is neither here nor
/// in this batch.
fn owners_with_gap<'r>(
    mut hosted: HashMap<OwnerKey, HostedState>,
    records: impl Iterator<Item = (OwnerKey, &'r Record)>,
) -> Vec<OwnerKey> {
    let mut gaps = HashSet::new();
    let mut last: HashMap<OwnerKey, &Record> = HashMap::new();

    for (owner, record) in records {
        let Some(state) = hosted
            .get_mut(&owner)
            .filter(|state| state.complete && record.version > state.version)
        else {
            continue;
        };

        let prev = record.envelope.prev;
        let version = record.version;
        // The members of one batch name the same `prev` and have consecutive versions.
        let is_same_batch = last.get(&owner).is_some_and(|before| {
            before.envelope.prev == prev && before.version.get() + 1 == version.get()
        });
        if prev != state.version && !is_same_batch {
            gaps.insert(owner);
        }
        state.version = version;
        last.insert(owner, record);
    }

    gaps.into_iter().collect()
}

/// The state of a hosted owner's row before a batch is stored.
#[derive(Clone, Copy)]
pub(super) struct HostedState {
    version: Version,
    complete: bool,
}

/// Locks the rows of those owners that the shard hosts, and returns their states.
///
/// This comes before their rows are written, and always in the order of the keys, so that hosting
/// and projection never wait for each other in a circle.
pub(super) async fn lock_hosted_owners(
    transaction: &mut Transaction<'_, Postgres>,
    owners: impl Iterator<Item = &OwnerKey>,
) -> Result<HashMap<OwnerKey, HostedState>, ShardError> {
    let owners: HashSet<_> = owners.collect();
    if owners.is_empty() {
        return Ok(HashMap::new());
    }

    let keys: Vec<Vec<u8>> = owners
        .into_iter()
        .map(|owner| owner.as_bytes().to_vec())
        .collect();
    let rows = sqlx::query!(
        r#"
        select owner_key, version, complete_to is not null as "complete!"
        from owner where owner_key = any($1) order by owner_key for no key update
        "#,
        &keys,
    )
    .fetch_all(&mut **transaction)
    .await?;

    let hosted = rows.into_iter().filter_map(|row| {
        let version = Version::new(from_sql(row.version))?;
        Some((
            OwnerKey::from_slice(&row.owner_key)?,
            HostedState {
                version,
                complete: row.complete,
            },
        ))
    });
    Ok(hosted.collect())
}
