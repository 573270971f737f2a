//! Continuity: whether the bucket still has the history that it once acknowledged. An operator may
//! have restored it from an older backup, or created it again.
//!
//! After a loss, the old and the new history are never mixed. The projection stops. Every read is
//! confirmed, which shows whether the owner is affected: affected owners are served from their
//! copies, as stale, all others as before.

use super::{Owners, OwnersError};
use crate::domain::{Timestamp, Version};
use crate::shard::ProjectionPosition;
use crate::truth::{Delta, Lineage, SetupError, TruthError};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{error, warn};

/// How often the bucket is compared with its earlier positions.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two looks at records that the bucket had, in multiples of the time that a look
/// took: over a slow link a heavy record would take it all.
const ANCHOR_REST_FACTOR: u32 = 20;
/// The longest such pause.
const ANCHOR_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The most owners read from Postgres at once.
const PAGE_OWNERS_MAX: i64 = 500;

/// What this worker knows of the bucket's history.
#[derive(Debug, Default)]
pub struct Continuity {
    lost: AtomicBool,
    newest: AtomicU64,
    /// When the newest record was stored, in milliseconds since the Unix epoch; 0 while unknown.
    newest_at_ms: AtomicI64,
    /// One more than the number of losses that operators had accepted on this shard when this worker
    /// last looked; 0 before that.
    accepted: AtomicU64,
    /// The cursor at which the projection stands while the truth is ahead of it, and since when.
    stalled: Mutex<Option<(u64, Instant)>>,
}

impl Continuity {
    /// Whether the bucket has lost what it once acknowledged.
    ///
    /// It stays lost for this worker, and for every worker that starts later with this shard's
    /// Postgres.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The bucket's newest stream sequence that this worker has seen.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// The age of the newest record that this worker has seen in the bucket; `None` before the
    /// first.
    pub fn newest_age(&self) -> Option<Duration> {
        let at = Some(self.newest_at_ms.load(Ordering::Relaxed)).filter(|at| *at != 0)?;
        let age_ms = u64::try_from(Timestamp::now().millis() - at).unwrap_or_default();
        Some(Duration::from_millis(age_ms))
    }

    /// How long the projection has made no step while the truth was ahead; `None` while it keeps
    /// up.
    pub(super) fn behind(&self) -> Option<Duration> {
        self.stalled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|(_, since)| since.elapsed())
    }

    /// Records that the projection stands at `cursor` now. `newest` is an earlier position of the
    /// bucket.
    fn note_progress(&self, cursor: u64, newest: u64) {
        let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        match *stalled {
            _ if cursor >= newest => *stalled = None,
            Some((at, _)) if at == cursor => {}
            _ => *stalled = Some((cursor, Instant::now())),
        }
    }

    /// Tells how often operators have accepted a loss on this shard, as far as this worker knows.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Records how often operators have accepted a loss. Returns whether that was once more since this
    /// worker last looked.
    fn note_accepted(&self, accepted: u64) -> bool {
        let before = self.accepted.swap(accepted + 1, Ordering::AcqRel);
        before != 0 && before < accepted + 1
    }

    /// Forgets the loss, because an operator has accepted the bucket as it is.
    pub(crate) fn reset(&self) {
        self.accepted.store(0, Ordering::Relaxed);
        self.newest.store(0, Ordering::Relaxed);
        self.lost.store(false, Ordering::Release);
    }

    fn mark_lost(&self, reason: &str) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            error!(
                error = reason,
                "the bucket has lost history: the projection stops, and every read is confirmed"
            );
        }
    }
}

