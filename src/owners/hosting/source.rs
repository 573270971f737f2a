//! The messages that the projection stores next. While it stores some, more are read: so what a worker
//! learns from them does not wait for Postgres.

use super::passing::Passing;
use crate::owners::{Owners, OwnersError};
use crate::truth::{Entry, Follower};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The most bytes of records in one step, about; so many more may be read ahead. A batch of the follower
/// may exceed it.
const STEP_BYTES_MAX: usize = 8 << 20;
/// The approximate memory of a message beside its record's bytes.
const MESSAGE_BYTES: usize = 512;

/// How long barriers may wait for a record before the projection stores that it has passed them. Reads
/// publish many, and nobody waits for them.
const BARRIERS_WAIT: Duration = Duration::from_millis(50);

/// Where the projection's messages come from.
pub(super) struct Source<'o> {
    follower: Follower,
    /// `None` if this worker learns nothing from them.
    passing: Option<Passing<'o>>,
    /// What was read and is not stored, in batches that a step does not divide.
    ahead: VecDeque<Batch>,
    /// The bytes of all of those.
    bytes: usize,
    /// What was read and has not passed yet.
    arrived: Option<Batch>,
    /// Why no more can be read.
    failed: Option<OwnersError>,
}

/// Some messages that follow one another.
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    fn new(entries: Vec<Entry>) -> Self {
        let records = entries.iter().filter_map(|entry| entry.record.as_ref());
        let of_records: usize = records.map(|(_, record)| record.value.len()).sum();

        Self {
            bytes: of_records + MESSAGE_BYTES * entries.len(),
            entries,
        }
    }

    fn has_barriers_only(&self) -> bool {
        self.entries.iter().all(|entry| entry.record.is_none())
    }
}

impl<'o> Source<'o> {
    pub(super) fn new(follower: Follower, passing: Option<Passing<'o>>) -> Self {
        Self {
            follower,
            passing,
            ahead: VecDeque::new(),
            bytes: 0,
            arrived: None,
            failed: None,
        }
    }

    fn has_room(&self) -> bool {
        self.failed.is_none() && self.bytes < STEP_BYTES_MAX
    }

    /// Takes the first messages of those that were read: about `limit` at most, and at least one batch.
    fn take(&mut self, limit: usize) -> Vec<Entry> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.ahead.front()
            && (taken.is_empty()
                || taken.len() + next.entries.len() <= limit
                    && bytes + next.bytes <= STEP_BYTES_MAX)
            && let Some(next) = self.ahead.pop_front()
        {
            bytes += next.bytes;
            taken.extend(next.entries);
        }

        self.bytes -= bytes;
        taken
    }
}

impl Owners {
    /// Returns the next messages, about `limit` at most. Loses nothing if it is dropped before it is ready.
    pub(super) async fn next_messages(
        &self,
        source: &mut Source<'_>,
        limit: usize,
    ) -> Result<Vec<Entry>, OwnersError> {
        if let Some(failed) = source.failed.take() {
            return Err(failed);
        }
        if source.ahead.is_empty() {
            self.read_more(source, limit).await?;
        }

        let until = Instant::now() + BARRIERS_WAIT;
        while source.ahead.iter().all(Batch::has_barriers_only) && source.has_room() {
            match timeout_at(until, self.read_more(source, limit)).await {
                Ok(read) => read?,
                Err(_) => break,
            }
        }
        Ok(source.take(limit))
    }

    /// Reads the next messages, about `limit` at a time, until `store` is done. Returns its result.
    pub(super) async fn read_ahead<T>(
        &self,
        source: &mut Source<'_>,
        limit: usize,
        store: impl Future<Output = T>,
    ) -> T {
        let mut store = std::pin::pin!(store);
        loop {
            let has_room = source.has_room();
            let read = tokio::select! {
                stored = &mut store => return stored,
                read = self.read_more(source, limit), if has_room => read,
            };
            source.failed = read.err();
        }
    }

    /// Waits for the next messages, and reads those that are there. Passes them on to the sets in memory.
    async fn read_more(&self, source: &mut Source<'_>, limit: usize) -> Result<(), OwnersError> {
        if source.arrived.is_none() {
            let entries = source.follower.next_batch(limit).await?;
            source.arrived = Some(Batch::new(entries));
        }

        if let Some(passing) = &mut source.passing
            && let Some(batch) = &source.arrived
        {
            self.pass(passing, &mut source.follower, &batch.entries)
                .await;
        }
        if let Some(batch) = source.arrived.take() {
            source.bytes += batch.bytes;
            source.ahead.push_back(batch);
        }
        Ok(())
    }
}
