//! Forgetting old deletions: the owner's floor is raised first, then the deletions up to the floor
//! are purged.
//!
//! In this order, `changes` never misses a deletion silently, no owner's version goes back, and the
//! floor shows that an older copy has to be fetched again. A round can be stopped at any point: the
//! next one purges what is left.

use super::scan::{OwnerStats, Scan};
use crate::domain::{Timestamp, Version};
use crate::owners::{OwnersError, Snapshot};
use crate::requester::CallError;
use crate::seal::{Keyring, Links, OwnerKey, OwnerKeys, OwnerSet, Record, RecordName, SealError};
use crate::truth::{AppendError, Bucket, NewRecord, TruthError};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};
use tracing::{info, warn};

const DAY_MS: i64 = 86_400_000;
/// How often a floor is raised for one owner in one round, lost races included.
const OWNER_STEPS_MAX: usize = 50;
/// How long the acknowledgement of a floor may take.
const FLOOR_TIMEOUT: Duration = Duration::from_secs(5);
/// The most deletions that one floor ends. Until they are purged they take keys of the owner that
/// no limit counts: one read of the truth returns 1,024 keys, and the owner's items may have 1,000.
const FLOOR_DELETIONS_MAX: usize = 16;

/// The settings of forgetting old deletions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MaintainSettings {
    /// How long deletions are kept; older ones are purged. 0: each round purges all of them.
    pub deletions_d: u32,
    /// A share of `limits.keys`, 1 to 100. If an owner has more keys than this, the oldest
    /// deletions are purged early, until the owner has no more than this or no deletion left.
    pub crowded_percent: u32,
    /// From the end of one round to the start of the next; at least 1. A bucket that is nearly full
    /// is not kept waiting.
    pub pause_s: u64,
    /// How much an owner may keep in a bucket that is nearly full, earlier records included. Of what is
    /// more, the oldest records are purged, but no item's current one.
    pub kept_bytes: u64,
}

impl Default for MaintainSettings {
    fn default() -> Self {
        Self {
            deletions_d: 90,
            crowded_percent: 80,
            pause_s: 3_600,
            kept_bytes: 16 << 20,
        }
    }
}

/// Forgets old deletions of every owner in the bucket.
pub struct Maintainer {
    keyring: Keyring,
    pub(super) bucket: Bucket,
    pub(super) settings: MaintainSettings,
    /// The most keys that an owner may have.
    keys_max: usize,
    /// The scan that an earlier round did not finish.
    scan: Mutex<Scan>,
}

/// The counts of one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Round {
    /// The owners in the bucket.
    pub owners: u64,
    /// The owners that had deletions purged.
    pub tidied: u64,
    /// The purged deletions.
    pub purged: u64,
    /// Whether the bucket was full, or nearly, when the round began.
    pub pressed: bool,
    /// The earlier records of items that were purged for that reason.
    pub dropped: u64,
    /// The owners for whom a purge failed. The next round tries again.
    pub failed: u64,
}

impl Maintainer {
    /// Creates a maintainer of the bucket. `keys_max` is the setting `limits.keys`.
    pub fn new(
        keyring: Keyring,
        bucket: Bucket,
        settings: MaintainSettings,
        keys_max: usize,
    ) -> Self {
        Self {
            keyring,
            bucket,
            settings,
            keys_max,
            scan: Mutex::default(),
        }
    }

    /// Goes through the bucket once, and makes room if the bucket is full or nearly. Fails only if the
    /// bucket cannot be scanned; the next round then goes on where the scan stood.
    pub async fn round(&self) -> Result<Round, OwnersError> {
        self.bucket.read_marks().await?;
        let pressed = self.is_pressed().await;
        let mut scan = self.scan.lock().await;
        scan.complete(&self.bucket).await?;
        let mut round = Round {
            owners: scan.owners(),
            pressed,
            ..Round::default()
        };

        let before = Timestamp::now().earlier_by_ms(i64::from(self.settings.deletions_d) * DAY_MS);
        let mut takes_writes = true;
        for (owner, mut stats) in scan.take() {
            let mut purged = 0;
            let tidied = self
                .tidy(&owner, &mut stats, before, &mut purged, takes_writes)
                .await;
            round.tidied += u64::from(purged > 0);
            round.purged += purged;

            if let Err(error) = tidied {
                round.failed += 1;
                // On a full bucket, each owner would fail in the same way.
                if takes_writes {
                    warn!(%owner, %error, "cannot forget this owner's old deletions, will retry");
                }
                takes_writes &= !matches!(error, OwnersError::Truth(TruthError::Full));
            }
        }

        if pressed {
            self.make_room(&mut round).await?;
        }

        info!(
            owners = round.owners,
            tidied = round.tidied,
            purged = round.purged,
            dropped = round.dropped,
            failed = round.failed,
            "finished a round of maintenance"
        );
        Ok(round)
    }

