//! Bringing an owner's copy anew, where the one that is here is not to be believed, or may not be.

use crate::owners::fetch::FetchedOwner;
use crate::owners::{Owners, OwnersError, Snapshot};
use crate::seal::{ItemKey, OwnerKey, OwnerSet, Record, RecordName};
use crate::shard::{HostingOutcome, ItemRow, OwnerRows};
use std::collections::HashMap;

/// How often it goes on with what came meanwhile.
const TRIES: usize = 10;
/// So many bytes take the place of others in one transaction, about. More than that is brought in small ones, unless
/// somebody is served from what is here.
const AT_ONCE: usize = 8 << 20;

/// What is done about a truth that has less of an owner than a whole copy here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The copy stays: it may be the only one of what was acknowledged.
    Refuse,
    /// The truth's is taken.
    Accept,
}

impl Owners {
    /// Brings this shard's copy of the owner anew from the truth. What is here and good stays, and serves, until the truth's
    /// takes its place. Nothing is touched unless the truth can be read and is whole. Says whether the owner is hosted now.
    pub async fn rebuild(&self, owner: &OwnerKey, loss: Loss) -> Result<bool, OwnersError> {
        let rows = self.0.store.rows_of(owner).await?;
        let copy = rows.as_ref().and_then(|rows| self.whole_copy(owner, rows));
        let fetched = self.fetch_complete(owner).await?;
        let (held, found) = (
            copy.map(|copy| copy.version()).unwrap_or_default(),
            fetched.snapshot.version(),
        );
        if found < held && loss == Loss::Refuse {
            return Err(OwnersError::HistoryLost {
                owner: *owner,
                held,
                found,
            });
        }
        self.replace_copy(owner, rows, fetched).await
    }

    /// As [`rebuild`](Self::rebuild), with what was fetched, of a copy that is not to be believed.
    pub(in crate::owners) async fn replace_damaged(
        &self,
        owner: &OwnerKey,
        fetched: FetchedOwner,
    ) -> Result<bool, OwnersError> {
        let rows = self.0.store.rows_of(owner).await?;
        self.replace_copy(owner, rows, fetched).await
    }

    async fn replace_copy(
        &self,
        owner: &OwnerKey,
        mut rows: Option<OwnerRows>,
        mut fetched: FetchedOwner,
    ) -> Result<bool, OwnersError> {
        for _ in 0..TRIES {
            let Some(here) = rows.take() else { break };
            let put = differing(&here, &fetched.snapshot);
            let bytes: usize = put.iter().map(|record| record.value.len()).sum();
            if bytes > AT_ONCE && self.whole_copy(owner, &here).is_none() {
                break;
            }
            match self
                .0
                .store
                .replace_copy(&self.owner_copy(&fetched), &put)
                .await?
            {
                HostingOutcome::Now => {
                    self.backfill_soon(owner);
                    return Ok(true);
                }
                // What is known to differ still does, and what came is among what is newer.
                HostingOutcome::Overtaken => rows = Some(here),
                HostingOutcome::NotWhole | HostingOutcome::NotBegun | HostingOutcome::Already => {
                    rows = self.0.store.rows_of(owner).await?;
                }
            }
            fetched = self.fetch_since(&fetched.snapshot).await?;
        }
        if rows.is_some() {
            return Ok(false);
        }
        // Nobody is served from what is left of it.
        self.0.store.reset_owner(owner, self.bucket_name()).await?;
        self.host_in_full(owner).await
    }

    fn whole_copy(&self, owner: &OwnerKey, rows: &OwnerRows) -> Option<OwnerSet> {
        OwnerSet::empty(*owner)
            .apply(&self.0.keyring, rows.records()?)
            .ok()
    }
}

/// The records that have no row, or another one.
fn differing<'t>(rows: &OwnerRows, truth: &'t Snapshot) -> Vec<&'t Record> {
    let rows: HashMap<ItemKey, &ItemRow> = rows.items.iter().map(|row| (row.item, row)).collect();
    let differs = |record: &&Record| match record.name {
        RecordName::Item(item) => !rows
            .get(&item)
            .is_some_and(|row| row.is_kept_as_version && row.matches(record)),
        RecordName::Key | RecordName::Floor => false,
    };
    truth.set().records().filter(differs).collect()
}
