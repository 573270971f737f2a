//! Copies in doubt: the bucket has gone on from another state of the owner than this shard's copy.
//!
//! A copy that only missed something is replaced by the truth's set. One that has what the bucket
//! lacks may be the last copy: it is kept until an operator decides, and counts as lost history.

use super::error::ShardError;
use super::store::{Store, from_sql, to_sql};
use super::unhost::{keys, notify_unhosted};
use crate::domain::Version;
use crate::seal::OwnerKey;
use sqlx::postgres::PgConnection;

/// What this shard has of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// No copy, or one that is not complete yet.
    Absent,
    /// A complete copy that the projection keeps current.
    Hosted,
    /// A complete copy that the projection does not touch, because the bucket has gone on from
    /// another state.
    InDoubt,
}

impl Store {
    /// Returns what this shard has of the owner.
    pub async fn copy_state(&self, owner: &OwnerKey) -> Result<CopyState, ShardError> {
        self.within_call_limit(async {
            let in_doubt = sqlx::query_scalar!(
                r#"
                select coalesce(doubted_version = version, false) as "in_doubt!"
                from owner where owner_key = $1 and complete_to is not null and erased_at is null
                "#,
                owner.as_bytes(),
            )
            .fetch_optional(&self.pool())
            .await?;

            Ok(match in_doubt {
                None => CopyState::Absent,
                Some(false) => CopyState::Hosted,
                Some(true) => CopyState::InDoubt,
            })
        })
        .await
    }

    /// Returns owners whose copies are in doubt and were not yet found to be lost: those whose keys
    /// follow `after`, at most `limit`.
    pub async fn doubted_owners(
        &self,
        after: Option<OwnerKey>,
        limit: i64,
    ) -> Result<Vec<OwnerKey>, ShardError> {
        self.within_call_limit(async {
            let owners = sqlx::query_scalar!(
                "
                select owner_key from owner
                where doubted_version is not null and lost_at is null and doubted_version = version
                  and complete_to is not null and erased_at is null
                  and ($2::bytea is null or owner_key > $2)
                order by owner_key limit $1
                ",
                limit,
                after.as_ref().map(|owner| &owner.as_bytes()[..]),
            )
            .fetch_all(&self.pool())
            .await?;

            Ok(owners
                .iter()
                .filter_map(|key| OwnerKey::from_slice(key))
                .collect())
        })
        .await
    }

    /// Records that the bucket lacks what the copy of that version has. Changes nothing if the copy
    /// has another version.
    pub async fn mark_lost(&self, owner: &OwnerKey, version: Version) -> Result<(), ShardError> {
        self.within_call_limit(async {
            let mut transaction = self.pool().begin().await?;
            let marked = sqlx::query!(
                "
                update owner set doubted_version = version, lost_at = now()
                where owner_key = $1 and version = $2 and complete_to is not null
                  and (lost_at is null or doubted_version <> version)
                ",
                owner.as_bytes(),
                to_sql(version.get()),
            )
            .execute(&mut *transaction)
            .await?;

            if marked.rows_affected() > 0 {
                notify_unhosted(&mut transaction, &[*owner]).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Returns how many copies have what the bucket lacks.
    pub async fn lost_count(&self) -> Result<u64, ShardError> {
        self.within_call_limit(async {
            let count = sqlx::query_scalar!(
                r#"
                select count(*) as "count!" from owner
                where lost_at is not null and doubted_version = version and complete_to is not null
                "#,
            )
            .fetch_one(&self.pool())
            .await?;

            Ok(from_sql(count))
        })
        .await
    }
}

/// Puts the owners' copies in doubt, in the caller's transaction.
pub(super) async fn doubt_copies(
    connection: &mut PgConnection,
    owners: &[OwnerKey],
) -> Result<(), ShardError> {
    if owners.is_empty() {
        return Ok(());
    }

    sqlx::query!(
        "update owner set doubted_version = version, lost_at = null where owner_key = any($1)",
        &keys(owners),
    )
    .execute(&mut *connection)
    .await?;

    notify_unhosted(connection, owners).await
}
