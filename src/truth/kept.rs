//! What the bucket keeps: every record with its size, the earlier ones of each key included.

use super::bucket::Bucket;
use super::error::TruthError;
use super::list::Messages;
use crate::domain::Version;
use crate::seal::{OwnerKey, RecordName};

/// Where the server puts the size of a message that it sends without its content.
const SIZE: &str = "Nats-Msg-Size";

/// A record that is kept, without its content.
#[derive(Clone, Copy, Debug)]
pub struct KeptRecord {
    /// Whose it is.
    pub owner: OwnerKey,
    /// Its name.
    pub name: RecordName,
    /// Its version.
    pub version: Version,
    /// The size of its content.
    pub bytes: u64,
}

/// Returns the kept records, in the order of their versions.
pub struct KeptList(Messages);

impl Bucket {
    /// Begins to list all records that are kept now, of that owner or of every owner.
    pub async fn list_kept(&self, owner: Option<&OwnerKey>) -> Result<KeptList, TruthError> {
        let filter = owner.map(|owner| self.owner_subjects(owner));

        Ok(KeptList(self.list("kept", 0, filter, true).await?))
    }
}

impl KeptList {
    /// Returns the next record; `None` at the end. A message that is no record is skipped.
    pub async fn next(&mut self) -> Result<Option<KeptRecord>, TruthError> {
        while let Some(message) = self.0.next().await? {
            let Some((owner, name)) = self.0.parse_subject(&message.subject) else {
                continue;
            };

            let info = message
                .info()
                .map_err(|_| TruthError::Unreadable("a message without metadata"))?;
            let version = Version::new(info.stream_sequence)
                .ok_or(TruthError::Unreadable("a sequence above 2^53"))?;
            let size = message
                .headers
                .as_ref()
                .and_then(|headers| headers.get(SIZE));
            let bytes = size
                .and_then(|size| size.as_str().parse().ok())
                .ok_or(TruthError::Unreadable("a message without its size"))?;

            return Ok(Some(KeptRecord {
                owner,
                name,
                version,
                bytes,
            }));
        }

        Ok(None)
    }
}
