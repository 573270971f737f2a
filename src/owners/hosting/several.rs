//! Hosting and reading several owners at once, for the operators' tools: one question to the bucket and
//! a few statements for all of them.

use crate::owners::fetch::FetchedOwner;
use crate::owners::{Owners, OwnersError, Snapshot};
use crate::seal::{OwnerKey, Record};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

impl Owners {
    /// Hosts those of the owners of whom the shard has nothing. Returns the owners that are hosted
    /// now; the others have to be hosted alone.
    pub(crate) async fn host_several(
        &self,
        owners: &[OwnerKey],
    ) -> Result<HashSet<OwnerKey>, OwnersError> {
        let store = &self.0.store;
        let begun = store
            .begin_hosting_several(owners, self.bucket_name())
            .await?;

        let mut hosted = HashSet::new();
        let mut waiting = vec![&begun[..]];
        while let Some(fetched) = self.fetch_some(&mut waiting).await? {
            let copies: Vec<_> = fetched.iter().map(|one| self.owner_copy(one)).collect();
            hosted.extend(store.complete_hosting_several(&copies).await?);
        }
        Ok(hosted)
    }

    /// Fetches the complete sets of the last owners that are `waiting` from the truth, confirmed: as
    /// many as one answer can hold. The others go on waiting; `None` if there are none.
    ///
    /// Leaves out an owner whose set alone is more than an answer can hold, or is not complete.
    pub(crate) async fn fetch_some(
        &self,
        waiting: &mut Vec<&[OwnerKey]>,
    ) -> Result<Option<Vec<FetchedOwner>>, OwnersError> {
        while let Some(owners) = waiting.pop() {
            if owners.is_empty() {
                continue;
            }
            let checked_at = Instant::now();
            let Some(answer) = self.0.bucket.several_confirmed(owners).await? else {
                if owners.len() > 1 {
                    let (some, others) = owners.split_at(owners.len() / 2);
                    waiting.extend([some, others]);
                }
                continue;
            };

            let mut sets: HashMap<OwnerKey, Vec<Record>> = HashMap::new();
            for (owner, record) in answer.records {
                sets.entry(owner).or_default().push(record);
            }
            let snapshots = sets.into_iter().filter_map(|(owner, records)| {
                Snapshot::of_records(&self.0.keyring, owner, records, Some(checked_at)).ok()
            });
            let owners = snapshots.map(|snapshot| FetchedOwner {
                snapshot: Arc::new(snapshot),
                up_to: answer.up_to,
            });
            return Ok(Some(owners.collect()));
        }

        Ok(None)
    }
}
