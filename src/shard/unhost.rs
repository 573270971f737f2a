//! Removing an owner's copy: to host the owner again (a reset), or because the owner has not been
//! seen for long (an eviction).
//!
//! Both hold the lock between hosting and projection exclusively. Both notify all workers of the
//! shard: otherwise a worker could go on assuming that the shard hosts the owner.

use super::error::ShardError;
use super::store::{HOSTING_LOCK, Store, from_sql, to_sql};
use crate::seal::OwnerKey;
use sqlx::postgres::PgConnection;

/// The channel that announces whose copy was removed.
pub(super) const UNHOSTED_CHANNEL: &str = "gofavorites_unhosted";

/// The most owners that one notification names: Postgres takes less than 8,000 bytes.
const NOTIFICATION_OWNERS_MAX: usize = 300;

/// The owners whose copy was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unhosted {
    /// Perhaps any owner's: notifications may have been missed.
    Anyone,
    /// The copies of these owners.
    Those(Vec<OwnerKey>),
}

impl Unhosted {
    pub(super) fn parse(payload: &str) -> Self {
        let owners: Option<Vec<OwnerKey>> = payload.split(',').map(OwnerKey::parse).collect();

        owners.map_or(Self::Anyone, Self::Those)
    }
}

impl Store {
    /// Resets an owner's copy: removes the rows, except those in `item_version`, because request
    /// ids are honoured for their time. The owner is then not hosted until hosting is done again.
    ///
    /// Returns whether the owner had a row here.
    pub async fn reset_owner(&self, owner: &OwnerKey, bucket: &str) -> Result<bool, ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
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

    /// Removes everything of some owners except their rows in `owner`; they are no longer hosted.
    ///
    /// This is a part of accepting lost history. The projection then continues after `newest`, the
    /// bucket's newest record.
    pub async fn empty_owners(&self, owners: &[OwnerKey], newest: u64) -> Result<(), ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
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

    /// Evicts owners that have not been seen for `days`, at most `limit`, in one transaction. Spares
    /// copies in doubt: they may have what the bucket lacks.
    /// Returns how many. If they are fewer than `limit`, they were the last.
    ///
    /// An index finds them by their last-seen times. Only then are they locked, in the order of their
    /// keys as everywhere, and looked at again.
    pub async fn evict(&self, days: i32, limit: i64) -> Result<usize, ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            sqlx::query!("select pg_advisory_xact_lock($1)", HOSTING_LOCK)
                .execute(&mut *transaction)
                .await?;

            let evicted = sqlx::query_scalar!(
                "
                delete from owner where owner_key in (
                    select owner_key from owner
                    where owner_key = any(array(
                        select owner_key from owner
                        where seen_at < now() - make_interval(days => $1) and erased_at is null
                          and doubted_version is distinct from version
                        order by seen_at limit $2
                    ))
                      and seen_at < now() - make_interval(days => $1) and erased_at is null
                      and doubted_version is distinct from version
                    order by owner_key for update
                )
                returning owner_key
                ",
                days,
                limit,
            )
            .fetch_all(&mut *transaction)
            .await?;

            let evicted: Vec<OwnerKey> = evicted
                .iter()
                .filter_map(|key| OwnerKey::from_slice(key))
                .collect();
            notify_unhosted(&mut transaction, &evicted).await?;
            transaction.commit().await?;

            Ok(evicted.len())
        })
        .await
    }

    /// Returns how many owners have not been seen for `days`.
    pub async fn unseen(&self, days: i32) -> Result<u64, ShardError> {
        self.in_background(async {
            let count = sqlx::query_scalar!(
                r#"
                select count(*) as "count!" from owner
                where seen_at < now() - make_interval(days => $1) and erased_at is null
                  and doubted_version is distinct from version
                "#,
                days,
            )
            .fetch_one(&self.background_pool())
            .await?;

            Ok(from_sql(count))
        })
        .await
    }

    /// Sets the time when these owners were last seen to now, except where it is less than an hour
    /// ago.
    pub async fn note_seen(&self, owners: &[OwnerKey]) -> Result<(), ShardError> {
        self.within_call_limit(async {
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

/// Resets the copies of these owners in the caller's transaction. The transaction holds the hosting
/// lock exclusively, and leaves the projection's cursor at `cursor`. Returns how many had a row.
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
            floor_version = null, complete_to = null, history_complete = false, begun_at_sequence = $2,
            doubted_version = null, lost_at = null
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
    sqlx::query!(
        "delete from other_record where owner_key = any($1)",
        &keys(owners)
    )
    .execute(&mut *connection)
    .await?;
    notify_unhosted(connection, owners).await?;

    Ok(reset.rows_affected())
}

pub(super) async fn notify_unhosted(
    connection: &mut PgConnection,
    owners: &[OwnerKey],
) -> Result<(), ShardError> {
    for named in owners.chunks(NOTIFICATION_OWNERS_MAX) {
        let names: Vec<String> = named.iter().map(ToString::to_string).collect();
        sqlx::query!(
            "select pg_notify($1, $2)",
            UNHOSTED_CHANNEL,
            names.join(",")
        )
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
    fn a_notification_names_owners_or_anyone() {
        let one = OwnerKey::from_bytes([1; 16]);
        let two = OwnerKey::from_bytes([2; 16]);

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
    }

    #[test]
    fn the_most_owners_of_a_notification_fit_into_it() {
        let owner = OwnerKey::from_bytes([1; 16]);

        let bytes = (owner.to_string().len() + 1) * NOTIFICATION_OWNERS_MAX;

        assert!(bytes < 8_000);
    }
}
