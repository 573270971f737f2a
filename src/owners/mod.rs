//! The owners' data: snapshots in memory, loaded from Postgres and from the truth.
//!
//! All data passes through here: a read through [`Owners::read`], a write through
//! [`Owners::write`], the shard's rows through [`Owners::project`]. A handler decides on a
//! [`Snapshot`] and never talks to the bucket or to Postgres itself.
//!
//! A write takes these steps:
//!
//! 1. [`Owners::write`] (`write.rs`) takes the owner's entry (`cache.rs`) and its write lock.
//! 2. `prepare` (`write.rs`) loads the owner's snapshot (`load.rs`), which the first time hosts the
//!    owner (`hosting/`). It refreshes the snapshot if it has to be newer (`read.rs`, `fetch.rs`).
//! 3. It looks for an earlier write with the same request id (`prior_request.rs`), then lets the
//!    handler decide.
//! 4. `attempt` (`write.rs`) composes and seals the records (`compose.rs`) and sends them to the
//!    bucket.
//! 5. An acknowledged write is adopted into memory (`compose.rs`). An unanswered one is settled
//!    first (`settle.rs`).
//! 6. `receipt` (`write.rs`) waits a limited time until the projection (`hosting/projection.rs`)
//!    has stored the row in this shard's Postgres.

mod admission;
mod cache;
mod compose;
mod continuity;
mod draft;
mod fetch;
mod following;
mod hosting;
mod known;
mod load;
mod marks;
mod memory;
mod opened;
mod opening;
mod prior_request;
mod read;
mod record_bytes;
mod settle;
mod snapshot;
mod versions;
mod write;

pub use admission::{Cost, Denied, Pace};
pub use cache::{Account, Admission};
pub use continuity::Continuity;
pub use draft::{Decision, Draft, Intent, Outcome, RecalledRefusal, WriteFailure, WriteReceipt};
pub use fetch::FetchedOwner;
pub use hosting::Loss;
pub use opened::{OPENED_ITEM_BYTES, OPENED_TEXT_BYTES, OpenedItem};
pub use read::{Consistency, Reading};
pub use record_bytes::RecordBytes;
pub use snapshot::{SNAPSHOT_RECORD_BYTES, Snapshot};
pub use versions::KeptVersions;

use crate::breaker::Breaker;
use crate::requester::Transient;
use crate::seal::{Broken, Keyring, OwnerKey, SealError, UserId};
use crate::shard::{Cursor, Refusal, ShardError, Store};
use crate::truth::{Bucket, TruthError};
use cache::{OwnerCache, TrafficCache};
use following::Following;
use hosting::{Backfill, LongHistories, Presence, UnmarkedLosses};
use memory::Memory;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// The settings of reads, writes and the projection.
#[derive(Clone, Debug, Default)]
pub struct OwnersSettings {
    /// The settings of reads.
    pub read: ReadSettings,
    /// The settings of writes.
    pub write: WriteSettings,
    /// The settings of the projection.
    pub projection: ProjectionSettings,
    /// The approximate memory that the largest permitted owner takes, in bytes.
    pub heaviest_bytes: u64,
    /// What is kept, and for how long.
    pub retention: RetentionSettings,
}

/// How reads behave.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ReadSettings {
    /// The consistency of a read that names none: `head`, `strong` or `eventual`.
    pub consistency: Consistency,
    /// How old a copy may be for an `eventual` read to use it without asking the bucket.
    pub max_age_ms: u64,
    /// Approximate limit of the memory for owners' records.
    pub cache_bytes: u64,
    /// Approximate limit of the memory beyond `read.cache_bytes`, for the records of owners that
    /// are being loaded or in use. A request that waits for it in vain is answered `overloaded`.
    /// At least 32 owners can be loaded at the same time.
    pub in_use_bytes: u64,
    /// Whether a worker adds new records of the bucket to the sets in its memory as they come. Then its
    /// reads seldom ask the bucket for their owner, and its writes seldom lose a race to those of other
    /// workers. A worker that does not project reads the records for this alone: `false` saves that
    /// traffic, over a slow link or for a shard of many workers.
    pub follow: bool,
}

