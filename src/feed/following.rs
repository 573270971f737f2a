//! Following the bucket: one event after the other, across outages.

use super::FeedError;
use super::event::Event;
use super::ledger::{Ledger, unusable};
use super::position::{Position, Start};
use crate::domain::Timestamp;
use crate::requester::Transient as _;
use crate::seal::Keyring;
use crate::truth::{Bucket, Entry, Follower};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

/// About how many messages are taken at once. A position is shown after them.
const BATCH_MESSAGES_MAX: usize = 500;
/// How often is checked whether the bucket is still the one that is followed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// In how many checks in a row the bucket has to be behind the feed until that is a loss.
const CHECKS_BEHIND_MAX: u32 = 10;
/// The pause while a server is unavailable.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A feed under way.
pub struct Following {
    bucket: Bucket,
    ledger: Ledger,
    /// Where the feed began, if that was a moment.
    since: Option<Timestamp>,
    /// `None` while there is no connection to follow on.
    follower: Option<Follower>,
    position: Position,
    /// How often in a row the bucket was behind the position.
    checks_behind: u32,
    next_check: Instant,
    /// Messages that came, and were not looked at yet.
    entries: VecDeque<Entry>,
    ready: VecDeque<Event>,
}

impl Following {
    pub(super) async fn begin(
        bucket: Bucket,
        keyring: Keyring,
        start: Start,
    ) -> Result<Self, FeedError> {
        let new = async |bucket: &Bucket| -> Result<Position, FeedError> {
            Ok(Position {
                created: bucket.position().await?.created,
                sequence: 0,
                record: None,
            })
        };
        let mut ready = VecDeque::new();
        let (position, since, shown) = match start {
            Start::Beginning => (new(&bucket).await?, None, Some(0)),
            Start::Since(moment) => (new(&bucket).await?, Some(moment), None),
            Start::After(mut position) => {
                let newest = position.check(&bucket).await?;
                if newest == position.sequence {
                    ready.push_back(Event::Reached {
                        position: position.clone(),
                        behind: 0,
                    });
                }
                let shown = Some(position.sequence);
                (position, None, shown)
            }
        };

        Ok(Self {
            ledger: Ledger::new(bucket.clone(), keyring, shown),
            bucket,
            since,
            follower: None,
            position,
            checks_behind: 0,
            next_check: Instant::now() + CHECK_INTERVAL,
            entries: VecDeque::new(),
            ready,
        })
    }

    /// Returns the next event. Waits while there is none, and while a server is unavailable. Loses
    /// nothing if it is dropped before it is ready.
    ///
    /// # Errors
    ///
    /// [`FeedError::OtherHistory`] if the bucket was replaced: follow it from the
    /// beginning. Any other error may pass: call it again.
    pub async fn next(&mut self) -> Result<Event, FeedError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }

            match self.step().await {
                Err(error) if error.is_unavailable() => {
                    warn!(%error, "cannot follow the bucket, trying again");
                    sleep(RETRY_PAUSE).await;
                }
                result => result?,
            }
        }
    }

    /// Looks at the next message, or waits for more.
    async fn step(&mut self) -> Result<(), FeedError> {
        if Instant::now() >= self.next_check {
            self.check().await?;
        }

        let Some(entry) = self.entries.front() else {
            return self.receive().await;
        };
        let events = match (&entry.record, &entry.unreadable) {
            (Some((owner, record)), _) => self.ledger.read(owner, record).await?,
            (None, Some(owner)) => {
                let reason = "not a record of a known format";
                vec![unusable(owner, entry.sequence, reason)]
            }
            (None, None) => Vec::new(),
        };

        self.ready.extend(events);
        self.position.sequence = entry.sequence;
        if let Some((_, record)) = &entry.record {
            self.position.record = Some((entry.sequence, record.at.millis()));
        }
        self.entries.pop_front();
        if self.entries.is_empty() {
            self.ready.push_back(Event::Reached {
                position: self.position.clone(),
                behind: self.follower.as_ref().map_or(0, Follower::behind),
            });
        }
        Ok(())
    }

    /// Waits for messages, until the next check is due.
    async fn receive(&mut self) -> Result<(), FeedError> {
        let follower = match &mut self.follower {
            Some(follower) => follower,
            None => {
                let follower = match self.since {
                    Some(moment) if self.position.sequence == 0 => {
                        self.bucket.follow_since(moment).await?
                    }
                    _ => self.bucket.follow(self.position.sequence).await?,
                };
                self.follower.insert(follower)
            }
        };

        match timeout_at(self.next_check, follower.next_batch(BATCH_MESSAGES_MAX)).await {
            Ok(Ok(entries)) => self.entries.extend(entries),
            Ok(Err(error)) => {
                // Another one begins after the last message that was looked at.
                self.follower = None;
                return Err(error.into());
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Checks that the bucket is still the one that is followed.
    async fn check(&mut self) -> Result<(), FeedError> {
        let mut position = self.position.clone();
        let newest = position.check(&self.bucket).await?;
        if position != self.position {
            self.position = position;
            self.follower = None;
            self.entries.clear();
        }

        // A leader that was paused may report old data for a moment.
        self.checks_behind = match newest < self.position.sequence {
            true => self.checks_behind + 1,
            false => 0,
        };
        if self.checks_behind >= CHECKS_BEHIND_MAX {
            return Err(FeedError::OtherHistory(format!(
                "its newest sequence is {newest}, and {} was reached",
                self.position.sequence
            )));
        }
        self.next_check = Instant::now() + CHECK_INTERVAL;
        Ok(())
    }
}
