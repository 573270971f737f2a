//! The shard's Postgres: how the other files call it.

use super::error::ShardError;
use super::pools::Pools;
use super::refusal::{LastRefusal, Refusal, answers, takes_writes};
use super::settings::{BACKGROUND_TIMEOUT, ShardSettings};
use super::shared_calls::SharedCalls;
use crate::breaker::Breaker;
use sqlx::postgres::{PgConnectOptions, PgPool};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::timeout;

/// The advisory lock between hosting and projection, so that neither can miss the other. It is held
/// in shared mode while an owner's row is inserted, and exclusively while the projection looks
/// owners up.
pub(super) const HOSTING_LOCK: i64 = 0x676f_6661_7600_0001;
/// The advisory lock that the projecting worker of the shard holds.
pub(super) const PROJECTOR_LOCK: i64 = 0x676f_6661_7600_0002;

/// The shard's Postgres.
#[derive(Clone)]
pub struct Store {
    pools: Arc<RwLock<Pools>>,
    pub(super) options: PgConnectOptions,
    settings: ShardSettings,
    breaker: Breaker,
    pub(super) writing: Breaker,
    pub(super) last_refusal: LastRefusal,
    pub(super) calls: SharedCalls,
    /// Whether connections of the pools may be dead. The client does not notice that by itself.
    suspect: Arc<AtomicBool>,
    /// Whether sessions of the pools may only read. They would go on so after Postgres takes writes
    /// again.
    read_only: Arc<AtomicBool>,
    /// How many calls were answered so far.
    answered: Arc<AtomicU64>,
}

impl Store {
    /// Reads the settings. It connects when it is first used, so that a worker can start while
    /// Postgres is unavailable.
    ///
    /// # Errors
    ///
    /// Fails if `url` is not the URL of a Postgres database.
    pub fn new(settings: &ShardSettings) -> Result<Self, ShardError> {
        let options = PgConnectOptions::from_str(&settings.url)
            .map_err(|_| {
                ShardError::Unfit(
                    "postgres.url is not of the form postgres://user:password@host:port/database"
                        .into(),
                )
            })?
            .application_name("gofavorites");
        let limit = Duration::from_millis(settings.call_ms / 2);
        let last_refusal = LastRefusal::default();
        let breaker = Breaker::new("Postgres", {
            let (options, last_refusal) = (options.clone(), last_refusal.clone());
            move || answers(options.clone(), limit, last_refusal.clone())
        });
        let suspect = Arc::<AtomicBool>::default();
        let read_only = Arc::<AtomicBool>::default();
        let writing = Breaker::new("Postgres, for writes,", {
            let (options, read_only) = (options.clone(), read_only.clone());
            move || takes_writes(options.clone(), limit, read_only.clone())
        });
        let pools = Arc::new(RwLock::new(Pools::new(settings, &options)));

        Ok(Self {
            pools,
            options,
            settings: settings.clone(),
            breaker,
            writing,
            last_refusal,
            calls: SharedCalls::default(),
            suspect,
            read_only,
            answered: Arc::default(),
        })
    }

    /// The circuit breaker of Postgres.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Returns whether Postgres answers, as far as the worker knows.
    pub fn is_up(&self) -> bool {
        !self.breaker.is_open()
    }

    /// Returns whether rows can be stored, as far as the worker knows.
    pub fn stores_rows(&self) -> bool {
        self.is_up() && !self.writing.is_open()
    }

    /// How long one call that a request waits for may take.
    pub fn call_limit(&self) -> Duration {
        Duration::from_millis(self.settings.call_ms)
    }

    /// The connections for work that a request waits for.
    pub(super) fn pool(&self) -> PgPool {
        self.pools().request
    }

    /// The connections for work that no request waits for.
    pub(super) fn background_pool(&self) -> PgPool {
        self.pools().background
    }

    /// The pools; new ones after Postgres was unavailable or read-only, because the old connections
    /// may be dead, or may still only read.
    /// A call that still uses an old pool ends as it would have ended.
    fn pools(&self) -> Pools {
        let is_due = |flag: &AtomicBool, now| now && flag.swap(false, Ordering::AcqRel);
        if is_due(&self.suspect, self.is_up()) || is_due(&self.read_only, self.stores_rows()) {
            let fresh = Pools::new(&self.settings, &self.options);
            *self.pools.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }

        self.pools
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Does work that a request waits for, within the time limit of a call. Fails at once while
    /// Postgres is known to be unavailable.
    ///
    /// A call that took too long does not prove that Postgres is unavailable. It makes the breaker
    /// probe.
    pub(super) fn within_call_limit<T>(
        &self,
        work: impl Future<Output = Result<T, ShardError>>,
    ) -> impl Future<Output = Result<T, ShardError>> {
        // In a box, because a call takes tens of kilobytes: they would be part of every request, also
        // of those that need no Postgres.
        let work = Box::pin(work);

        async move {
            let attempt = self.breaker.admit().ok_or(ShardError::KnownUnavailable)?;
            let answered_before = self.answered.load(Ordering::Relaxed);
            let result = timeout(self.call_limit(), work)
                .await
                .unwrap_or(Err(ShardError::TimedOut));

            match &result {
                Err(error) if error.is_too_slow() => {
                    // No other call was answered meanwhile, so the connections may be dead.
                    if self.answered.load(Ordering::Relaxed) == answered_before {
                        self.suspect.store(true, Ordering::Release);
                    }
                    attempt.doubtful();
                }
                Err(error) if error.is_outage() => {
                    self.suspect.store(true, Ordering::Release);
                    attempt.unanswered();
                }
                _ => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    attempt.answered();
                }
            }
            if let Err(error) = &result {
                self.note_refusal(error);
            }

            result
        }
    }

    /// Does work that no request waits for, on a connection of
    /// [`background_pool`](Self::background_pool). It may take longer, and does not involve the
    /// breaker.
    pub(super) fn in_background<T>(
        &self,
        work: impl Future<Output = Result<T, ShardError>>,
    ) -> impl Future<Output = Result<T, ShardError>> {
        // In a box for the same reason: what runs in the background may begin in a request.
        let work = Box::pin(work);

        async move {
            let result = timeout(BACKGROUND_TIMEOUT, work)
                .await
                .unwrap_or(Err(ShardError::TimedOut));
            if let Err(error) = &result {
                self.note_refusal(error);
            }

            result
        }
    }

    /// Makes the breaker of writes probe if this is the error of a session that may only read. The
    /// sessions of the pools are made again, as soon as new ones may write.
    pub fn note_refusal(&self, error: &ShardError) {
        if error.refusal() == Some(Refusal::ReadOnly) {
            self.read_only.store(true, Ordering::Release);
            self.writing.doubt();
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        let pools = self.pools();
        tokio::join!(pools.request.close(), pools.background.close());
    }
}

pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