/// How writes behave.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct WriteSettings {
    /// How long an acknowledged write waits for its row in this shard's Postgres. After that the
    /// reply has `"local": "pending"`.
    pub local_wait_ms: u64,
    /// How often a write is tried again after it lost a race, before it is answered `overloaded`.
    #[cfg_attr(test, schemars(extend("x-unit" = "times")))]
    pub retries: u32,
}

/// How the projection behaves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ProjectionSettings {
    /// Approximate number of messages in one transaction, from 1 to 10,000; fewer if they come to
    /// about 8 MiB before, and while Postgres is too slow for so many.
    #[cfg_attr(test, schemars(extend("x-unit" = "messages")))]
    pub batch: usize,
    /// How often a worker that does not project checks whether it should.
    pub poll_ms: u64,
    /// How long the projection may stand still, while the bucket is ahead and Postgres does not work
    /// for it. After that another worker takes it over.
    pub stuck_ms: u64,
}

/// What is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// How long a shard keeps versions of items that are no longer current: 1 to 36,500. The worker
    /// that projects deletes older ones.
    pub versions_d: u32,
    /// How many versions of an item a shard keeps at most: from `truth.history` to 1,000,000. The
    /// worker that projects deletes the oldest beyond that soon after the item is written.
    #[cfg_attr(test, schemars(extend("x-unit" = "versions")))]
    pub item_versions: u32,
}

/// How long a repeated write is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// For how long, at least, a shard that hosts the owner recognises a repeated `Nats-Msg-Id`. It
    /// expires nothing itself; it bounds the settings that do: at most `retention.versions_d`, and
    /// at least two hours less than `shard evict --unseen-for`.
    pub kept_h: u32,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            consistency: Consistency::Head,
            max_age_ms: 2_000,
            cache_bytes: 256 << 20,
            in_use_bytes: 128 << 20,
            follow: true,
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
        Self {
            versions_d: 90,
            item_versions: 1_000,
        }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { kept_h: 168 }
    }
}

/// Why an owner's data cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OwnersError {
    /// The truth is unavailable, or its answer is not usable.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// The owner's records are not one complete state.
    #[error("owner {owner}: the records are not complete: {broken}")]
    Broken {
        /// The owner.
        owner: OwnerKey,
        /// What is wrong with the records.
        broken: Broken,
    },
    /// The truth lacks something of the owner that it once acknowledged: it was restored from a
    /// backup or created again, or single records were lost.
    #[error("owner {owner}: the truth has lost history: at {found} it lacks what it had at {held}")]
    HistoryLost {
        /// The owner.
        owner: OwnerKey,
        /// The owner's version as it was acknowledged.
        held: crate::domain::Version,
        /// The owner's version in the truth now.
        found: crate::domain::Version,
    },
    /// The bucket is older than it was, or is another bucket.
    #[error("the bucket has lost history: {0}")]
    HistoryWentBack(String),
    /// Postgres is needed, and failed.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A record cannot be opened.
    #[error("a record cannot be opened: {0}")]
    Seal(#[from] SealError),
    /// The sets in use leave no memory for this one.
    #[error("no memory is left for another owner's records")]
    NoMemory,
    /// The owner has not reached the version that the caller names.
    #[error("the owner never had that version")]
    NeverWas {
        /// The owner's version in the truth.
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

/// The counts of a worker's memory for owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheCounts {
    /// The owners in memory.
    pub owners: usize,
    /// The approximate memory for them, in bytes.
    pub bytes: u64,
    /// The requests whose owner was in memory.
    pub hits: u64,
    /// The requests whose owner was not in memory.
    pub misses: u64,
}

/// All owners' data, as this worker reads and writes it. A clone shares the same state.
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
    traffic: TrafficCache,
    memory: Memory,
    continuity: Continuity,
    following: Following,
    /// The name of the history that this worker serves.
    epoch: RwLock<Option<String>>,
    presence: Presence,
    backfill: Backfill,
    long_histories: LongHistories,
    /// The permits to host heavy owners.
    heavy: Arc<Semaphore>,
    /// The permits to host all other owners.
    light: Arc<Semaphore>,
    /// The permits to host others because they were read.
    after_reads: Arc<Semaphore>,
    /// The permits to open heavy sets.
    openers: Arc<Semaphore>,
    /// Whether this worker projects.
    projects: AtomicBool,
    /// Notified when the projection has found copies that do not fit the truth.
    doubts: Notify,
    unmarked_losses: UnmarkedLosses,
    /// How many owners the shard hosts; `u64::MAX` until they are counted.
    hosted: AtomicU64,
    /// How many copies of this shard have what the bucket lacks, as of the last count.
    lost: AtomicU64,
    /// The start of the worker. Times of the owners' requests are measured from here.
    began: Instant,
}

