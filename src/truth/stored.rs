//! What the bucket stores of one owner, message by message, whether or not it can be read.

use super::bucket::{Bucket, parse_record};
use super::error::TruthError;
use super::follow::stored_at;
use crate::domain::{Timestamp, Version};
use crate::seal::{OwnerKey, Record, RecordName};
use bytes::Bytes;

/// A message of an owner. It may be no record.
#[derive(Clone)]
pub struct StoredMessage {
    /// Which of the owner's records it should be; `None` if no record has such a key.
    pub name: Option<RecordName>,
    /// Its version.
    pub version: Version,
    /// When the bucket stored it.
    pub at: Timestamp,
    /// What should be envelope and ciphertext.
    pub value: Bytes,
}

impl StoredMessage {
    /// Returns it as a record; `None` if it is none that this version can read.
    pub fn record(&self) -> Option<Record> {
        let sequence = self.version.get();

        parse_record(self.name?, sequence, self.at, &self.value).ok()
    }
}

impl Bucket {
    /// Returns all messages of the owner that the bucket keeps, those that were superseded included,
    /// in the order of their versions. A replica that is behind may lack the newest ones.
    pub async fn stored_messages(
        &self,
        owner: &OwnerKey,
    ) -> Result<Vec<StoredMessage>, TruthError> {
        let all = self.owner_subjects(owner);
        let mut messages = self.list("stored", 0, Some(all), false).await?;

        let mut stored = Vec::new();
        while let Some(message) = messages.next().await? {
            let info = message
                .info()
                .map_err(|_| TruthError::Unreadable("a message without metadata"))?;
            let version = Version::new(info.stream_sequence)
                .ok_or(TruthError::Unreadable("a sequence above 2^53"))?;

            stored.push(StoredMessage {
                name: messages
                    .parse_subject(&message.subject)
                    .map(|(_, name)| name),
                version,
                at: stored_at(&info),
                value: message.payload.clone(),
            });
        }
        Ok(stored)
    }
}
