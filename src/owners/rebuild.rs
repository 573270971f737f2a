//! Bringing an owner's copy anew, where the one that is here is not to be believed.

use super::{Owners, OwnersFault, Snapshot};
use crate::seal::{OwnerKey, OwnerSet};

/// What is done about a truth that has less of an owner than a whole copy here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The copy stays: it may be the only one of what was acknowledged.
    Refuse,
    /// The truth's is taken.
    Accept,
}

impl Owners {
    /// Takes this shard's copy of the owner away and brings it anew from the truth. Nothing is taken away unless the
    /// truth can be read and is whole. Says whether the owner is hosted now.
    pub async fn rebuild(&self, owner: &OwnerKey, loss: Loss) -> Result<bool, OwnersFault> {
        let copy = self.0.store.hosted_owner(owner).await.unwrap_or_default();
        let copy = copy.and_then(|copy| OwnerSet::empty(*owner).apply(&self.0.keyring, copy.records).ok());
        let (held, found) =
            (copy.map(|copy| copy.version()).unwrap_or_default(), self.fetch_whole(owner).await?.0.version());
        if found < held && loss == Loss::Refuse {
            return Err(OwnersFault::HistoryLost { owner: *owner, held, found });
        }
        Ok(self.bring_anew(owner).await?.1)
    }

    /// As [`rebuild`](Self::rebuild), of a copy that serves nobody anyhow.
    pub(super) async fn bring_anew(&self, owner: &OwnerKey) -> Result<(Snapshot, bool), OwnersFault> {
        self.0.store.reset_owner(owner, self.bucket_name()).await?;
        self.host(owner).await
    }
}