    /// Purges the owner's deletions that lie under its floor, which needs no write; then forgets those
    /// from `before` and earlier, and more if the owner is crowded. Adds to `purged`, also if it fails.
    async fn tidy(
        &self,
        owner: &OwnerKey,
        stats: &mut OwnerStats,
        before: Timestamp,
        purged: &mut u64,
        takes_writes: bool,
    ) -> Result<(), OwnersError> {
        let covered = stats.take_covered();
        if !covered.is_empty() {
            let floor = self.verified_floor(owner).await?;
            for (name, version) in covered.iter().filter(|(_, version)| *version <= floor) {
                self.bucket.purge(owner, name, *version).await?;
                *purged += 1;
            }
        }

        if !self.is_due(stats, before) {
            return Ok(());
        }
        if !takes_writes {
            return Err(TruthError::Full.into());
        }
        self.forget_deletions(owner, before, purged).await
    }

    /// Returns the owner's floor, from records that are complete and fit together. What a scan finds
    /// may be forged, or of a bucket that was restored since.
    async fn verified_floor(&self, owner: &OwnerKey) -> Result<Version, OwnersError> {
        let records = self.bucket.since(owner, Version::NONE).await?.records;
        let snapshot = Snapshot::of_records(&self.keyring, *owner, records, None)?;

        Ok(snapshot.set().floor())
    }

    /// Returns whether a deletion of the owner that is over its floor has to be forgotten: it is old, or
    /// the owner is crowded.
    fn is_due(&self, stats: &OwnerStats, before: Timestamp) -> bool {
        let is_crowded = stats.records > self.uncrowded_keys_max();

        stats
            .oldest_deletion()
            .is_some_and(|at| at <= before || is_crowded)
    }

    /// The most keys of an owner that is not crowded.
    fn uncrowded_keys_max(&self) -> usize {
        self.keys_max * self.settings.crowded_percent as usize / 100
    }

    /// Forgets the owner's deletions from `before` and earlier, and more if the owner is crowded.
    /// Adds how many it purged.
    async fn forget_deletions(
        &self,
        owner: &OwnerKey,
        before: Timestamp,
        purged: &mut u64,
    ) -> Result<(), OwnersError> {
        for _ in 0..OWNER_STEPS_MAX {
            let records = self
                .bucket
                .since_confirmed(owner, Version::NONE)
                .await?
                .records;
            // The snapshot checks that the newest write is complete. A floor that is based on part
            // of it would hide that the rest is missing.
            let snapshot =
                Snapshot::of_records(&self.keyring, *owner, records.iter().cloned(), None)?;
            let set = snapshot.set();

            for forgotten in records
                .iter()
                .filter(|record| record.is_deletion() && record.version <= set.floor())
            {
                self.bucket
                    .purge(owner, &forgotten.name, forgotten.version)
                    .await?;
                *purged += 1;
            }

            let Some(floor) = self.next_floor(set, before) else {
                return Ok(());
            };
            self.raise_floor(set, floor).await?;
        }

        Ok(())
    }

    /// Returns the version to which the floor has to be raised: over the oldest deletions that are
    /// due, up to the first that is not, and only a few at a time. `None` if none is due.
    fn next_floor(&self, set: &OwnerSet, before: Timestamp) -> Option<Version> {
        let keys = set
            .records()
            .filter(|record| matches!(record.name, RecordName::Item(_)))
            .count();
        let surplus = keys.saturating_sub(self.uncrowded_keys_max());

        let mut deletions: Vec<&Record> = set
            .records()
            .filter(|record| record.is_deletion())
            .collect();
        deletions.sort_by_key(|record| record.version);

        deletions
            .iter()
            .enumerate()
            .take_while(|(at, record)| record.at <= before || *at < surplus)
            .take(FLOOR_DELETIONS_MAX)
            .last()
            .map(|(_, record)| record.version)
    }

    /// Writes the floor, based on the set. After a lost race or a missing acknowledgement, the
    /// caller reads the owner again.
    async fn raise_floor(&self, set: &OwnerSet, floor: Version) -> Result<(), OwnersError> {
        let key = set.get(&RecordName::Key).ok_or(SealError::ForeignKey)?;
        let keys = OwnerKeys::unwrap_record(&self.keyring, set.owner(), key)?;
        let format = self.bucket.format().max(set.newest_format());
        let links = Links {
            format,
            prev: set.version(),
            item_prev: set
                .get(&RecordName::Floor)
                .map(|record| record.version)
                .unwrap_or_default(),
            before: set.check_above(&self.keyring, format, floor),
            request: None,
            deleted: false,
        };
        let value = keys.seal_floor(set.owner(), &links, floor).into();
        let record = NewRecord {
            name: RecordName::Floor,
            value,
        };

        let appended = self
            .bucket
            .append(
                set.owner(),
                set.version(),
                &[record],
                Instant::now() + FLOOR_TIMEOUT,
            )
            .await;

        match appended {
            Ok(_) | Err(AppendError::Conflict | AppendError::InDoubt | AppendError::Busy) => Ok(()),
            Err(AppendError::Full) => Err(TruthError::Full.into()),
            Err(AppendError::NotWritten(TruthError::Unavailable(CallError::NoResponders))) => {
                Ok(())
            }
            Err(AppendError::NotWritten(error)) => Err(error.into()),
        }
    }
}
