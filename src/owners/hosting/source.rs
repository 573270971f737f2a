//! The messages that the projection stores next. While it stores some, more are read: so what a worker
//! learns from them does not wait for Postgres.

use super::passing::Passing;
use crate::owners::{Owners, OwnersError};
use crate::truth::{Entry, Follower};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// With so many bytes of records read ahead, no more are read. A batch of the follower may exceed it.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// How long barriers may wait for a record before the projection stores that it has passed them. Reads
/// publish many, and nobody waits for them.
const BARRIERS_WAIT: Duration = Duration::from_millis(50);

/// Where the projection's messages come from.
pub(super) struct Source<'o> {
    follower: Follower,
    /// `None` if this worker learns nothing from them.
    passing: Option<Passing<'o>>,
    /// What was read and is not stored.
    ahead: Vec<Entry>,
    /// How many of those were passed on to the sets in memory.
    passed: usize,
    /// Why no more can be read.
    failed: Option<OwnersError>,
}

impl<'o> Source<'o> {
    pub(super) fn new(follower: Follower, passing: Option<Passing<'o>>) -> Self {
        Self {
            follower,
            passing,
            ahead: Vec::new(),
            passed: 0,
            failed: None,
        }
    }

    fn has_barriers_only(&self) -> bool {
        self.ahead.iter().all(|entry| entry.record.is_none())
    }

    fn has_room(&self, limit: usize) -> bool {
        let records = self.ahead.iter().filter_map(|entry| entry.record.as_ref());
        let bytes: usize = records.map(|(_, record)| record.value.len()).sum();

        self.failed.is_none() && self.ahead.len() < limit && bytes < AHEAD_BYTES_MAX
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
        self.pass_on(source).await?;

        let until = Instant::now() + BARRIERS_WAIT;
        while source.has_barriers_only() && source.ahead.len() < limit {
            let more = async {
                self.read_more(source, limit).await?;
                self.pass_on(source).await
            };
            match timeout_at(until, more).await {
                Ok(read) => read?,
                Err(_) => break,
            }
        }
        self.pass_on(source).await?;
        source.passed = 0;
        Ok(std::mem::take(&mut source.ahead))
    }

    /// Reads the next messages, about `limit` at most, until `store` is done. Returns its result.
    pub(super) async fn read_ahead<T>(
        &self,
        source: &mut Source<'_>,
        limit: usize,
        store: impl Future<Output = T>,
    ) -> T {
        let mut store = std::pin::pin!(store);
        loop {
            let has_room = source.has_room(limit);
            let left = limit - source.ahead.len().min(limit);
            let read = async {
                self.read_more(source, left).await?;
                self.pass_on(source).await
            };
            let read = tokio::select! {
                stored = &mut store => return stored,
                read = read, if has_room => read,
            };
            source.failed = read.err();
        }
    }

    /// Waits for the next messages, and reads those that are there.
    async fn read_more(&self, source: &mut Source<'_>, limit: usize) -> Result<(), OwnersError> {
        let more = source.follower.next_batch(limit).await?;
        source.ahead.extend(more);
        Ok(())
    }

    /// Passes what was read on to the sets in memory, unless that was done.
    async fn pass_on(&self, source: &mut Source<'_>) -> Result<(), OwnersError> {
        let new = &source.ahead[source.passed..];
        if let Some(passing) = source.passing.as_mut().filter(|_| !new.is_empty()) {
            self.pass(passing, &mut source.follower, new).await?;
        }

        source.passed = source.ahead.len();
        Ok(())
    }
}
