//! Bringing an owner's copy anew, where the one that is here is not to be believed.

use super::{Owners, OwnersFault, Snapshot};
use crate::seal::OwnerKey;

impl Owners {
    /// Takes this shard's copy of the owner away and brings it anew from the truth. Nothing is taken away unless the
    /// truth can be read and is whole. Says whether the owner is hosted now.
    pub async fn rebuild(&self, owner: &OwnerKey) -> Result<bool, OwnersFault> {
        self.fetch_whole(owner).await?;
        Ok(self.bring_anew(owner).await?.1)
    }

    /// As [`rebuild`](Self::rebuild), of a copy that serves nobody anyhow.
    pub(super) async fn bring_anew(&self, owner: &OwnerKey) -> Result<(Snapshot, bool), OwnersFault> {
        self.0.store.reset_owner(owner, self.bucket_name()).await?;
        self.host(owner).await
    }
}
