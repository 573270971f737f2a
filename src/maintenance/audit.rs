//! An audit of the bucket: every owner's records are complete, and the keys open them all.
//!
//! It needs the keys and no Postgres, so it can check a bucket that was just restored.

use super::retry::{retry_while, retry_while_unavailable};
use crate::domain::Version;
use crate::owners::{OwnersError, Snapshot};
use crate::seal::{Keyring, OwnerKey};
use crate::truth::Bucket;
use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;
use tracing::error;

/// The most owners listed at once.
const PAGE_OWNERS_MAX: usize = 500;
/// The most owners read at the same time. Each may be heavy.
const CONCURRENT_OWNERS_MAX: usize = 4;
/// How often an owner is read again: a server may be unavailable, or a replica may lack records that
/// the others have already.
const RETRIES_MAX: usize = 6;

/// The counts of one audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditSummary {
    /// The owners in the bucket.
    pub owners: u64,
    /// The owners whose records are not complete, or cannot be opened.
    pub broken: u64,
}

/// Reads every owner of the bucket. Logs each broken one. Calls `on_progress` with about how
/// many records of the bucket it has passed, and how many there are.
pub(super) async fn audit(
    keyring: &Keyring,
    bucket: &Bucket,
    mut on_progress: impl FnMut(u64, u64),
) -> Result<AuditSummary, OwnersError> {
    let mut counts = AuditSummary::default();
    let mut owners = retry_while_unavailable(RETRIES_MAX, || bucket.list_owners()).await?;
    let total = owners.left();

    loop {
        let page = owners.next_page(PAGE_OWNERS_MAX).await?;
        if page.is_empty() {
            return Ok(counts);
        }

        let readings = page.iter().map(|owner| read(keyring, bucket, owner));
        let readings = readings.collect::<Vec<_>>();
        let mut readings = stream::iter(readings).buffer_unordered(CONCURRENT_OWNERS_MAX);
        while let Some(read) = readings.next().await {
            counts.owners += 1;
            if let Err((owner, error)) = read {
                counts.broken += 1;
                error!(%owner, %error, "this owner's records cannot be used");
            }
        }
        on_progress(total.saturating_sub(owners.left()), total);
    }
}

/// Opens everything that an owner has.
async fn read(
    keyring: &Keyring,
    bucket: &Bucket,
    owner: &OwnerKey,
) -> Result<(), (OwnerKey, OwnersError)> {
    let attempt = || async {
        let records = bucket.since(owner, Version::NONE).await?.records;
        let snapshot = Snapshot::of_records(keyring, *owner, records, None)?;

        for item in snapshot.items()? {
            snapshot.hidden(item)?;
        }
        Ok(())
    };

    // A replica that lacks records makes an owner look broken.
    let may_pass = |_: &OwnersError| true;
    retry_while(RETRIES_MAX, may_pass, attempt)
        .await
        .map_err(|error| (*owner, error))
}