impl Owners {
    /// Checks the bucket once a second, against where this worker last saw it and where this
    /// shard's projection has come. Never returns.
    pub async fn watch_continuity(&self) {
        // The position that the next look at the anchors compares with.
        let mut last_seen: Option<ProjectionPosition> = None;
        let mut newest = None;
        let mut anchors_due = Instant::now();
        loop {
            if let Some(newest) = newest {
                self.0
                    .continuity
                    .note_progress(self.0.cursor.sequence(), newest);
            }

            // Postgres is read before the bucket, so the bucket is never behind it unless it has
            // lost history.
            let projected = self
                .0
                .store
                .reached(self.bucket_name())
                .await
                .unwrap_or_default();
            let is_known = projected.is_some();
            let begun = Instant::now();
            let anchors = begun >= anchors_due;
            if self.give_up_accepted(projected.as_ref()) {
                last_seen = None;
            }
            let mut checked = self.check_as_a_read(projected.as_ref(), anchors).await;

            // A restored bucket that has all that the shard has seen may lack a barrier that this
            // worker has seen.
            let is_other = |seen: &ProjectionPosition| {
                let now = checked.as_ref();
                is_known && now.is_ok_and(|now| now.created != seen.created)
            };
            last_seen = last_seen.filter(|seen| !is_other(seen));
            if checked.is_ok() && last_seen.is_some() {
                checked = self.check_as_a_read(last_seen.as_ref(), anchors).await;
            }
            if anchors && checked.is_ok() {
                let pause = begun.elapsed() * ANCHOR_REST_FACTOR;
                anchors_due = Instant::now() + pause.min(ANCHOR_PAUSE_MAX);
            }

            match checked {
                Ok(now) => {
                    newest = Some(now.sequence);
                    if let Some(seen) = last_seen.as_mut().filter(|_| !anchors) {
                        seen.sequence = now.sequence;
                    } else {
                        let accepted = projected.and_then(|projected| projected.accepted);
                        let before = last_seen.and_then(|seen| seen.accepted);
                        last_seen = Some(ProjectionPosition {
                            accepted: accepted.or(before),
                            ..now
                        });
                    }
                }
                Err(OwnersError::HistoryWentBack(_)) => {}
                Err(error) => warn!(%error, "cannot check whether the bucket has lost history"),
            }

            self.0.bucket.look_for_room().await;
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Drops what this worker has in memory of the owners if an operator has accepted a loss since it
    /// last looked: their copies in Postgres are those of the bucket now. Returns whether it did.
    ///
    /// A worker that knows that the bucket as a whole has lost history keeps everything until it is
    /// restarted.
    fn give_up_accepted(&self, projected: Option<&ProjectionPosition>) -> bool {
        let accepted = projected.and_then(|projected| projected.accepted);
        let is_news = !self.0.continuity.is_lost()
            && accepted.is_some_and(|accepted| self.0.continuity.note_accepted(accepted));

        if is_news {
            warn!("an operator has accepted a loss: owners are loaded again");
            self.forget_owners();
        }
        is_news
    }

    /// Does the same as [`compare`](Self::compare). The check counts as a read, so that the breaker
    /// notices a hanging bucket even if no request comes.
    async fn check_as_a_read(
        &self,
        earlier: Option<&ProjectionPosition>,
        anchors: bool,
    ) -> Result<ProjectionPosition, OwnersError> {
        let attempt = self.0.bucket.reading().admit();
        let checked = self.compare(earlier, anchors).await;
        if let Some(attempt) = attempt.filter(|_| !matches!(checked, Err(OwnersError::Truth(_)))) {
            attempt.answered();
        }

        checked
    }

    /// Compares the bucket with an earlier position, and returns its position now.
    ///
    /// A leader that was paused may report old data for a moment. So a sequence that looks lower is
    /// confirmed by a write.
    ///
    /// # Errors
    ///
    /// [`OwnersError::HistoryWentBack`] if the bucket has lost history, now or earlier.
    pub(crate) async fn check_continuity(
        &self,
        earlier: Option<&ProjectionPosition>,
    ) -> Result<ProjectionPosition, OwnersError> {
        self.compare(earlier, true).await
    }

    /// Does the same as [`check_continuity`](Self::check_continuity), and looks at the record of the
    /// earlier position only with `anchors`.
    async fn compare(
        &self,
        earlier: Option<&ProjectionPosition>,
        anchors: bool,
    ) -> Result<ProjectionPosition, OwnersError> {
        if let Some(reason) = earlier.and_then(|earlier| earlier.lost.clone()) {
            self.0.continuity.mark_lost(&reason);
            return Err(OwnersError::HistoryWentBack(reason));
        }

        let (mut now, lineage) = self.bucket_position().await?;
        self.0.following.note_bucket(&now.created);
        match earlier {
            Some(earlier) if earlier.created != now.created => {
                now.continued = continued(earlier, &lineage);
                if now.continued.is_none() {
                    let reason = format!(
                        "it was created at {}, but the present bucket at {}",
                        earlier.created, now.created
                    );
                    return Err(self.record_loss(earlier, reason).await);
                }
            }
            Some(earlier) => {
                if now.sequence < earlier.sequence {
                    if self.0.bucket.publish_barrier().await? <= earlier.sequence {
                        let reason = format!(
                            "its newest sequence was {}, and is {} now",
                            earlier.sequence, now.sequence
                        );
                        return Err(self.record_loss(earlier, reason).await);
                    }
                    now = earlier.clone();
                }
                if anchors {
                    self.check_anchor(earlier).await?;
                }
            }
            None => {}
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

    /// Returns the bucket's newest position, as the server reports it, and the bucket's lineage.
    async fn bucket_position(&self) -> Result<(ProjectionPosition, Lineage), OwnersError> {
        let position = match self.0.bucket.position().await {
            Ok(position) => position,
            Err(SetupError::Truth(error)) => return Err(error.into()),
            // A missing bucket is not a loss yet. One that is created again has another creation
            // time.
            Err(other) => return Err(TruthError::Refused(other.to_string()).into()),
        };

        let now = ProjectionPosition {
            created: position.created,
            sequence: position.newest,
            anchor: position.newest_at.map(|at| (position.newest, at)),
            lost: None,
            accepted: None,
            continued: None,
        };
        Ok((now, position.lineage))
    }

    /// Checks that the record at the earlier position is still the same. A restored bucket may have
    /// grown past that sequence since.
    async fn check_anchor(&self, earlier: &ProjectionPosition) -> Result<(), OwnersError> {
        let Some((sequence, at)) = earlier.anchor else {
            return Ok(());
        };

        // A record that is no longer there proves nothing: it may have been superseded.
        match self.0.bucket.time_of(sequence).await? {
            Some(found) if found != at => {
                let reason = format!(
                    "the record at sequence {sequence} is another one, stored at another time"
                );
                Err(self.record_loss(earlier, reason).await)
            }
            _ => Ok(()),
        }
    }

    /// Stores in Postgres that the bucket has lost history since that earlier position, unless an
    /// operator has accepted a loss since. Returns the error that says so.
    async fn record_loss(&self, earlier: &ProjectionPosition, reason: String) -> OwnersError {
        self.0.continuity.mark_lost(&reason);

        let accepted = earlier.accepted.unwrap_or_default();
        if let Err(error) = self
            .0
            .store
            .remember_lost(self.bucket_name(), &reason, accepted)
            .await
        {
            warn!(%error, "cannot record that the bucket has lost history");
        }

        OwnersError::HistoryWentBack(reason)
    }

    /// Logs each hosted owner whose copy here has more than the truth. Returns how many there are.
    pub(super) async fn log_lost_owners(&self) -> Result<usize, OwnersError> {
        let mut after = None;
        let mut lost = 0;
        loop {
            let page = self
                .0
                .store
                .hosted_versions(after.as_ref(), PAGE_OWNERS_MAX)
                .await?;
            for (owner, held) in &page {
                let delta = self.0.bucket.since_confirmed(owner, *held).await?;
                if !held.is_none() && !delta.records.iter().any(|record| record.version >= *held) {
                    let found = self.newest_version(owner).await?;
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

    async fn newest_version(&self, owner: &crate::seal::OwnerKey) -> Result<Version, OwnersError> {
        let Delta { records, .. } = self.0.bucket.since(owner, Version::NONE).await?;
        Ok(records
            .last()
            .map(|record| record.version)
            .unwrap_or_default())
    }
}

/// Returns the earlier bucket that a restored one continues, and up to which sequence, if that is
/// all that was seen up to the earlier position.
///
/// Behind the last record that was seen there were only barriers. They need not be in the backup.
fn continued(earlier: &ProjectionPosition, lineage: &Lineage) -> Option<(String, u64)> {
    let seen = earlier
        .anchor
        .map_or(earlier.sequence, |(sequence, _)| sequence);
    let covers = |created: &str| {
        let complete_to = lineage.continues(created, seen)?;
        Some((created.to_owned(), complete_to))
    };

    // The same backup may be restored twice: then the restored bucket does not know the one that
    // this shard followed last, but knows the one before.
    covers(&earlier.created).or_else(|| {
        let (created, complete_to) = earlier.continued.as_ref()?;
        covers(created).filter(|_| seen <= *complete_to)
    })
}
