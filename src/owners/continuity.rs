//! Whether the truth still is what it was: one that was restored from an older backup, or made anew, is noticed.
//!
//! Then nothing is mixed: the projection stands still, and each read is confirmed, which tells whose history is lost.
//! Those owners' copies are served as stale; all others are served as before.

use super::{Owners, OwnersError};
use crate::domain::{Timestamp, Version};
use crate::shard::ProjectionPosition;
use crate::truth::{Delta, SetupError, TruthError};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
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
pub struct Continuity {
    lost: AtomicBool,
    newest: AtomicU64,
    /// When that record was stored, in milliseconds since the Unix epoch; 0 while that is not known.
    newest_at_ms: AtomicI64,
    /// How often this shard had accepted a loss when this worker began to look, and one more; 0 while it has not.
    accepted: AtomicU64,
    /// Where the projection stood, and since when, while the truth is ahead of it.
    standing: Mutex<Option<(u64, Instant)>>,
}

impl Continuity {
    /// Whether the truth has lost what it once acknowledged. It stays so for this worker, and for every
    /// one that starts later with this shard's Postgres.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The truth's newest stream sequence, as far as is known.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// How old the truth's newest record is, as far as is known.
    pub fn newest_age(&self) -> Option<Duration> {
        let at = Some(self.newest_at_ms.load(Ordering::Relaxed)).filter(|at| *at != 0)?;
        Some(Duration::from_millis(
            u64::try_from(Timestamp::now().millis() - at).unwrap_or_default(),
        ))
    }

    /// How long the projection has stood still while the truth was ahead; none while it keeps up.
    pub(super) fn behind(&self) -> Option<Duration> {
        self.standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|(_, since)| since.elapsed())
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

    /// An operator has accepted the bucket as it is.
    pub(crate) fn reset(&self) {
        self.accepted.store(0, Ordering::Relaxed);
        self.newest.store(0, Ordering::Relaxed);
        self.lost.store(false, Ordering::Release);
    }

    fn lose(&self, reason: &str) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            error!(
                reason,
                "the bucket's history went back: nothing is mixed, and its owners are told apart"
            );
        }
    }
}

impl Owners {
    /// Looks at the truth all the time, and compares it with where this worker last saw it and with where this shard's
    /// projection has come; never ends.
    pub async fn watch_continuity(&self) {
        let mut seen: Option<ProjectionPosition> = None;
        loop {
            if let Some(seen) = &seen {
                self.0
                    .continuity
                    .note_progress(self.0.cursor.sequence(), seen.sequence);
            }
            // Read before the truth is: so the truth is never behind it, unless it went back.
            let projected = self
                .0
                .store
                .reached(self.bucket_name())
                .await
                .unwrap_or_default();
            for known in [seen.clone(), projected] {
                // Counted as a read: so what hangs is noticed also where nobody asks.
                let attempt = self.0.bucket.reading().admit();
                let compared = self.check_continuity(known.as_ref()).await;
                if let Some(attempt) =
                    attempt.filter(|_| !matches!(compared, Err(OwnersError::Truth(_))))
                {
                    attempt.answered();
                }
                match compared {
                    Ok(now) => seen = Some(now),
                    Err(OwnersError::HistoryWentBack(_)) => {}
                    Err(error) => warn!(%error, "the truth cannot be looked at"),
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Compares the truth with where it was known to be, and gives where it is now. A leader that was paused may tell
    /// of old times for a moment, so what looks lost is confirmed by a write.
    pub(crate) async fn check_continuity(
        &self,
        known: Option<&ProjectionPosition>,
    ) -> Result<ProjectionPosition, OwnersError> {
        if let Some(accepted) = known.and_then(|known| known.accepted) {
            let first = &self.0.continuity.accepted;
            let _ = first.compare_exchange(0, accepted + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        if let Some(why) = known.and_then(|known| known.lost.clone()) {
            self.0.continuity.lose(&why);
            return Err(OwnersError::HistoryWentBack(why));
        }
        let now = match self.0.bucket.position().await {
            Ok(now) => now,
            Err(SetupError::Truth(error)) => return Err(error.into()),
            // A bucket that is gone is no history yet; one that is made again has another birth.
            Err(other) => return Err(TruthError::Refused(other.to_string()).into()),
        };
        let anchor = now.newest_at.map(|at| (now.newest, at));
        let mut now = ProjectionPosition {
            created: now.created,
            sequence: now.newest,
            anchor,
            lost: None,
            accepted: None,
        };
        if let Some(known) = known {
            if known.created != now.created {
                let reason = format!(
                    "it was made at {}, and is one of {}",
                    known.created, now.created
                );
                return Err(self.record_loss(reason).await);
            }
            if now.sequence < known.sequence {
                if self.0.bucket.publish_barrier().await? <= known.sequence {
                    let reason = format!(
                        "its newest record was {}, and is {}",
                        known.sequence, now.sequence
                    );
                    return Err(self.record_loss(reason).await);
                }
                now = known.clone();
            }
            self.check_anchor(known).await?;
        }
        self.0
            .continuity
            .newest
            .fetch_max(now.sequence, Ordering::Relaxed);
        if let Some((_, at)) = now.anchor {
            self.0
                .continuity
                .newest_at_ms
                .fetch_max(at.millis(), Ordering::Relaxed);
        }
        Ok(now)
    }

    /// Whether the record at a known sequence is the one that was there: a bucket that was restored may have grown past
    /// it since.
    async fn check_anchor(&self, known: &ProjectionPosition) -> Result<(), OwnersError> {
        let Some((sequence, at)) = known.anchor else {
            return Ok(());
        };
        // It may have been overwritten since, which tells nothing.
        match self.0.bucket.time_of(sequence).await? {
            Some(found) if found != at => Err(self
                .record_loss(format!(
                    "another record stands at {sequence}, of another time"
                ))
                .await),
            _ => Ok(()),
        }
    }

    async fn record_loss(&self, reason: String) -> OwnersError {
        self.0.continuity.lose(&reason);
        let accepted = self
            .0
            .continuity
            .accepted
            .load(Ordering::Relaxed)
            .saturating_sub(1);
        if let Err(error) = self
            .0
            .store
            .remember_lost(self.bucket_name(), &reason, accepted)
            .await
        {
            warn!(%error, "that the bucket's history went back could not be written down");
        }
        OwnersError::HistoryWentBack(reason)
    }

    /// Names in the log each owner whom this shard hosts and of whom it has more than the truth.
    pub(super) async fn log_lost_owners(&self) -> Result<usize, OwnersError> {
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

    async fn newest_of(&self, owner: &crate::seal::OwnerKey) -> Result<Version, OwnersError> {
        let Delta { records, .. } = self.0.bucket.since(owner, Version::NONE).await?;
        Ok(records
            .last()
            .map(|record| record.version)
            .unwrap_or_default())
    }
}
