//! Purging: taking records out of the bucket. Only `maintain` may, with a user of its own.

use super::bucket::{Bucket, TruthError};
use crate::domain::Version;
use crate::seal::{OwnerKey, RecordName};
use serde_json::json;

impl Bucket {
    /// Takes the records of that name out, up to the version and with it. What was written later stays: by its name alone
    /// a purge would take an item that was acknowledged meanwhile.
    pub async fn purge(
        &self,
        owner: &OwnerKey,
        name: &RecordName,
        up_to: Version,
    ) -> Result<(), TruthError> {
        let body = json!({"filter": self.subject(owner, name), "seq": up_to.get() + 1});
        let answer = self.api("STREAM.PURGE", &body).await?;
        answer.error.map_or(Ok(()), |error| Err(error.into()))
    }
}
