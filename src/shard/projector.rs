//! Writing the projection. One worker of the shard does so at a time, on the connection that holds
//! the lock.

use super::cursor::{CURSOR_CHANNEL, ProjectionPosition, reached};
use super::doubt::doubt_copies;
use super::error::ShardError;
use super::pools::{OPEN_TRANSACTION_TIMEOUT, Plans, Session};
use super::records::{upsert_records, upsert_versions};
use super::store::{HOSTING_LOCK, PROJECTOR_LOCK, Store, from_sql, to_sql};
use super::writability::check_writable;
use crate::domain::Version;
use crate::seal::{OwnerKey, Record};
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{AssertSqlSafe, Connection as _, Transaction};
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
                let session = Session {
                    statement: STATEMENT_TIMEOUT,
                    open_transaction: OPEN_TRANSACTION_TIMEOUT,
                    plans: Plans::Once,
                };
                session.begin(&mut connection).await?;
                connection
            }
        };

        let taken = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock($1) as "taken!""#,
            PROJECTOR_LOCK
        )
        .fetch_one(&mut connection)
        .await?;
        // A session that only reads would hold the lock and store nothing.
        check_writable(&mut connection).await?;
        if !taken {
            attempt.0 = Some(connection);
            return Ok(None);
        }

        Ok(Some(Projector {
            connection,
            bucket: bucket.to_owned(),
        }))
    }

    /// Terminates the connection that holds the right to project, unless Postgres works on a
    /// statement of it or has done so within `idle`. Such a statement ends by its own time limit.
    /// Returns whether a connection was ended.
    pub async fn end_idle_projector(&self, idle: Duration) -> Result<bool, ShardError> {
        self.within_call_limit(async {
            let ended = sqlx::query_scalar!(
                r#"
                select pg_terminate_backend(pid) as "ended!"
                from pg_locks join pg_stat_activity using (pid)
                where (state <> 'active' or wait_event = 'ClientWrite')
                  and state_change < clock_timestamp() - make_interval(secs => $2::float8)
                  and locktype = 'advisory' and granted and objsubid = 1
                  and database = (select oid from pg_database where datname = current_database())
                  and classid::bigint = ($1::bigint >> 32) and objid::bigint = ($1::bigint & 4294967295)
                "#,
                PROJECTOR_LOCK,
                idle.as_secs_f64(),
            )
            .fetch_optional(&self.pool())
            .await?;

            Ok(ended.unwrap_or_default())
        })
        .await
    }
}

impl Store {
    /// Fails if the projector's session may only read while new ones may write.
    pub async fn check_projector(&self, projector: &mut Projector) -> Result<(), ShardError> {
        self.check_session(&mut projector.connection).await
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
        let mut transaction = begin(&mut self.connection).await?;

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
    /// Returns the owners with a record that is not based on the copy that is here. Either this copy
    /// missed a version, which was overwritten before or lost, or the bucket has lost what the copy
    /// has. So the copy stays as it is, in doubt: the record and what follows are only kept among
    /// the versions.
    pub async fn store(
        &mut self,
        records: &[(OwnerKey, Record)],
        from: u64,
        to: u64,
    ) -> Result<Vec<OwnerKey>, ProjectError> {
        let mut transaction = begin(&mut self.connection).await?;

        let owners = records.iter().map(|(owner, _)| owner);
        let hosted = lock_hosted_owners(&mut transaction, owners).await?;
        let sorted = SortedRecords::sort(hosted, records);
        upsert_records(&mut transaction, sorted.fitting.into_iter()).await?;
        upsert_versions(&mut transaction, sorted.not_fitting.into_iter()).await?;
        doubt_copies(&mut transaction, &sorted.doubted).await?;

        let anchor = records
            .last()
            .map(|(_, record)| (record.version.get(), record.at));
        let moved = sqlx::query!(
            "
            with moved as (
                update cursor
                set sequence = $3, anchor_sequence = coalesce($4, anchor_sequence),
                    anchor_at = coalesce(to_timestamp($5::bigint / 1000.0), anchor_at)
                where bucket = $1 and sequence = $2 and lost is null
                returning sequence
            )
            select pg_notify($6, sequence::text) from moved
            ",
            self.bucket,
            to_sql(from),
            to_sql(to),
            anchor.map(|(sequence, _)| to_sql(sequence)),
            anchor.map(|(_, at)| at.millis()),
            CURSOR_CHANNEL,
        )
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() != 1 {
            return Err(ProjectError::Overtaken);
        }
        transaction.commit().await?;

        Ok(sorted.doubted)
    }
}

/// Begins a transaction in which nobody else inserts an owner's row. If that fails, the connection may
/// be in a transaction that has failed, and has to be dropped: a projector that fails is.
async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let begin = format!("begin; select pg_advisory_xact_lock({HOSTING_LOCK})");

    connection.begin_with(AssertSqlSafe(begin)).await
}

/// The records of hosted owners in a batch.
#[derive(Default)]
struct SortedRecords<'r> {
    /// Those that belong into the copies.
    fitting: Vec<(OwnerKey, &'r Record)>,
    /// Those of owners whose copy is in doubt, from the first one on that is not based on the copy.
    not_fitting: Vec<(OwnerKey, &'r Record)>,
    /// The owners whose copy is in doubt since this batch.
    doubted: Vec<OwnerKey>,
}

impl<'r> SortedRecords<'r> {
    fn sort(mut hosted: HashMap<OwnerKey, HostedState>, records: &'r [(OwnerKey, Record)]) -> Self {
        let mut sorted = Self::default();
        let mut last: HashMap<OwnerKey, &Record> = HashMap::new();

        for (owner, record) in records {
            let Some(state) = hosted.get_mut(owner) else {
                continue;
            };
            if !state.is_in_doubt && state.complete && record.version > state.version {
                if state.is_followed_by(record, last.get(owner).copied()) {
                    state.version = record.version;
                    last.insert(*owner, record);
                } else {
                    state.is_in_doubt = true;
                    sorted.doubted.push(*owner);
                }
            }

            let records = if state.is_in_doubt {
                &mut sorted.not_fitting
            } else {
                &mut sorted.fitting
            };
            records.push((*owner, record));
        }

        sorted
    }
}

/// The state of a hosted owner's row before a batch is stored.
#[derive(Clone, Copy)]
pub(super) struct HostedState {
    version: Version,
    complete: bool,
    is_in_doubt: bool,
}

impl HostedState {
    /// Returns whether the record is based on this state. `last` is the owner's record before it in
    /// the same batch of the projection.
    fn is_followed_by(&self, record: &Record, last: Option<&Record>) -> bool {
        // The members of one write name the same `prev` and have consecutive versions.
        let is_same_write = last.is_some_and(|last| {
            last.envelope.prev == record.envelope.prev
                && last.version.get() + 1 == record.version.get()
        });

        record.envelope.prev == self.version || is_same_write
    }
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
        select owner_key, version, complete_to is not null as "complete!",
               complete_to is not null and coalesce(doubted_version = version, false) as "is_in_doubt!"
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
                is_in_doubt: row.is_in_doubt,
            },
        ))
    });
    Ok(hosted.collect())
}
