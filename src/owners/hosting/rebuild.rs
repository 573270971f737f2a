//! Rebuilding an owner's copy in this shard's Postgres from the truth, when the present copy is
//! damaged or in doubt.

use crate::domain::Version;
use crate::owners::fetch::FetchedOwner;
use crate::owners::{Owners, OwnersError, Snapshot};
use crate::seal::{ItemKey, OwnerKey, OwnerSet, Record, RecordName};
use crate::shard::{HostingOutcome, ItemRow, OwnerRows};
use std::collections::HashMap;
use tracing::warn;

/// How often a replacement is tried, each time with what was written in the meantime.
const REPLACE_TRIES_MAX: usize = 10;
/// The approximate size up to which a damaged copy is replaced in one transaction. A larger one is
/// reset and hosted again, in small transactions. A good copy is always replaced in one, because it
/// serves until then.
const REPLACE_BYTES_MAX: usize = 8 << 20;

/// What to do if the truth lacks something that a complete copy here has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Keep the copy, because it may be the last one of what was acknowledged.
    Refuse,
    /// Take what the truth has.
    Accept,
}

impl Owners {
    /// Rebuilds this shard's copy of the owner from the truth. Returns whether the shard hosts the
    /// owner now.
    ///
    /// A good copy stays and serves until the new one takes its place. Nothing changes unless the
    /// truth can be read and its records are complete.
    ///
    /// # Errors
    ///
    /// [`OwnersError::HistoryLost`] if the truth lacks something that a complete copy here has, and
    /// `loss` is [`Loss::Refuse`].
    pub async fn rebuild(&self, owner: &OwnerKey, loss: Loss) -> Result<bool, OwnersError> {
        let rows = self.0.store.find_rows(owner).await?;
        let fetched = self.fetch_complete(owner).await?;
        self.replace_copy(owner, rows, fetched, loss).await
    }

    /// Replaces a damaged copy, or one in doubt, by the fetched set. Returns whether the shard hosts
    /// the owner now. Fails as [`rebuild`](Self::rebuild) does.
    pub(in crate::owners) async fn replace_damaged(
        &self,
        owner: &OwnerKey,
        fetched: FetchedOwner,
    ) -> Result<bool, OwnersError> {
        let rows = self.0.store.find_rows(owner).await?;
        self.replace_copy(owner, rows, fetched, Loss::Refuse).await
    }

    /// Replaces the copy in one transaction, if there is one and its size permits. Otherwise resets
    /// the owner and hosts the owner again. Returns whether the shard hosts the owner now.
    async fn replace_copy(
        &self,
        owner: &OwnerKey,
        mut rows: Option<OwnerRows>,
        mut fetched: FetchedOwner,
        loss: Loss,
    ) -> Result<bool, OwnersError> {
        for _ in 0..REPLACE_TRIES_MAX {
            let Some(present) = rows.take() else { break };
            if loss == Loss::Refuse {
                fetched = self.refuse_loss(owner, &present, fetched).await?;
            }
            // The projection has passed such a copy by, so hosting has to begin again.
            if present.is_in_doubt {
                break;
            }
            let changed = differing_records(&present, &fetched.snapshot);
            let bytes: usize = changed.iter().map(|record| record.value.len()).sum();
            if bytes > REPLACE_BYTES_MAX && self.complete_set(owner, &present).is_none() {
                break;
            }

            let outcome = self
                .0
                .store
                .replace_copy(&self.owner_copy(&fetched), &changed)
                .await?;
            match outcome {
                HostingOutcome::Now => {
                    self.backfill_soon(owner);
                    return Ok(true);
                }
                // These rows still differ. What the projection stored since is in the next fetch
                // too.
                HostingOutcome::Overtaken => rows = Some(present),
                HostingOutcome::Incomplete | HostingOutcome::NotBegun | HostingOutcome::Already => {
                    rows = self.0.store.find_rows(owner).await?;
                }
            }
            fetched = self.fetch_since(&fetched.snapshot).await?;
        }
        if rows.is_some() {
            return Ok(false);
        }

        // No request is served from the rows after this.
        self.0.store.reset_owner(owner, self.bucket_name()).await?;
        self.host_in_full(owner).await
    }

    /// Returns the truth's set, which has everything that a complete copy here has: `fetched`, or a
    /// newer one if the copy was stored after that. Otherwise marks the copy and fails.
    pub(super) async fn refuse_loss(
        &self,
        owner: &OwnerKey,
        rows: &OwnerRows,
        mut fetched: FetchedOwner,
    ) -> Result<FetchedOwner, OwnersError> {
        let Some(copy) = self.complete_set(owner, rows) else {
            return Ok(fetched);
        };
        if !self.is_lost(&copy, fetched.snapshot.set()).await {
            return Ok(fetched);
        }
        fetched = self.fetch_complete(owner).await?;
        if !self.is_lost(&copy, fetched.snapshot.set()).await {
            return Ok(fetched);
        }

        self.mark_lost(owner, copy.version()).await;
        Err(OwnersError::HistoryLost {
            owner: *owner,
            held: copy.version(),
            found: fetched.snapshot.version(),
        })
    }

    /// Marks this shard's copy as lost history, if there is one and it is complete.
    pub(super) async fn keep_as_lost(&self, owner: &OwnerKey) {
        match self.0.store.find_rows(owner).await {
            Ok(rows) => {
                let copy = rows.and_then(|rows| self.complete_set(owner, &rows));
                if let Some(copy) = copy
                    && self.is_genuine(&copy).await
                {
                    self.mark_lost(owner, copy.version()).await;
                }
            }
            Err(error) => {
                warn!(%owner, %error, "cannot read the copy that is kept");
                self.compare_later(owner);
            }
        }
    }

    /// Marks the copy of that version as lost history. If Postgres fails, the copy is compared again
    /// later.
    pub(in crate::owners) async fn mark_lost(&self, owner: &OwnerKey, version: Version) {
        if let Err(error) = self.0.store.mark_lost(owner, version).await {
            warn!(%owner, %error, "cannot record that the bucket lacks what this copy has");
            self.compare_later(owner);
        }
    }

    /// Returns the set of the rows, if it is complete.
    fn complete_set(&self, owner: &OwnerKey, rows: &OwnerRows) -> Option<OwnerSet> {
        OwnerSet::empty(*owner)
            .apply(&self.0.keyring, rows.records()?)
            .ok()
    }
}

/// Returns the truth's item records that have no row, or a row that differs.
fn differing_records<'t>(rows: &OwnerRows, truth: &'t Snapshot) -> Vec<&'t Record> {
    let rows: HashMap<ItemKey, &ItemRow> = rows.items.iter().map(|row| (row.item, row)).collect();

    let differs = |record: &&Record| match record.name {
        RecordName::Item(item) => !rows
            .get(&item)
            .is_some_and(|row| row.is_kept_as_version && row.matches(record)),
        RecordName::Key | RecordName::Floor | RecordName::Unknown(_) => false,
    };
    truth.set().records().filter(differs).collect()
}
