//! Whether the truth still is what it was: one that was restored from an older backup, or made anew, is noticed.
//!
//! Then nothing is mixed: the projection stands still, and each read is confirmed, which tells whose history is lost.
//! Those owners' copies are served as stale; all others are served as before.

use super::{Owners, OwnersFault};
use crate::domain::Version;
use crate::shard::Reached;
use crate::truth::{Delta, SetupFault};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{error, warn};

/// How often the truth is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Owners read from Postgres in one go.
const PAGE: i64 = 500;

/// What is known of the truth's history.
#[derive(Debug, Default)]
pub struct History {
    lost: AtomicBool,
    newest: AtomicU64,
    /// Where the projection stood, and since when, while the truth is ahead of it.
    standing: Mutex<Option<(u64, Instant)>>,
}

impl History {
    /// Whether the truth has lost what it once acknowledged. It stays so until the worker is started again.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The truth's newest stream sequence, as far as is known.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// How long the projection has stood still while the truth was ahead; none while it keeps up.
    pub(super) fn behind(&self) -> Option<Duration> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, since)| since.elapsed())
    }

    /// The projection stands at `cursor`, and stood behind `newest` already when that was looked up.
    fn note_progress(&self, cursor: u64, newest: u64) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match *standing {
            _ if cursor >= newest => *standing = None,
            Some((at, _)) if at == cursor => {}
            _ => *standing = Some((cursor, Instant::now())),
        }
    }

    fn lose(&self, reason: &str) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            error!(reason, "the bucket's history went back: nothing is mixed, and its owners are told apart");
        }
    }
}

impl Owners {
    /// Looks at the truth all the time, beginning from where this shard knew it to be; never ends.
    pub async fn watch_history(&self) {
        let mut known = match self.0.store.reached(self.bucket_name()).await {
            Ok(reached) => reached,
            Err(fault) => {
                warn!(%fault, "Postgres is away: the truth's history is known from now on only");
                None
            }
        };
        loop {
            if let Some(known) = &known {
                self.0.history.note_progress(self.0.cursor.sequence(), known.sequence);
            }
            match self.compare(known.as_ref()).await {
                Ok(now) => known = Some(now),
                Err(OwnersFault::HistoryWentBack(_)) => {}
                Err(fault) => warn!(%fault, "the truth cannot be looked at"),
            }
            sleep(LOOK).await;
        }
    }

    /// Compares the truth with where it was known to be, and gives where it is now. A leader that was paused may tell
    /// of old times for a moment, so what looks lost is confirmed by a write.
    pub(super) async fn compare(&self, known: Option<&Reached>) -> Result<Reached, OwnersFault> {
        let (created, newest) = self.0.bucket.position().await.map_err(|fault| match fault {
            SetupFault::Truth(fault) => OwnersFault::Truth(fault),
            other => self.went_back(other.to_string()),
        })?;
        if let Some(known) = known {
            if known.created != created {
                return Err(self.went_back(format!("made at {}, and now at {created}", known.created)));
            }
            if newest < known.sequence {
                let confirmed = self.0.bucket.ring_barrier().await?;
                if confirmed <= known.sequence {
                    let reason = format!("its newest record was {}, and is {newest}", known.sequence);
                    return Err(self.went_back(reason));
                }
            }
        }
        let sequence = newest.max(known.map_or(0, |known| known.sequence));
        self.0.history.newest.fetch_max(sequence, Ordering::Relaxed);
        Ok(Reached { created, sequence, at: None })
    }

    /// Whether the record at the projection's cursor is the one that it stored.
    pub(super) async fn check_anchor(&self, reached: &Reached) -> Result<(), OwnersFault> {
        let Some(at) = reached.at else { return Ok(()) };
        // It may have been overwritten since, which tells nothing.
        match self.0.bucket.time_of(reached.sequence).await? {
            Some(found) if found != at => {
                Err(self.went_back(format!("another record stands at {}, of another time", reached.sequence)))
            }
            _ => Ok(()),
        }
    }

    fn went_back(&self, reason: String) -> OwnersFault {
        self.0.history.lose(&reason);
        OwnersFault::HistoryWentBack(reason)
    }

    /// Names in the log each owner whom this shard hosts and of whom it has more than the truth.
    pub(super) async fn name_the_lost(&self) -> Result<usize, OwnersFault> {
        let (mut after, mut lost) = (None, 0);
        loop {
            let page = self.0.store.hosted_versions(after.as_ref(), PAGE).await?;
            for (owner, held) in &page {
                let delta = self.0.bucket.since_confirmed(owner, *held).await?;
                if !held.is_none() && !delta.records.iter().any(|record| record.version >= *held) {
                    let found = self.newest_of(owner).await?;
                    error!(%owner, %held, %found, "the truth has lost history of this owner");
                    lost += 1;
                }
            }
            match page.last() {
                Some((owner, _)) => after = Some(*owner),
                None => return Ok(lost),
            }
        }
    }

    async fn newest_of(&self, owner: &crate::seal::OwnerKey) -> Result<Version, OwnersFault> {
        let Delta { records, .. } = self.0.bucket.since(owner, Version::NONE).await?;
        Ok(records.last().map(|record| record.version).unwrap_or_default())
    }
}
