//! Forgetting old deletions: the owner's floor is raised first, then the deletions up to the floor
//! are purged.
//!
//! In this order, `changes` never misses a deletion silently, no owner's version goes back, and the
//! floor shows that an older copy has to be fetched again. A round can be stopped at any point: the
//! next one purges what is left.

use crate::domain::{Timestamp, Version};
use crate::owners::{OwnersError, Snapshot};
use crate::requester::CallError;
use crate::seal::{Keyring, Links, OwnerKey, OwnerKeys, OwnerSet, Record, RecordName, SealError};
use crate::truth::{AppendError, Bucket, NewRecord, TruthError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
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
#[serde(default, deny_unknown_fields)]
pub struct MaintainSettings {
    /// How long deletions are kept, in days.
    pub deletions_d: u32,
    /// The share of `limits.keys` above which an owner's oldest deletions are forgotten early, in
    /// percent.
    pub crowded_percent: u32,
    /// The pause between two rounds, in seconds.
    pub pause_s: u64,
}

impl Default for MaintainSettings {
    fn default() -> Self {
        Self {
            deletions_d: 90,
            crowded_percent: 80,
            pause_s: 3_600,
        }
    }
}

/// Forgets old deletions of every owner in the bucket.
pub struct Maintainer {
    keyring: Keyring,
    bucket: Bucket,
    settings: MaintainSettings,
    /// The most keys that an owner may have.
    keys_max: usize,
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
    /// The owners whose deletions could not be forgotten. The next round tries again.
    pub failed: u64,
}

/// What a scan of the bucket finds of one owner.
#[derive(Default)]
struct OwnerStats {
    keys: usize,
    floor: Version,
    oldest_deletion: Option<(Version, Timestamp)>,
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
        }
    }

    /// Goes through the bucket once. Fails only if the bucket cannot be scanned.
    pub async fn round(&self) -> Result<Round, OwnersError> {
        self.bucket.read_marks().await?;
        let owners = self.scan_bucket().await?;
        let mut round = Round {
            owners: owners.len() as u64,
            ..Round::default()
        };

        let before = Timestamp::now().earlier_by_ms(i64::from(self.settings.deletions_d) * DAY_MS);
        for (owner, stats) in owners {
            if !self.is_due(&stats, before) {
                continue;
            }
            match self.forget_deletions(&owner, before).await {
                Ok(0) => {}
                Ok(purged) => {
                    round.tidied += 1;
                    round.purged += purged;
                }
                Err(error) => {
                    round.failed += 1;
                    warn!(%owner, %error, "cannot forget this owner's old deletions, will retry");
                }
            }
        }

        info!(
            owners = round.owners,
            tidied = round.tidied,
            purged = round.purged,
            failed = round.failed,
            "finished a round of maintenance"
        );
        Ok(round)
    }

    async fn scan_bucket(&self) -> Result<HashMap<OwnerKey, OwnerStats>, OwnersError> {
        let mut all: HashMap<OwnerKey, OwnerStats> = HashMap::new();
        let mut records = self.bucket.list_records().await?;

        while let Some((owner, record)) = records.next().await? {
            let stats = all.entry(owner).or_default();
            stats.keys += usize::from(matches!(record.name, RecordName::Item(_)));
            stats.floor = stats.floor.max(record.floor().unwrap_or_default());
            if record.is_deletion()
                && stats
                    .oldest_deletion
                    .is_none_or(|(oldest, _)| record.version < oldest)
            {
                stats.oldest_deletion = Some((record.version, record.at));
            }
        }

        Ok(all)
    }

    /// Returns whether a deletion of the owner has to be forgotten: it is old, the floor covers it
    /// already, or the owner is crowded.
    fn is_due(&self, stats: &OwnerStats, before: Timestamp) -> bool {
        stats.oldest_deletion.is_some_and(|(version, at)| {
            at <= before || version <= stats.floor || stats.keys > self.uncrowded_keys_max()
        })
    }

    /// The most keys of an owner that is not crowded.
    fn uncrowded_keys_max(&self) -> usize {
        self.keys_max * self.settings.crowded_percent as usize / 100
    }

    /// Forgets the owner's deletions from `before` and earlier, and more if the owner is crowded.
    /// Returns how many it purged.
    async fn forget_deletions(
        &self,
        owner: &OwnerKey,
        before: Timestamp,
    ) -> Result<u64, OwnersError> {
        let mut purged = 0;
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
                purged += 1;
            }

            let Some(floor) = self.next_floor(set, before) else {
                return Ok(purged);
            };
            self.raise_floor(set, floor).await?;
        }

        Ok(purged)
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
            Ok(_) | Err(AppendError::Conflict | AppendError::InDoubt) => Ok(()),
            Err(AppendError::Full) => Err(TruthError::Full.into()),
            Err(AppendError::NotWritten(TruthError::Unavailable(CallError::NoResponders))) => {
                Ok(())
            }
            Err(AppendError::NotWritten(error)) => Err(error.into()),
        }
    }
}
