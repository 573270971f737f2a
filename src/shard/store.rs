//! The connection to the shard's Postgres, and its schema.

use super::pools::Pools;
use super::settings::{ShardSettings, UNHURRIED};
use crate::breaker::Breaker;
use crate::requester::Transient;
use sqlx::Connection as _;
use sqlx::migrate::{AppliedMigration, Migrate as _};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::timeout;

/// The schema that this version of the service reads and writes.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// Held in shared mode while an owner is hosted, exclusively while the projection looks owners up: so the two cannot
/// pass each other unseen.
pub(super) const HOSTING_LOCK: i64 = 0x676f_6661_7600_0001;
/// Held by the one worker of the shard that projects.
pub(super) const PROJECTOR_LOCK: i64 = 0x676f_6661_7600_0002;

/// Why the shard's Postgres did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Postgres, or the way to it, failed.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// Its schema cannot be brought to what this version needs.
    #[error("the schema: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// It is known not to answer.
    #[error("Postgres is known to be away")]
    KnownUnavailable,
    /// It did not answer in time.
    #[error("Postgres did not answer in time")]
    TimedOut,
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
    pools: Arc<RwLock<Pools>>,
    pub(super) options: PgConnectOptions,
    settings: ShardSettings,
    breaker: Breaker,
    /// Whether connections of the pools may be dead without knowing it.
    suspect: Arc<AtomicBool>,
    /// Calls that were answered so far.
    heard: Arc<AtomicU64>,
}

impl Store {
    /// Reads the settings; connects when first used, so that a worker can start while Postgres is away.
    pub fn new(settings: &ShardSettings) -> Result<Self, ShardError> {
        let options = PgConnectOptions::from_str(&settings.url)
            .map_err(|_| {
                ShardError::Unfit(
                    "postgres.url is not of the form postgres://user:password@host:port/database"
                        .into(),
                )
            })?
            .application_name("gofavorites");
        let breaker = Breaker::new("Postgres", {
            let (options, limit) = (options.clone(), Duration::from_millis(settings.call_ms / 2));
            move || answers(options.clone(), limit)
        });
        let pools = Arc::new(RwLock::new(Pools::new(settings, &options)));
        let (suspect, heard) = (Arc::default(), Arc::default());
        Ok(Self {
            pools,
            options,
            settings: settings.clone(),
            breaker,
            suspect,
            heard,
        })
    }

    /// What tells whether it answers.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Whether it answers, as far as is known.
    pub fn is_up(&self) -> bool {
        !self.breaker.is_open()
    }

    /// How long one call may take that a request waits for.
    pub fn call_limit(&self) -> Duration {
        Duration::from_millis(self.settings.call_ms)
    }

    /// Connections for what a request waits for.
    pub(super) fn pool(&self) -> PgPool {
        self.pools().hurried
    }

    /// Connections for what no request waits for.
    pub(super) fn slow_pool(&self) -> PgPool {
        self.pools().unhurried
    }