impl Owners {
    /// Creates the owners of the shard named `shard`, with nothing in memory yet.
    pub fn new(
        keyring: Keyring,
        bucket: Bucket,
        store: Store,
        settings: OwnersSettings,
        shard: String,
    ) -> Self {
        let (read, heaviest) = (&settings.read, settings.heaviest_bytes);
        let cache = cache::owner_cache(read.cache_bytes, heaviest);
        let traffic = cache::traffic_cache();
        let memory = Memory::new(read.cache_bytes, read.in_use_bytes, heaviest);
        let continuity = Continuity::default();
        let [heavy, light, after_reads] = hosting::hosting_permits();

        Self(Arc::new(Inner {
            keyring,
            bucket,
            store,
            cursor: Cursor::default(),
            settings,
            shard,
            cache,
            traffic,
            memory,
            continuity,
            following: Following::default(),
            epoch: RwLock::default(),
            presence: Presence::default(),
            backfill: Backfill::default(),
            long_histories: LongHistories::default(),
            heavy,
            light,
            after_reads,
            openers: opening::openers(),
            projects: AtomicBool::new(false),
            doubts: Notify::new(),
            unmarked_losses: UnmarkedLosses::default(),
            hosted: AtomicU64::new(u64::MAX),
            lost: AtomicU64::new(0),
            began: Instant::now(),
        }))
    }

    /// The key of the user's records.
    pub fn owner(&self, user: &UserId) -> OwnerKey {
        self.0.keyring.owner(user)
    }

    /// The keys of the installation.
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// The consistency of a read that does not name one.
    pub fn default_consistency(&self) -> Consistency {
        self.0.settings.read.consistency
    }

    /// Whether the bucket still has its history, and where it stands.
    pub fn continuity(&self) -> &Continuity {
        &self.0.continuity
    }

    /// The bucket that is the source of truth.
    pub fn truth(&self) -> &Bucket {
        &self.0.bucket
    }

    /// The breaker of this shard's Postgres.
    pub fn postgres(&self) -> &Breaker {
        self.0.store.breaker()
    }

    /// The breaker of writes to this shard's Postgres.
    pub fn postgres_writes(&self) -> &Breaker {
        self.0.store.writing()
    }

    /// Why this shard's Postgres refuses the worker, if it does.
    pub fn postgres_refusal(&self) -> Option<Refusal> {
        self.0.store.refusal()
    }

    /// The limits of this module: the memory for owners in bytes, and how often a write is retried
    /// after a lost race.
    pub fn bounds(&self) -> (u64, u64) {
        (
            self.0.settings.read.cache_bytes,
            self.0.settings.write.retries.into(),
        )
    }

    /// The counts of this worker's memory for owners.
    pub fn cache(&self) -> CacheCounts {
        let cache = &self.0.cache;
        CacheCounts {
            owners: cache.len(),
            bytes: cache.weight(),
            hits: cache.hits(),
            misses: cache.misses(),
        }
    }

    /// Whether this worker is the one that projects for its shard.
    pub fn projects(&self) -> bool {
        self.0.projects.load(Ordering::Relaxed)
    }

    /// How long the projection has been behind the truth without a step; `None` while it keeps up.
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

/// Whether a copy may answer after this error: the truth is unavailable, lacks something that the
/// copy has, or is not complete itself.
fn allows_stale_copy(error: &OwnersError) -> bool {
    matches!(
        error,
        OwnersError::Truth(TruthError::Unavailable(_) | TruthError::Full)
            | OwnersError::HistoryLost { .. }
            | OwnersError::Broken { .. }
    )
}
