//! The check that all of an owner's newest write is there.

use super::{Body, OwnerKeys, OwnerSet, Record, RecordName};

impl OwnerSet {
    /// Returns whether all of the newest write is there, and no other write that is based on the same
    /// state. Each item's record has the numbers of records and items of its write in its sealed
    /// part.
    ///
    /// A record that cannot be opened counts as complete here: the read that opens it fails.
    pub fn newest_write_is_whole(&self, keys: Option<&OwnerKeys>) -> bool {
        let write = self.newest_write();
        let is_item = |record: &&&Record| matches!(record.name, RecordName::Item(_));
        let items = write.iter().filter(is_item).count();
        let Some(last) = write.iter().rfind(is_item) else {
            // A floor is written alone, and a key with the owner's first item.
            let has = |name| write.iter().any(|record| record.name == name);
            let is_floor = !has(RecordName::Floor) || write.len() == 1;
            return is_floor && !has(RecordName::Key);
        };
        // An owner's first write also has the owner's key.
        let Some(keys) = keys else { return false };

        match Body::open(keys, self.owner(), last) {
            Ok(Body { part, .. }) => {
                let all_records = part
                    .records
                    .is_none_or(|all| usize::from(all) == write.len());
                all_records && part.followed_by == 0 && usize::from(part.of) == items
            }
            Err(_) => true,
        }
    }
}
