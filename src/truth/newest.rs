//! What is newest: the newest record of an owner, which shows in one message whether a copy is current, and
//! the sequence that a replica has reached.

use super::bucket::Bucket;
use super::error::TruthError;
use crate::domain::Version;
use crate::seal::{OwnerKey, Record};
use serde_json::json;
use std::time::Duration;

/// Up to which size the newest record of a copy is asked for again, to see whether it still is the newest.
/// A larger one costs more to send than the server spares.
const NEWEST_BYTES_MAX: u64 = 16 << 10;
/// The most that it may be of an answer of many records. Over a slow link that is 4 KiB.
const NEWEST_PART_MAX: u64 = 16;

/// After how long the next question for the newest sequence begins, if the one before has no answer: over
/// a slow link a read would otherwise wait for two round trips.
pub(super) const QUESTION_PAUSE: Duration = Duration::from_millis(2);

impl Bucket {
    /// Returns the size up to which [`newest`](Self::newest) costs less than what is newer than a copy.
    pub fn newest_bytes_max(&self) -> usize {
        let part = self.answer_size.bytes() / NEWEST_PART_MAX;

        part.min(NEWEST_BYTES_MAX) as usize
    }

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

    /// Returns the stream sequence that the nearest replica has reached, as of a moment after this call; 0
    /// if that is not known. Callers that wait share one question.
    pub async fn newest_sequence(&self) -> Result<u64, TruthError> {
        // The barrier is a key without content; the end of the answer says how far it reaches.
        let query = json!({ "multi_last": [self.barrier.subject] });
        let ask = async {
            // A replica without this barrier does not say how far it has come.
            let up_to = self.ask_for_records(&query).await?.up_to;
            Ok(up_to.map_or(0, Version::get))
        };

        self.newest_sequence.get(ask).await
    }
}
