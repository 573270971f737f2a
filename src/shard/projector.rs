//! Writing the projection: one worker of the shard at a time, on the connection that holds the lock.

use super::cursor::{CHANNEL, ProjectionPosition, reached};
use super::pools::{LEFT_OPEN, limit};
use super::records::upsert_records;
use super::store::{HOSTING_LOCK, PROJECTOR_LOCK, ShardError, Store, from_sql, to_sql};
use super::unhost::reset_owners;
use crate::domain::Version;
use crate::seal::{OwnerKey, Record};
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{Connection as _, Transaction};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long a statement of the projection may take: no longer than it is waited for.
const STEP: Duration = Duration::from_secs(5);

/// The right to project, and the connection on which it is held: whoever loses the connection cannot commit.
pub struct Projector {
    connection: PgConnection,
    bucket: String,
}

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// Another has moved the cursor: this one is no longer the projector.
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

/// The connection of a worker that waits for its turn to project: kept from one try to the next.
#[derive(Default)]
pub struct LockAttempt(Option<PgConnection>);

impl Store {
    /// Takes the right to project, if nobody has it. `None` while another worker does.
    pub async fn become_projector(
        &self,
        bucket: &str,
        waiting: &mut LockAttempt,
    ) -> Result<Option<Projector>, ShardError> {
        // Taken out: after a fault, or a time that was too short, another one is made.
        let mut connection = match waiting.0.take() {
            Some(connection) => connection,
            None => {
                let mut connection = PgConnection::connect_with(&self.options).await?;
                limit(&mut connection, STEP, LEFT_OPEN).await?;
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
            waiting.0 = Some(connection);
            return Ok(None);
        }
        Ok(Some(Projector {
            connection,
            bucket: bucket.to_owned(),
        }))
    }

    /// Ends the connection on which the right to project is held. Says whether there was one.
    pub async fn end_projector(&self) -> Result<bool, ShardError> {
        self.within(async {
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
    /// Where the projection stands.
    pub async fn reached(&mut self) -> Result<ProjectionPosition, ShardError> {
        reached(&mut self.connection, &self.bucket)
            .await?
            .ok_or(ShardError::Unreadable)
    }

    /// Stores a batch of records and moves the cursor from `from` to `to`, both or neither. Owners whom the shard does not
    /// host are skipped; of one name the newer version wins. Gives the owners with a gap, whose rows are taken away: their
    /// records tell of a version that never came here, overwritten before it could, or lost.
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
        let hosted = hosted_among(&mut transaction, records.iter().map(|(owner, _)| owner)).await?;
        let ours = || {
            records
                .iter()
                .filter(|(owner, _)| hosted.contains_key(owner))
                .map(|(owner, r)| (*owner, r))
        };
        upsert_records(&mut transaction, ours()).await?;
        let gaps = with_a_gap(hosted.clone(), ours());
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
        sqlx::query!("select pg_notify($1, $2)", CHANNEL, to.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(gaps)
    }
}

/// Those who host completely and get a record that was made upon a version which is neither here nor in this batch.
fn with_a_gap<'r>(
    mut hosted: HashMap<OwnerKey, HostedState>,
    records: impl Iterator<Item = (OwnerKey, &'r Record)>,
) -> Vec<OwnerKey> {
    let mut gaps = HashSet::new();
    let mut last: HashMap<OwnerKey, &Record> = HashMap::new();
    for (owner, record) in records {
        let Some(have) = hosted
            .get_mut(&owner)
            .filter(|have| have.complete && record.version > have.version)
        else {
            continue;
        };
        let (prev, version) = (record.envelope.prev, record.version);
        // A member of the batch to which the record before belongs.
        let joined = last.get(&owner).is_some_and(|before| {
            before.envelope.prev == prev && before.version.get() + 1 == version.get()
        });
        if prev != have.version && !joined {
            gaps.insert(owner);
        }
        have.version = version;
        last.insert(owner, record);
    }
    gaps.into_iter().collect()
}

/// What is known of a hosted owner before a batch is stored.
#[derive(Clone, Copy)]
pub(super) struct HostedState {
    version: Version,
    complete: bool,
}

/// Those of the owners whom the shard hosts, locked: before their rows are written, and always in one order, so that
/// hosting and projection never wait for one another in a circle.
pub(super) async fn hosted_among(
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
