//! Purging: removing records from the bucket. Only `maintain` may do so, as a NATS user of its own.

use super::bucket::Bucket;
use super::error::TruthError;
use crate::domain::Version;
use crate::seal::{OwnerKey, RecordName};
use serde_json::json;

impl Bucket {
    /// Removes the owner's records of that name, up to and including the version `up_to`.
    ///
    /// Later records stay. A purge by name alone would remove an item that was acknowledged
    /// meanwhile.
    pub async fn purge(
        &self,
        owner: &OwnerKey,
        name: &RecordName,
        up_to: Version,
    ) -> Result<(), TruthError> {
        let body = json!({"filter": self.subject(owner, name), "seq": up_to.get() + 1});
        let reply = self.api("STREAM.PURGE", &body).await?;

        reply.error.map_or(Ok(()), |error| Err(error.into()))
    }
}
