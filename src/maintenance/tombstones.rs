//! Forgetting old deletions: an owner's floor is raised first, then what is below it is purged.
//!
//! So no `changes` misses a deletion silently, no owner's version goes back, and whoever holds an older copy learns that
//! it has to be brought anew. It can be stopped anywhere: what was left is purged by the next round.

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
/// How often an owner is looked at again who writes meanwhile.
const TRIES: usize = 50;
/// How long a floor may take to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(5);
/// Deletions that go under one floor. Until they are purged they still take keys of the owner, beyond those that are
/// counted; and one read of the truth gives 1,024, of which the owner's items may have 1,000.
const AT_ONCE: usize = 16;

/// How old deletions are forgotten.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintainSettings {
    /// How long deletions are kept, in days.
    pub deletions_d: u32,
    /// From which share of `limits.keys` on an owner's oldest deletions are forgotten early, in percent.
    pub crowded_percent: u32,
    /// Between the end of one round and the next, in seconds.
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
    /// Keys that an owner may have.
    keys: usize,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Round {
    /// Owners in the bucket.
    pub owners: u64,
    /// Those of whom deletions were forgotten.
    pub tidied: u64,
    /// Deletions purged.
    pub purged: u64,
    /// Owners who could not be tidied; the next round tries again.
    pub failed: u64,
}

/// What is seen of an owner when the bucket is gone through.
#[derive(Default)]
struct OwnerStats {
    keys: usize,
    floor: Version,
    oldest_deletion: Option<(Version, Timestamp)>,
}

impl Maintainer {
    /// For that bucket; `keys` is `limits.keys`.
    pub fn new(keyring: Keyring, bucket: Bucket, settings: MaintainSettings, keys: usize) -> Self {
        Self {
            keyring,
            bucket,
            settings,
            keys,
        }
    }

    /// Goes through the bucket once. Fails only where it cannot be gone through.
    pub async fn round(&self) -> Result<Round, OwnersError> {
        let seen = self.look_around().await?;
        let mut round = Round {
            owners: seen.len() as u64,
            ..Round::default()
        };
        let before = Timestamp::now().earlier_by_ms(i64::from(self.settings.deletions_d) * DAY_MS);
        for (owner, seen) in seen {
            if !self.is_due(&seen, before) {
                continue;
            }
            match self.tidy(&owner, before).await {
                Ok(0) => {}
                Ok(purged) => {
                    round.tidied += 1;
                    round.purged += purged;
                }
                Err(error) => {
                    round.failed += 1;
                    warn!(%owner, %error, "old deletions of this owner are not forgotten yet");
                }
            }
        }
        info!(?round, "a round of maintenance is over");
        Ok(round)
    }

    async fn look_around(&self) -> Result<HashMap<OwnerKey, OwnerStats>, OwnersError> {
        let mut all: HashMap<OwnerKey, OwnerStats> = HashMap::new();
        let mut records = self.bucket.list_records().await?;
        while let Some((owner, record)) = records.next().await? {
            let seen = all.entry(owner).or_default();
            seen.keys += usize::from(matches!(record.name, RecordName::Item(_)));
            seen.floor = seen.floor.max(record.floor().unwrap_or_default());
            if record.is_deletion()
                && seen
                    .oldest_deletion
                    .is_none_or(|(oldest, _)| record.version < oldest)
            {
                seen.oldest_deletion = Some((record.version, record.at));
            }
        }
        Ok(all)
    }

    fn is_due(&self, seen: &OwnerStats, before: Timestamp) -> bool {
        seen.oldest_deletion.is_some_and(|(version, at)| {
            at <= before || version <= seen.floor || seen.keys > self.roomy()
        })
    }

    /// The most keys with which an owner is not crowded.
    fn roomy(&self) -> usize {
        self.keys * self.settings.crowded_percent as usize / 100
    }

    /// Forgets the owner's deletions of before that moment, and more where the owner is crowded. Says how many.
    async fn tidy(&self, owner: &OwnerKey, before: Timestamp) -> Result<u64, OwnersError> {
        let mut purged = 0;
        for _ in 0..TRIES {
            let records = self
                .bucket
                .since_confirmed(owner, Version::NONE)
                .await?
                .records;
            let set = OwnerSet::empty(*owner).apply(&self.keyring, records.iter().cloned());
            let set = set.map_err(|broken| OwnersError::Broken {
                owner: *owner,
                broken,
            })?;
            // A floor upon what is not whole would make it pass for whole.
            let snapshot = Snapshot::new(&self.keyring, set, None)?;
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

    /// How far the floor is to be raised: over the oldest deletions as long as each is due, a few at a time.
    fn next_floor(&self, set: &OwnerSet, before: Timestamp) -> Option<Version> {
        let items = set
            .records()
            .filter(|record| matches!(record.name, RecordName::Item(_)))
            .count();
        let too_many = items.saturating_sub(self.roomy());
        let mut deletions: Vec<&Record> = set
            .records()
            .filter(|record| record.is_deletion())
            .collect();
        deletions.sort_by_key(|record| record.version);
        let due = deletions
            .iter()
            .enumerate()
            .take_while(|(at, record)| record.at <= before || *at < too_many);
        due.take(AT_ONCE).last().map(|(_, record)| record.version)
    }

    /// Writes the floor, upon what the owner has; who lost a race, or got no answer, looks again.
    async fn raise_floor(&self, set: &OwnerSet, floor: Version) -> Result<(), OwnersError> {
        let key = set.get(&RecordName::Key).ok_or(SealError::ForeignKey)?;
        let keys = OwnerKeys::unwrap_record(&self.keyring, set.owner(), key)?;
        let links = Links {
            prev: set.version(),
            item_prev: set
                .get(&RecordName::Floor)
                .map(|record| record.version)
                .unwrap_or_default(),
            before: set.digest_above(&self.keyring, floor),
            request: None,
            deleted: false,
        };
        let value = keys.seal_floor(set.owner(), &links, floor).into();
        let record = NewRecord {
            name: RecordName::Floor,
            value,
        };
        match self
            .bucket
            .append(
                set.owner(),
                set.version(),
                &[record],
                Instant::now() + PATIENCE,
            )
            .await
        {
            Ok(_) | Err(AppendError::Conflict | AppendError::InDoubt) => Ok(()),
            Err(AppendError::Full) => Err(TruthError::Full.into()),
            Err(AppendError::NotWritten(TruthError::Unavailable(CallError::NoResponders))) => {
                Ok(())
            }
            Err(AppendError::NotWritten(error)) => Err(error.into()),
        }
    }
}
