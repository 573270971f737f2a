//! Taking an owner's copy away: to bring it anew, or because they have not been here for long.
//!
//! Both happen under the lock that keeps hosting and projection apart, held exclusively, and are told to all workers of
//! the shard: none may believe for ever that it hosts an owner whom it does not.

use super::store::{HOSTING_LOCK, ShardError, Store, from_sql, to_sql};
use crate::seal::OwnerKey;
use sqlx::postgres::PgConnection;

/// The channel on which it is told whose copy was taken away.
pub(super) const UNHOSTED: &str = "gofavorites_unhosted";

/// As many names as one notice holds: Postgres takes less than 8,000 bytes.
const NAMES: usize = 300;

/// Whose copy was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unhosted {
    /// Perhaps anybody's: notices may have been missed.
    Anyone,
    /// These owners'.
    Those(Vec<OwnerKey>),
}

impl Unhosted {
    pub(super) fn parse(payload: &str) -> Self {
        let owners: Option<Vec<OwnerKey>> = payload.split(',').map(OwnerKey::parse).collect();
        owners.map_or(Self::Anyone, Self::Those)
    }
}

impl Store {
    /// Takes an owner's rows away, save the versions that passed by: request ids are honoured for their time. Then the
    /// owner is not hosted until that is done anew. Says whether the owner was known here.
    pub async fn reset_owner(&self, owner: &OwnerKey, bucket: &str) -> Result<bool, ShardError> {
        self.unhurried(async {
            let mut transaction = self.slow_pool().begin().await?;
            sqlx::query!("select pg_advisory_xact_lock($1)", HOSTING_LOCK)
                .execute(&mut *transaction)
                .await?;
            let cursor =
                sqlx::query_scalar!("select sequence from cursor where bucket = $1", bucket)
                    .fetch_one(&mut *transaction)
                    .await?;
            let reset = reset_owners(&mut transaction, &[*owner], cursor).await?;
            transaction.commit().await?;
            Ok(reset > 0)
        })
        .await
    }

    /// Takes away all that is known of some owners, who stay known by name and are not hosted: for who accepts that the
    /// bucket has lost what it acknowledged, and has the projection go on from its `newest` record.
    pub async fn empty_owners(&self, owners: &[OwnerKey], newest: u64) -> Result<(), ShardError> {
        self.unhurried(async {
            let mut transaction = self.slow_pool().begin().await?;
            sqlx::query!("select pg_advisory_xact_lock($1)", HOSTING_LOCK)
                .execute(&mut *transaction)
                .await?;
            reset_owners(&mut transaction, owners, to_sql(newest)).await?;
            sqlx::query!(
                "delete from item_version where owner_key = any($1)",
                &keys(owners)
            )
            .execute(&mut *transaction)
            .await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Forgets owners who have not been seen for that many days, at most `most` of them, in one transaction. Says how
    /// many: fewer than `most` were the last.
    pub async fn evict(&self, days: i32, most: i64) -> Result<usize, ShardError> {
        self.unhurried(async {
            let mut transaction = self.slow_pool().begin().await?;
            sqlx::query!("select pg_advisory_xact_lock($1)", HOSTING_LOCK)
                .execute(&mut *transaction)
                .await?;
            let gone = sqlx::query_scalar!(
                "
                delete from owner where owner_key in (
                    select owner_key from owner
                    where seen_at < now() - make_interval(days => $1) and erased_at is null
                    order by owner_key limit $2 for update
                )
                returning owner_key
                ",
                days,
                most,
            )
            .fetch_all(&mut *transaction)
            .await?;
            let gone: Vec<OwnerKey> = gone
                .iter()
                .filter_map(|key| OwnerKey::from_slice(key))
                .collect();
            tell_unhosted(&mut transaction, &gone).await?;
            transaction.commit().await?;
            Ok(gone.len())
        })
        .await
    }

    /// How many owners have not been seen for that many days.
    pub async fn unseen(&self, days: i32) -> Result<u64, ShardError> {
        self.unhurried(async {
            let count = sqlx::query_scalar!(
                r#"
                select count(*) as "count!" from owner
                where seen_at < now() - make_interval(days => $1) and erased_at is null
                "#,
                days,
            )
            .fetch_one(&self.slow_pool())
            .await?;
            Ok(from_sql(count))
        })
        .await
    }

    /// Notes that these owners were here. Rows that say so of less than an hour ago stay as they are.
    pub async fn note_seen(&self, owners: &[OwnerKey]) -> Result<(), ShardError> {
        self.within(async {
            sqlx::query!(
                "
                update owner set seen_at = now() where owner_key in (
                    select owner_key from owner
                    where owner_key = any($1) and seen_at < now() - interval '1 hour'
                    order by owner_key for no key update
                )
                ",
                &keys(owners),
            )
            .execute(&self.pool())
            .await?;
            Ok(())
        })
        .await
    }
}

/// Takes the rows of these owners away in the caller's transaction, which holds the hosting lock exclusively and leaves
/// the projection's cursor at `cursor`. Says how many of them were known.
pub(super) async fn reset_owners(
    connection: &mut PgConnection,
    owners: &[OwnerKey],
    cursor: i64,
) -> Result<u64, ShardError> {
    if owners.is_empty() {
        return Ok(0);
    }
    let reset = sqlx::query!(
        "
        update owner
        set version = 0, wrapped_key = null, key_version = null, floor = 0, sealed_floor = null,
            floor_version = null, complete_to = null, history_complete = false, begun_at_sequence = $2
        where owner_key in (
            select owner_key from owner where owner_key = any($1) order by owner_key for no key update
        )
        ",
        &keys(owners),
        cursor,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("delete from item where owner_key = any($1)", &keys(owners))
        .execute(&mut *connection)
        .await?;
    tell_unhosted(connection, owners).await?;
    Ok(reset.rows_affected())
}

async fn tell_unhosted(
    connection: &mut PgConnection,
    owners: &[OwnerKey],
) -> Result<(), ShardError> {
    for some in owners.chunks(NAMES) {
        let names: Vec<String> = some.iter().map(ToString::to_string).collect();
        sqlx::query!("select pg_notify($1, $2)", UNHOSTED, names.join(","))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) fn keys(owners: &[OwnerKey]) -> Vec<Vec<u8>> {
    owners
        .iter()
        .map(|owner| owner.as_bytes().to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_owners_or_anyone() {
        let (one, two) = (OwnerKey::from_bytes([1; 16]), OwnerKey::from_bytes([2; 16]));
        assert_eq!(
            Unhosted::parse(&format!("{one},{two}")),
            Unhosted::Those(vec![one, two])
        );
        assert_eq!(
            Unhosted::parse(&one.to_string()),
            Unhosted::Those(vec![one])
        );
        for unreadable in ["", "x", "x,y"] {
            assert_eq!(Unhosted::parse(unreadable), Unhosted::Anyone);
        }
        assert!(
            (one.to_string().len() + 1) * NAMES < 8_000,
            "it fits into one notice"
        );
    }
}
