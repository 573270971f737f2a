//! The operators' tools: comparing a shard's Postgres with the bucket, rebuilding it, repairing an
//! owner in the bucket, forgetting old deletions, backups of the bucket, and a report on one owner.
//!
//! They run beside the workers, on the same bucket and Postgres, and never serve a caller. The code
//! of requests and the code of these tools cannot name each other.

mod audit;
mod backup;
mod owner_report;
mod repair;
mod replay;
mod retry;
mod room;
mod scan;
mod tombstones;
mod verify;
mod verify_all;

pub use audit::AuditSummary;
pub use backup::{Backup, BackupError, Backups, backup_name, list_backups};
pub use owner_report::{OwnerRecords, OwnerReport};
pub use repair::{
    AcceptLoss, CopyReport, Damage, Losses, NoRepair, RepairOutcome, RepairReport, RepairShard,
    Repairer, Verdict, Work,
};
pub use replay::{RebuildSummary, ReplayFrom};
pub use tombstones::{MaintainSettings, Maintainer, Round};
pub use verify::{Comparison, CopySummary, Difference, Divergence, Verifier};
pub use verify_all::{Finding, Repair, VerifyProgress, VerifySummary};

use crate::owners::{Owners, OwnersError};
use crate::seal::Keyring;
use crate::shard::Store;
use crate::truth::Bucket;

/// What the tools of one shard work on.
#[derive(Clone)]
pub struct Operator {
    /// The owners, as a worker of the shard has them.
    pub owners: Owners,
    /// The bucket.
    pub bucket: Bucket,
    /// The shard's Postgres.
    pub store: Store,
    /// The keys of the installation.
    pub keyring: Keyring,
}

impl Operator {
    /// Checks that the bucket still has the history that this shard's projection has seen.
    ///
    /// # Errors
    ///
    /// [`OwnersError::HistoryWentBack`] if the bucket is older than the projection, or is another
    /// bucket.
    pub async fn check_continuity(&self) -> Result<(), OwnersError> {
        let position = self.store.reached(self.bucket.name()).await?;
        self.owners.check_continuity(position.as_ref()).await?;
        Ok(())
    }
}
