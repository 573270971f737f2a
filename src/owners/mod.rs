//! What a worker knows of the owners it serves: their snapshots in memory, fed from Postgres and the truth.
//!
//! This is the one road for data. A read comes through [`Owners::read`], a write through [`Owners::write`], and the rows
//! of the shard through [`Owners::project`]. A handler decides on a [`Snapshot`] and never talks to the bucket or to
//! Postgres itself.

mod admission;
mod cache;
mod compose;
mod continuity;
mod draft;
mod fetch;
mod hosting;
mod load;
mod prior_request;
mod read;
mod settle;
mod snapshot;
mod versions;
mod write;

pub use admission::{Denied, Pace};
pub use cache::Admission;
pub use continuity::Continuity;
pub use draft::{Decision, Draft, Intent, Outcome, RecalledRefusal, WriteFailure, WriteReceipt};
pub use fetch::FetchedOwner;
pub use hosting::Loss;
pub use read::{Consistency, Reading};
pub use snapshot::{OpenedItem, Snapshot};
pub use versions::KeptVersions;

use crate::breaker::Breaker;
use crate::requester::Transient;
use crate::seal::{Broken, Keyring, OwnerKey, SealError, UserId};
use crate::shard::{Cursor, ShardError, Store};
use crate::truth::{Bucket, TruthError};
use cache::OwnerCache;
use hosting::{Backfill, Presence};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How reads, writes and the projection behave.
#[derive(Clone, Debug, Default)]
pub struct OwnersSettings {
    /// Of reads.
    pub read: ReadSettings,
    /// Of writes.
    pub write: WriteSettings,
    /// Of the projection.
    pub projection: ProjectionSettings,
    /// What one owner may weigh at most, in bytes, about.
    pub heaviest_bytes: u64,
    /// Of what is kept, and for how long.
    pub retention: RetentionSettings,
}

/// How reads behave.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadSettings {
    /// The freshness of a read that does not ask for one.
    pub consistency: Consistency,
    /// How old a copy may be that an `eventual` read takes without asking the truth, in milliseconds.
    pub max_age_ms: u64,
    /// Memory for snapshots at most, in bytes.
    pub cache_bytes: u64,
}

/// How writes behave.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteSettings {
    /// How long an acknowledged write waits for its row in this shard's Postgres, in milliseconds.
    pub local_wait_ms: u64,
    /// How often a write is tried again after it lost a race, before it is answered `overloaded`.
    pub retries: u32,
}

/// How the projection behaves.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectionSettings {
    /// Messages stored in one transaction, about.
    pub batch: usize,
    /// How often a worker that does not project looks whether it should, in milliseconds.
    pub poll_ms: u64,
    /// How long the projection may stand still, while the truth is ahead, before the worker that holds it loses it to
    /// another, in milliseconds.
    pub stuck_ms: u64,
}

/// What is kept, and for how long.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// How long a shard keeps versions of items that are not current any more, in days.
    pub versions_d: u32,
}

/// How long a write is known again.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// How long a request id is honoured on a shard that hosts the owner, in hours.
    pub kept_h: u32,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            consistency: Consistency::Head,
            max_age_ms: 2_000,
            cache_bytes: 256 << 20,
        }
    }
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self {
            local_wait_ms: 500,
            retries: 20,
        }
    }
}

impl Default for ProjectionSettings {
    fn default() -> Self {
        Self {
            batch: 1_000,
            poll_ms: 300,
            stuck_ms: 3_000,
        }
    }
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self { versions_d: 90 }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { kept_h: 168 }
    }
}

/// Why an owner's data cannot be given or written.
#[derive(Debug, thiserror::Error)]
pub enum OwnersError {
    /// The truth is out of reach, or answers wrongly.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// The owner's records are not whole.
    #[error("owner {owner}: the records are not whole: {broken}")]
    Broken {
        /// Whose.
        owner: OwnerKey,
        /// In which way.
        broken: Broken,
    },
    /// The truth is older than what it once acknowledged: it was restored from a backup, or made anew.
    #[error("owner {owner}: the truth has lost history: it is at {found}, and was at {held}")]
    HistoryLost {
        /// Whose.
        owner: OwnerKey,
        /// The owner's version as it was acknowledged.
        held: crate::domain::Version,
        /// The owner's version in the truth now.
        found: crate::domain::Version,
    },
    /// The bucket as a whole is older than it was, or another one.
    #[error("the bucket's history went back: {0}")]
    HistoryWentBack(String),
    /// Postgres is needed, and failed.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A record cannot be opened.
    #[error("a record cannot be opened: {0}")]
    Seal(#[from] SealError),
    /// No version that high was ever given.
    #[error("the owner never had that version")]
    NeverWas {
        /// The owner's version.
        owner_version: crate::domain::Version,
    },
}

impl Transient for OwnersError {
    fn is_unavailable(&self) -> bool {
        match self {
            Self::Truth(error) => error.is_unavailable(),
            Self::Shard(error) => error.is_unavailable(),
            _ => false,
        }
    }
}

/// What a worker holds in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheCounts {
    /// Owners.
    pub owners: usize,
    /// Memory, in bytes, about.
    pub bytes: u64,
    /// Requests whose owner was there.
    pub hits: u64,
    /// Requests whose owner was not.
    pub misses: u64,
}

