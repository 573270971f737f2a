//! The schema of the shard's Postgres, and whose database it is.

use super::error::ShardError;
use super::error_text::place;
use super::pooler;
use super::store::Store;
use sqlx::Connection as _;
use sqlx::migrate::{AppliedMigration, Migrate as _};
use sqlx::postgres::{PgConnection, PgPoolOptions};
use std::time::Duration;
use tokio::time::timeout;

/// The schema that this version of the service reads and writes.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// How long `init` waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Store {
    /// Migrates the schema to this version, under an advisory lock, so that several workers may
    /// start at once. Then the database belongs to `shard`. Nothing is changed if it belongs to
    /// another shard.
    pub async fn migrate(&self, shard: &str) -> Result<(), ShardError> {
        let mut connection = timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .unwrap_or(Err(ShardError::TimedOut))
            .map_err(|error| self.at(error))?;
        let applied = applied_migrations(&mut connection).await?;
        if !applied.is_empty() {
            check_ownership(&applied)?;
            self.check_claim(&mut connection, shard).await?;
        }

        // A connection of its own, because a migration has no time limit.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(self.options.clone());
        // A newer version of the service may have applied its own already.
        let mut migrator = sqlx::migrate!();
        let migrated = migrator.set_ignore_missing(true).run(&pool).await;
        migrated.map_err(|error| self.at(error.into()))?;
        pool.close().await;

        claim(&mut connection, shard).await?;
        self.check_shard(&mut connection, shard).await?;
        connection.close().await?;
        Ok(())
    }

    /// Fails unless the database belongs to `shard` and the migrations of this version are applied.
    /// There may be later ones: a migration leaves in place what the version before it needs.
    ///
    /// It opens a connection of its own, because a pool hides why Postgres cannot be reached.
    pub async fn check(&self, shard: &str) -> Result<(), ShardError> {
        let check = async {
            let mut connection = self.connect().await?;
            check_migrations(&applied_migrations(&mut connection).await?)?;
            self.check_shard(&mut connection, shard).await?;
            Ok(connection.close().await?)
        };

        timeout(self.call_limit(), check)
            .await
            .unwrap_or(Err(ShardError::TimedOut))
            .map_err(|error| self.at(error))
    }

    async fn connect(&self) -> Result<PgConnection, ShardError> {
        pooler::connect(&self.options).await
    }

    /// Returns the database as `host:port/name`, for messages.
    pub fn place(&self) -> String {
        place(&self.options)
    }

    /// Returns the error with the place of the database, if it is about the way to it.
    fn at(&self, error: ShardError) -> ShardError {
        match error {
            ShardError::Postgres(_) | ShardError::TimedOut | ShardError::Schema(_) => {
                ShardError::At {
                    place: self.place(),
                    error: Box::new(error),
                }
            }
            other => other,
        }
    }

    /// Fails unless the database belongs to this shard.
    async fn check_shard(
        &self,
        connection: &mut PgConnection,
        shard: &str,
    ) -> Result<(), ShardError> {
        match read_shard(connection).await? {
            Some(found) if found == shard => Ok(()),
            Some(found) => Err(self.of_other_shard(found, shard)),
            None => Err(ShardError::Unfit(format!(
                "the database {} names no shard that it belongs to: run `gofavorites init`",
                self.place()
            ))),
        }
    }

    /// Fails if the database belongs to another shard. One that belongs to none is accepted, also
    /// one of a release without the table.
    async fn check_claim(
        &self,
        connection: &mut PgConnection,
        shard: &str,
    ) -> Result<(), ShardError> {
        if !has_table(connection, "shard").await? {
            return Ok(());
        }

        match read_shard(connection).await? {
            Some(found) if found != shard => Err(self.of_other_shard(found, shard)),
            _ => Ok(()),
        }
    }

    fn of_other_shard(&self, found: String, shard: &str) -> ShardError {
        ShardError::OtherShard {
            place: self.place(),
            found,
            shard: shard.to_owned(),
        }
    }
}

/// Returns whether there is a table of this name.
async fn has_table(connection: &mut PgConnection, name: &str) -> Result<bool, ShardError> {
    let exists = sqlx::query_scalar!("select to_regclass($1) is not null as \"there!\"", name)
        .fetch_one(connection)
        .await?;

    Ok(exists)
}

/// Lets the database belong to this shard, if it belongs to none yet.
async fn claim(connection: &mut PgConnection, shard: &str) -> Result<(), ShardError> {
    sqlx::query!(
        "insert into shard (id) values ($1) on conflict do nothing",
        shard
    )
    .execute(connection)
    .await?;

    Ok(())
}

/// Returns the shard that the database belongs to.
async fn read_shard(connection: &mut PgConnection) -> Result<Option<String>, ShardError> {
    let id = sqlx::query_scalar!("select id from shard")
        .fetch_optional(connection)
        .await?;

    Ok(id)
}

/// Returns the migrations that are applied.
async fn applied_migrations(
    connection: &mut PgConnection,
) -> Result<Vec<AppliedMigration>, ShardError> {
    const TABLE: &str = "_sqlx_migrations";

    if has_table(connection, TABLE).await? {
        Ok(connection.list_applied_migrations(TABLE).await?)
    } else {
        Ok(Vec::new())
    }
}

fn unfit(why: &str) -> Result<(), ShardError> {
    Err(ShardError::Unfit(format!(
        "Postgres' schema does not fit: {why}"
    )))
}

/// Fails if another program applied these migrations: if one of them is not this version's, and not
/// later than its own, or the first one of this version is missing.
fn check_ownership(applied: &[AppliedMigration]) -> Result<(), ShardError> {
    let own = |version: i64| MIGRATIONS.iter().find(|own| own.version == version);
    let first = MIGRATIONS.iter().map(|own| own.version).min();
    let newest = MIGRATIONS.iter().map(|own| own.version).max();

    let is_foreign = |applied: &AppliedMigration| match own(applied.version) {
        Some(own) => own.checksum != applied.checksum,
        None => Some(applied.version) <= newest,
    };
    let has_first = applied.iter().any(|applied| Some(applied.version) == first);
    if !has_first || applied.iter().any(is_foreign) {
        return unfit("it is another program's: name this shard's database in postgres.url");
    }

    Ok(())
}

/// Fails unless all migrations of this version are applied. Others have to be later than its own.
fn check_migrations(applied: &[AppliedMigration]) -> Result<(), ShardError> {
    if applied.is_empty() {
        return unfit("it has none of ours: run `gofavorites init`");
    }
    check_ownership(applied)?;

    let is_applied = |version: i64| applied.iter().any(|applied| applied.version == version);
    if MIGRATIONS.iter().all(|own| is_applied(own.version)) {
        Ok(())
    } else {
        unfit("it is of an older version of the service: run `gofavorites init`")
    }
}
