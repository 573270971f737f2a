//! Where a feed begins, and whether the bucket still has what was before.

use super::FeedError;
use crate::domain::Timestamp;
use crate::truth::Bucket;
use serde::{Deserialize, Serialize};

/// Where a feed begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that the bucket keeps.
    Beginning,
    /// After a position that an earlier feed has reached.
    After(Position),
    /// At the first record that the bucket stored at that moment or later. What was there before is
    /// not shown, and its deletion may never be.
    Since(Timestamp),
}

/// How far a feed has come. It can be stored, and used in another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the bucket was created, in the server's words.
    pub(super) created: String,
    pub(super) sequence: u64,
    /// The last record up to there: its sequence, and when it was stored, in milliseconds since the
    /// Unix epoch. It shows whether the bucket still has the same history.
    pub(super) record: Option<(u64, i64)>,
}

impl Position {
    /// The sequence in the bucket's stream up to which everything was shown.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Checks that the bucket continues this position, and returns the bucket's newest sequence, as
    /// one server knows it. Takes note if the bucket was restored since.
    pub(super) async fn check(&mut self, bucket: &Bucket) -> Result<u64, FeedError> {
        let now = bucket.position().await?;

        if now.created != self.created {
            // Behind the last record there were only barriers. They need not be in a backup.
            let seen = self.record.map_or(self.sequence, |(sequence, _)| sequence);
            if now.lineage.continues(&self.created, seen).is_none() {
                return Err(FeedError::OtherHistory(format!(
                    "it was created at {}, and the one followed at {}",
                    now.created, self.created
                )));
            }
            // It goes on after what was in the backup.
            self.created = now.created;
            self.sequence = seen;
        }

        self.check_record(bucket).await?;
        Ok(now.newest)
    }

    /// Checks that the last record is still the same. A record that is no longer there proves
    /// nothing: it may have been superseded.
    async fn check_record(&self, bucket: &Bucket) -> Result<(), FeedError> {
        let Some((sequence, at)) = self.record else {
            return Ok(());
        };

        match bucket.time_of(sequence).await? {
            Some(found) if found.millis() != at => Err(FeedError::OtherHistory(format!(
                "the record at sequence {sequence} is another one"
            ))),
            _ => Ok(()),
        }
    }
}
