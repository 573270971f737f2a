//! The rights of a command's NATS user. A refused call waits for an answer that never comes, so the
//! server's report of the refusal ends it.

use super::connect::{ConnectionEvents, MissingRight};
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::{OwnerKey, RecordName};
use crate::truth::{AppendError, Bucket, NewRecord, TruthError};
use bytes::Bytes;
use std::fmt::Display;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// How often is checked whether the server has refused something.
pub(super) const REFUSAL_INTERVAL: Duration = Duration::from_millis(100);
/// How long the answer to a write that is not stored may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// A name that no owner has: it is no keyed hash.
const NOBODY: OwnerKey = OwnerKey::from_bytes([0; 16]);

/// Waits for a call, and ends it once the server has refused something.
pub(super) async fn within_rights<T, E>(
    events: &ConnectionEvents,
    call: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T>
where
    E: Into<anyhow::Error>,
{
    let refused = async {
        loop {
            if let Some(refused) = events.refusal() {
                return refused;
            }
            sleep(REFUSAL_INTERVAL).await;
        }
    };

    tokio::select! {
        ended = call => match (ended, events.refusal()) {
            (Err(_), Some(refused)) => Err(refused.into()),
            (ended, _) => ended.map_err(Into::into),
        },
        refused = refused => Err(refused.into()),
    }
}

/// Uses each right once that `maintain` needs, and fails on one that is missing. Changes no item: it
/// purges up to the beginning, its write expects a version that its owner does not have, and a
/// barrier is nobody's record.
pub(super) async fn check_rights_to_maintain(
    bucket: &Bucket,
    events: &ConnectionEvents,
) -> anyhow::Result<()> {
    let newest = bucket.position().await;
    let newest = report(events, "ask for the bucket", newest).await?;
    let newest = newest.map(|position| position.newest).unwrap_or_default();

    for right in ["read", "follow", "purge", "write"] {
        let used = async {
            match right {
                "read" => bucket.time_of(newest).await.map(drop),
                "follow" => bucket.follow(newest).await.map(drop),
                "purge" => {
                    bucket
                        .purge(&NOBODY, &RecordName::Floor, Version::NONE)
                        .await
                }
                _ => write_nothing(bucket).await,
            }
        };

        let used = within_rights(events, async { Ok::<_, MissingRight>(used.await) }).await?;
        report(events, right, used).await?;
    }

    Ok(())
}

/// Publishes a floor that the server refuses to store, and a barrier.
async fn write_nothing(bucket: &Bucket) -> Result<(), TruthError> {
    let record = NewRecord {
        name: RecordName::Floor,
        value: Bytes::new(),
    };
    let deadline = Instant::now() + WRITE_TIMEOUT;

    match bucket
        .append(&NOBODY, Version::MAX, &[record], deadline)
        .await
    {
        Err(AppendError::NotWritten(error)) => return Err(error),
        Err(AppendError::InDoubt) => return Err(CallError::TimedOut.into()),
        Ok(_) | Err(AppendError::Conflict | AppendError::Full | AppendError::Busy) => {}
    }

    bucket.publish_barrier().await.map(drop)
}

/// Returns the result of using a right. Not every error is a missing right: a server may also be
/// unavailable.
async fn report<T, E: Display>(
    events: &ConnectionEvents,
    right: &str,
    used: Result<T, E>,
) -> anyhow::Result<Option<T>> {
    let error = match used {
        Ok(value) => return Ok(Some(value)),
        Err(error) => error,
    };

    sleep(REFUSAL_INTERVAL).await;
    if let Some(refused) = events.refusal() {
        return Err(refused.into());
    }
    warn!(%error, right, "cannot check at start whether the user may do this");
    Ok(None)
}
