//! The newest record of an owner, which shows in one message whether a copy is current.

use super::bucket::{Bucket, TruthError};
use crate::seal::{OwnerKey, Record};
use serde_json::json;

impl Bucket {
    /// Returns the newest record that the nearest replica has of the owner; `None` for an owner without any.
    ///
    /// The server looks up one record. To ask it for the newest record of each key costs it five times as
    /// much, even if none is newer than the copy.
    pub async fn newest(&self, owner: &OwnerKey) -> Result<Option<Record>, TruthError> {
        let query = json!({ "last_by_subj": self.owner_subjects(owner) });
        let Some(message) = self.message(query).await? else {
            return Ok(None);
        };

        Ok(self.parse_message(&message)?.map(|(_, record)| record))
    }
}