    /// The pools; new ones after Postgres was away. A connection over which nothing comes any more does not know it. Who
    /// still uses an old one ends as they would have.
    fn pools(&self) -> Pools {
        if self.is_up() && self.suspect.swap(false, Ordering::AcqRel) {
            let fresh = Pools::new(&self.settings, &self.options);
            *self.pools.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        self.pools
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Does what a request waits for: not at all while Postgres is known to be away, and not for long. That a call took too
    /// long does not prove that Postgres is away: the breaker looks.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, ShardError>>,
    ) -> Result<T, ShardError> {
        let attempt = self.breaker.admit().ok_or(ShardError::KnownUnavailable)?;
        let heard = self.heard.load(Ordering::Relaxed);
        let done = timeout(self.call_limit(), work)
            .await
            .unwrap_or(Err(ShardError::TimedOut));
        match &done {
            Err(error) if error.is_too_slow() => {
                // Nobody was answered meanwhile: it may be the connections.
                if self.heard.load(Ordering::Relaxed) == heard {
                    self.suspect.store(true, Ordering::Release);
                }
                attempt.doubtful();
            }
            Err(error) if error.is_unavailable() && !error.is_cancelled() => {
                self.suspect.store(true, Ordering::Release);
                attempt.unanswered();
            }
            _ => {
                self.heard.fetch_add(1, Ordering::Relaxed);
                attempt.answered();
            }
        }
        done
    }

    /// Does what no request waits for, in its own time, on a connection of the [slow pool](Self::slow_pool).
    pub(super) async fn unhurried<T>(
        &self,
        work: impl Future<Output = Result<T, ShardError>>,
    ) -> Result<T, ShardError> {
        timeout(UNHURRIED, work)
            .await
            .unwrap_or(Err(ShardError::TimedOut))
    }

    /// Brings the schema to this version, under an advisory lock, so that several may start at once.
    pub async fn migrate(&self) -> Result<(), ShardError> {
        // On a connection of its own: a migration takes the time that it takes.
        let own = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(self.options.clone());
        MIGRATIONS.run(&own).await?;
        own.close().await;
        Ok(())
    }

    /// Fails unless the schema is this version's, to the letter.
    pub async fn check_schema(&self) -> Result<(), ShardError> {
        const TABLE: &str = "_sqlx_migrations";
        self.within(async {
            let mut connection = self.pool().acquire().await?;
            let there =
                sqlx::query_scalar!("select to_regclass($1) is not null as \"there!\"", TABLE)
                    .fetch_one(&mut *connection)
                    .await?;
            let applied = match there {
                true => connection.list_applied_migrations(TABLE).await?,
                false => Vec::new(),
            };
            fits(&applied)
        })
        .await
    }

    /// Ends all connections.
    pub async fn close(&self) {
        let pools = self.pools();
        tokio::join!(pools.hurried.close(), pools.unhurried.close());
    }
}

impl Transient for ShardError {
    /// Whether Postgres cannot be reached or does not answer.
    fn is_unavailable(&self) -> bool {
        match self {
            Self::TimedOut | Self::KnownUnavailable => true,
            Self::Postgres(sqlx::Error::Database(error)) => {
                // Class 08: connection exception; 53: insufficient resources; 57: operator intervention; and a transaction
                // that was left open too long.
                error.code().is_some_and(|code| {
                    ["08", "53", "57", "25P03"]
                        .iter()
                        .any(|class| code.starts_with(class))
                })
            }
            Self::Postgres(
                sqlx::Error::RowNotFound
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_),
            ) => false,
            Self::Postgres(_) => true,
            Self::Schema(_) | Self::Unreadable | Self::Unfit(_) => false,
        }
    }
}

impl ShardError {
    /// Whether there was no answer in time, or no connection.
    fn is_too_slow(&self) -> bool {
        matches!(
            self,
            Self::TimedOut | Self::Postgres(sqlx::Error::PoolTimedOut)
        )
    }

    /// Whether Postgres itself ended the statement, because its time was up: so it is there.
    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Postgres(sqlx::Error::Database(error)) if error.code().as_deref() == Some("57014"))
    }
}

/// Whether the migrations that were applied are those of this version.
fn fits(applied: &[AppliedMigration]) -> Result<(), ShardError> {
    let unfit = |why: &str| {
        Err(ShardError::Unfit(format!(
            "Postgres' schema does not fit: {why}"
        )))
    };
    if applied.is_empty() {
        return unfit("it has none of ours: run `gofavorites init`");
    }
    let known = |version: i64| {
        MIGRATIONS
            .iter()
            .find(|migration| migration.version == version)
    };
    for one in applied {
        match known(one.version) {
            None => return unfit("it was made by a newer version of the service: run that one"),
            Some(ours) if ours.checksum != one.checksum => {
                return unfit(
                    "it was made by another program than this: name the database of this shard in postgres.url",
                );
            }
            Some(_) => {}
        }
    }
    let missing = MIGRATIONS
        .iter()
        .any(|ours| applied.iter().all(|one| one.version != ours.version));
    if missing {
        unfit("it is of an older version of the service: run `gofavorites init`")
    } else {
        Ok(())
    }
}

/// Whether a new connection is taken and answers.
async fn answers(options: PgConnectOptions, limit: Duration) -> bool {
    let asked = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.ping().await?;
        connection.close().await
    };
    matches!(timeout(limit, asked).await, Ok(Ok(())))
}

pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
