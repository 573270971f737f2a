//! What a worker knows of the owners it serves: their snapshots in memory, fed from Postgres and the truth.
//!
//! This is the one road for data. A read comes through [`Owners::read`], a write through [`Owners::write`], and the rows
//! of the shard through [`Owners::project`]. A handler decides on a [`Snapshot`] and never talks to the bucket or to
//! Postgres itself.

mod admission;
mod backfill;
mod cell;
mod compose;
mod earlier;
mod history;
mod host;
mod load;
mod maintain;
mod presence;
mod project;
mod read;
mod rebuild;
mod replay;
mod settle;
mod snapshot;
mod survey;
mod upkeep;
mod verify;
mod versions;
mod write;

pub use admission::{Admission, Denied, Pace};
pub use history::History;
pub use maintain::{MaintainSettings, Maintainer, Round};
pub use read::{Need, Reading};
pub use rebuild::Loss;
pub use replay::{Rebuilt, Since};
pub use snapshot::{Opened, Snapshot};
pub use survey::{Counts, Found, Mend};
pub use verify::{Compared, Difference, Differing, Side, Verifier};
pub use versions::KeptVersions;
pub use write::{Change, Draft, Intent, Outcome, Told, Written};

use crate::breaker::Breaker;
use crate::seal::{Broken, Keyring, OwnerKey, SealFault, UserId};
use crate::shard::{Cursor, ShardFault, Store};
use crate::truth::{Bucket, TruthFault};
use cell::Cells;
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
    pub consistency: Need,
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
            consistency: Need::Head,
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
pub enum OwnersFault {
    /// The truth is out of reach, or answers wrongly.
    #[error(transparent)]
    Truth(#[from] TruthFault),
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
    Shard(#[from] ShardFault),
    /// A record cannot be opened.
    #[error("a record cannot be opened: {0}")]
    Seal(#[from] SealFault),
    /// No version that high was ever given.
    #[error("the owner never had that version")]
    NeverWas {
        /// The owner's version.
        owner_version: crate::domain::Version,
    },
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
    cells: Cells,
    history: History,
    presence: presence::Presence,
    backfill: backfill::Backfill,
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
        let cells = cell::cells(settings.read.cache_bytes, settings.heaviest_bytes);
        let history = History::default();
        let [heavy, light] = host::turns();
        Self(Arc::new(Inner {
            keyring,
            bucket,
            store,
            cursor: Cursor::default(),
            settings,
            shard,
            cells,
            history,
            presence: presence::Presence::default(),
            backfill: backfill::Backfill::default(),
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
    pub fn default_need(&self) -> Need {
        self.0.settings.read.consistency
    }

    /// What is known of the truth's history.
    pub fn history(&self) -> &History {
        &self.0.history
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
        let cells = &self.0.cells;
        let (hits, misses) = (cells.hits(), cells.misses());
        CacheCounts {
            owners: cells.len(),
            bytes: cells.weight(),
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
        self.0.history.behind()
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
fn a_copy_stands_in(fault: &OwnersFault) -> bool {
    matches!(
        fault,
        OwnersFault::Truth(TruthFault::Unavailable(_) | TruthFault::Full)
            | OwnersFault::HistoryLost { .. }
    )
}
