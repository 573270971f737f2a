//! The connection to the shard's Postgres, and its schema.

use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

/// The schema that this version of the service reads and writes.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// Held in shared mode while an owner is hosted, exclusively while the projection looks owners up: so the two cannot
/// pass each other unseen.
pub(super) const HOSTING_LOCK: i64 = 0x676f_6661_7600_0001;
/// Held by the one worker of the shard that projects.
pub(super) const PROJECTOR_LOCK: i64 = 0x676f_6661_7600_0002;

/// How to reach the shard's Postgres.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardSettings {
    /// `postgres://user:password@host:port/database`.
    pub url: String,
    /// Connections at most, the projection's and the listener's aside.
    pub connections: u32,
    /// How long to wait for a connection, in milliseconds.
    pub acquire_ms: u64,
}

impl Default for ShardSettings {
    fn default() -> Self {
        Self { url: String::new(), connections: 10, acquire_ms: 1_000 }
    }
}

impl fmt::Debug for ShardSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardSettings").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// Why the shard's Postgres did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ShardFault {
    /// Postgres, or the way to it, failed.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// Its schema cannot be brought to what this version needs.
    #[error("the schema: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// A row that the truth cannot have written.
    #[error("a stored record cannot be read")]
    Unreadable,
    /// Something about it differs from what this worker needs.
    #[error("{0}")]
    Unfit(String),
}

/// The shard's Postgres.
#[derive(Clone)]
pub struct Store {
    pub(super) pool: PgPool,
    pub(super) options: PgConnectOptions,
}

impl Store {
    /// Reads the settings; connects when first used, so that a worker can start while Postgres is away.
    pub fn new(settings: &ShardSettings) -> Result<Self, ShardFault> {
        let options = PgConnectOptions::from_str(&settings.url)
            .map_err(|_| {
                ShardFault::Unfit("postgres.url is not of the form postgres://user:password@host:port/database".into())
            })?
            .application_name("gofavorites");
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(Duration::from_millis(settings.acquire_ms))
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options })
    }

    /// Brings the schema to this version, under an advisory lock, so that several may start at once.
    pub async fn migrate(&self) -> Result<(), ShardFault> {
        Ok(MIGRATIONS.run(&self.pool).await?)
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
