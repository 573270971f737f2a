//! Making room in a bucket that is full, or nearly: the oldest kept records go of the owners that keep
//! most. An item's current record always stays. Needs no write, so that it works on a server that
//! takes none.

use super::tombstones::{Maintainer, Round};
use crate::domain::Version;
use crate::owners::OwnersError;
use crate::seal::{OwnerKey, RecordName};
use crate::truth::KeptRecord;
use std::collections::HashMap;
use tracing::{info, warn};

/// The size of a barrier that shows whether the bucket takes a small record.
const PROBE_BYTES: usize = 4 << 10;

/// The records of one key: versions with sizes, in their order.
type KeyRecords = Vec<(Version, u64)>;

/// The records of a key that go: all up to that version.
#[derive(Debug, PartialEq, Eq)]
struct Drop {
    name: RecordName,
    up_to: Version,
    records: u64,
}

impl Maintainer {
    /// Returns whether the bucket is so full that room has to be made at once. Finds out by its fill
    /// level, and if that says nothing, by a small publish.
    pub async fn is_pressed(&self) -> bool {
        let fill = match self.bucket.position().await {
            Ok(position) => position.fill,
            // A bucket that does not answer is not taken for full.
            Err(_) => return false,
        };

        fill.is_in_reserve() || self.bucket.refuses(PROBE_BYTES).await
    }

    /// Purges the oldest kept records of every owner that keeps more than `maintain.kept_bytes`, the
    /// heaviest owner first.
    pub(super) async fn make_room(&self, round: &mut Round) -> Result<(), OwnersError> {
        let mut totals: HashMap<OwnerKey, u64> = HashMap::new();
        let mut kept = self.bucket.list_kept(None).await?;
        while let Some(record) = kept.next().await? {
            *totals.entry(record.owner).or_default() += record.bytes;
        }

        let mut heavy: Vec<_> = totals
            .into_iter()
            .filter(|(_, bytes)| *bytes > self.settings.kept_bytes)
            .collect();
        heavy.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));

        for (owner, bytes) in heavy {
            match self.lighten(&owner).await {
                Ok(0) => {}
                Ok(dropped) => {
                    info!(%owner, bytes, dropped, "purged old records to make room");
                    round.dropped += dropped;
                }
                Err(error) => {
                    round.failed += 1;
                    warn!(%owner, %error, "cannot purge this owner's old records, will retry");
                }
            }
        }

        Ok(())
    }

    /// Purges the owner's oldest kept records. Returns how many.
    async fn lighten(&self, owner: &OwnerKey) -> Result<u64, OwnersError> {
        let mut records = Vec::new();
        let mut kept = self.bucket.list_kept(Some(owner)).await?;
        while let Some(record) = kept.next().await? {
            records.push(record);
        }

        let mut dropped = 0;
        for drop in surplus(&records, self.settings.kept_bytes) {
            self.bucket.purge(owner, &drop.name, drop.up_to).await?;
            dropped += drop.records;
        }
        Ok(dropped)
    }
}

/// Returns which of an owner's records, given in the order of their versions, have to go so that
/// `kept_bytes` are left: the oldest of the heaviest keys, and never the newest record of a key.
fn surplus(records: &[KeptRecord], kept_bytes: u64) -> Vec<Drop> {
    let mut by_key: HashMap<RecordName, KeyRecords> = HashMap::new();
    for record in records {
        let key = by_key.entry(record.name).or_default();
        key.push((record.version, record.bytes));
    }
    let mut keys: Vec<_> = by_key.into_iter().collect();
    keys.sort_unstable_by_key(|(_, records)| std::cmp::Reverse(size(records)));

    let total: u64 = records.iter().map(|record| record.bytes).sum();
    let mut left = total.saturating_sub(kept_bytes);
    let mut drops = Vec::new();
    for (name, mut records) in keys {
        records.pop();

        let mut last = None;
        let mut count = 0;
        for (version, bytes) in records {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(bytes);
            last = Some(version);
            count += 1;
        }
        drops.extend(last.map(|up_to| Drop {
            name,
            up_to,
            records: count,
        }));
    }

    drops
}

fn size(records: &KeyRecords) -> u64 {
    records.iter().map(|(_, bytes)| bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::ItemKey;

    fn item(number: u8) -> RecordName {
        RecordName::Item(ItemKey::from_bytes([number; 16]))
    }

    fn kept(number: u8, version: u64, bytes: u64) -> KeptRecord {
        KeptRecord {
            owner: OwnerKey::from_bytes([1; 16]),
            name: item(number),
            version: Version::new(version).expect("a version"),
            bytes,
        }
    }

    fn up_to(number: u8, version: u64, records: u64) -> Drop {
        Drop {
            name: item(number),
            up_to: Version::new(version).expect("a version"),
            records,
        }
    }

    #[test]
    fn the_oldest_records_of_the_heaviest_key_go() {
        let records = [
            kept(1, 1, 10),
            kept(2, 2, 100),
            kept(2, 3, 100),
            kept(1, 4, 10),
            kept(2, 5, 100),
        ];

        assert_eq!(surplus(&records, 320), []);
        assert_eq!(surplus(&records, 319), [up_to(2, 2, 1)]);
        assert_eq!(surplus(&records, 219), [up_to(2, 3, 2)]);
        assert_eq!(surplus(&records, 119), [up_to(2, 3, 2), up_to(1, 1, 1)]);
    }

    #[test]
    fn the_newest_record_of_a_key_stays() {
        let records = [kept(1, 1, 10), kept(1, 2, 10), kept(2, 3, 100)];

        assert_eq!(surplus(&records, 0), [up_to(1, 1, 1)]);
    }
}