/// Every owner, as this worker knows them.
#[derive(Clone)]
pub struct Owners(Arc<Inner>);

struct Inner {
    keyring: Keyring,
    bucket: Bucket,
    store: Store,
    cursor: Cursor,
    settings: OwnersSettings,
    shard: String,
    cache: OwnerCache,
    continuity: Continuity,
    presence: Presence,
    backfill: Backfill,
    /// The turns of owners who are heavy to bring here.
    heavy: Arc<Semaphore>,
    /// The turns of all others.
    light: Arc<Semaphore>,
    projects: AtomicBool,
    /// Owners whom the shard hosts; the greatest number while that was not counted.
    hosted: AtomicU64,
    /// From which the owners' paces are measured.
    began: Instant,
}

impl Owners {
    /// Of the shard named `shard`.
    pub fn new(
        keyring: Keyring,
        bucket: Bucket,
        store: Store,
        settings: OwnersSettings,
        shard: String,
    ) -> Self {
        let cache = cache::owner_cache(settings.read.cache_bytes, settings.heaviest_bytes);
        let continuity = Continuity::default();
        let [heavy, light] = hosting::hosting_permits();
        Self(Arc::new(Inner {
            keyring,
            bucket,
            store,
            cursor: Cursor::default(),
            settings,
            shard,
            cache,
            continuity,
            presence: Presence::default(),
            backfill: Backfill::default(),
            heavy,
            light,
            projects: AtomicBool::new(false),
            hosted: AtomicU64::new(u64::MAX),
            began: Instant::now(),
        }))
    }

    /// The name under which the user's records are kept.
    pub fn owner(&self, user: &UserId) -> OwnerKey {
        self.0.keyring.owner(user)
    }

    /// The keys of the installation.
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// The freshness of a read that does not ask for one.
    pub fn default_need(&self) -> Consistency {
        self.0.settings.read.consistency
    }

    /// What is known of the bucket's continuity.
    pub fn continuity(&self) -> &Continuity {
        &self.0.continuity
    }

    /// The truth.
    pub fn truth(&self) -> &Bucket {
        &self.0.bucket
    }

    /// What tells whether this shard's Postgres answers.
    pub fn postgres(&self) -> &Breaker {
        self.0.store.breaker()
    }

    /// What is bounded here: the memory for owners in bytes, and how often a write is tried again after a lost race.
    pub fn bounds(&self) -> (u64, u64) {
        (
            self.0.settings.read.cache_bytes,
            self.0.settings.write.retries.into(),
        )
    }

    /// What is held in memory.
    pub fn cache(&self) -> CacheCounts {
        let cache = &self.0.cache;
        let (hits, misses) = (cache.hits(), cache.misses());
        CacheCounts {
            owners: cache.len(),
            bytes: cache.weight(),
            hits,
            misses,
        }
    }

    /// Whether this worker is the one of its shard that projects.
    pub fn projects(&self) -> bool {
        self.0.projects.load(Ordering::Relaxed)
    }

    /// How long the projection has been behind the truth without a step; none while it keeps up.
    pub fn behind(&self) -> Option<Duration> {
        self.0.continuity.behind()
    }

    /// How far this shard's projection has come.
    pub fn cursor(&self) -> &Cursor {
        &self.0.cursor
    }

    fn max_age(&self) -> Duration {
        Duration::from_millis(self.0.settings.read.max_age_ms)
    }

    fn bucket_name(&self) -> &str {
        self.0.bucket.name()
    }
}

/// Whether a copy may stand in for the truth: that is away, or knows less than the copy.
fn a_copy_stands_in(error: &OwnersError) -> bool {
    matches!(
        error,
        OwnersError::Truth(TruthError::Unavailable(_) | TruthError::Full)
            | OwnersError::HistoryLost { .. }
    )
}
