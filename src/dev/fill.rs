//! Fills the bucket of a running development platform with owners, to measure how the platform
//! behaves at a size.
//!
//! It seals the records with the platform's keys and writes them as a worker does, with a
//! compare-and-set for each owner; so everything accepts them. Only one thing is different: one batch
//! has the writes of several owners. It writes no deletions and no second versions.

use super::connect;
use super::fill_owner::FilledOwner;
use super::secrets::Secrets;
use super::state::{RunningPlatform, secrets_file};
use super::tokens::ISSUER;
use crate::domain::{ItemLimits, Text, Version};
use crate::requester::{CallError, Requester};
use crate::seal::{Keyring, OwnerKey, UserId};
use crate::truth::{AppendError, BATCH_RECORDS_MAX, Bucket, TruthError, TruthSettings};
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tokio::time::{Duration, Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// The most items of an owner: the default of the setting `limits.keys`.
pub const ITEMS_MAX: u16 = 1_000;
/// The most items of one write: with the owner's key, it has as many records as a worker's batch.
const WRITE_ITEMS_MAX: usize = 99;
/// How many connections to the bucket there are. A worker has one, and opens few batches on it.
const CONNECTIONS: usize = 4;
/// How many groups of owners are written at the same time. The owners of a group are written in one
/// batch, because the bucket syncs each batch to its disk.
const CONCURRENT_GROUPS_MAX: usize = 16;
/// How long one write may take, and how often it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
const WRITE_TRIES_MAX: usize = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How many of the bucket's owners are listed at once.
const PAGE_OWNERS_MAX: usize = 1_000;

/// What the bucket is filled with.
#[derive(Clone, Debug)]
pub struct FillOptions {
    /// How many owners there are in the end.
    pub owners: u64,
    /// How many items each has.
    pub items: u16,
    /// The bytes of an item's text.
    pub bytes: usize,
    /// The owners are the users `SEED-0`, `SEED-1` and so on.
    pub seed: String,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// The owners that were written.
    pub owners: u64,
    /// Their records, the keys included.
    pub records: u64,
    /// The owners that were there before.
    pub there: u64,
    /// How long the writes took.
    pub took: Duration,
}

/// Writes each owner that the bucket does not have yet. Calls `on_progress` with the number of owners
/// that are there, and of all.
///
/// # Errors
///
/// No platform runs there, or its bucket refuses a write or does not answer.
pub async fn fill(
    state: &Path,
    options: FillOptions,
    mut on_progress: impl FnMut(u64, u64),
) -> anyhow::Result<Filled> {
    let platform = RunningPlatform::find(state)?;
    let secrets = Secrets::load(&secrets_file(state)?)?;
    let keyring = Keyring::from_base64(&secrets.identity, &secrets.encryption)?;
    let buckets = open_buckets(&platform, &secrets, &keyring).await?;
    let there = owners_of(&buckets[0]).await?;

    let total = options.owners;
    let group_owners = group_owners(options.items);
    let filler = Arc::new(Filler {
        keyring,
        buckets,
        there,
        text: sample_text(options.bytes)?,
        options,
    });
    let begun = Instant::now();
    let mut filled = Filled {
        owners: 0,
        records: 0,
        there: 0,
        took: Duration::ZERO,
    };

    let groups = (0..total).step_by(group_owners).map(|first| {
        let filler = filler.clone();
        let numbers = first..total.min(first + group_owners as u64);
        let writing = tokio::spawn(async move { filler.write_group(numbers).await });
        AbortOnDropHandle::new(writing)
    });
    let mut groups = futures::stream::iter(groups).buffer_unordered(CONCURRENT_GROUPS_MAX);
    while let Some(group) = groups.next().await {
        let group = group.context("a task ended")??;
        filled.owners += group.owners;
        filled.records += group.records;
        filled.there += group.there;
        on_progress(filled.owners + filled.there, total);
    }

    filled.took = begun.elapsed();
    Ok(filled)
}

/// Connects to the server that has the bucket, as a worker does.
async fn open_buckets(
    platform: &RunningPlatform,
    secrets: &Secrets,
    keyring: &Keyring,
) -> anyhow::Result<Vec<Bucket>> {
    let hub = platform.description()["servers"]["hub"]["nats_url"].as_str();
    let url = match hub {
        Some(url) => url,
        None => platform.nats_url()?,
    };

    let mut buckets = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = connect::connect(secrets, "worker", url, "gofavorites dev fill").await?;
        let requester = Requester::start(client).await?;
        let settings = TruthSettings {
            call_ms: WRITE_TIMEOUT.as_millis() as u64,
            ..TruthSettings::default()
        };
        let bucket = Bucket::without_barriers(requester, settings);
        bucket.check(keyring.fingerprints()).await?;
        buckets.push(bucket);
    }

    Ok(buckets)
}

/// Returns the owners that the bucket has.
async fn owners_of(bucket: &Bucket) -> Result<HashSet<OwnerKey>, TruthError> {
    let mut list = bucket.list_owners().await?;
    let mut owners = HashSet::new();
    loop {
        let page = list.next_page(PAGE_OWNERS_MAX).await?;
        if page.is_empty() {
            return Ok(owners);
        }
        owners.extend(page);
    }
}

/// A text of that many bytes.
fn sample_text(bytes: usize) -> anyhow::Result<Text> {
    let words = "filled by dev fill, to measure at a size. ";
    let text: String = words.chars().cycle().take(bytes).collect();

    Ok(Text::parse(&text, &ItemLimits::default())?)
}

/// Writes owners.
struct Filler {
    keyring: Keyring,
    buckets: Vec<Bucket>,
    /// The owners that the bucket had at the beginning.
    there: HashSet<OwnerKey>,
    text: Text,
    options: FillOptions,
}

impl Filler {
    /// Writes the owners of those numbers, apart from those that the bucket has.
    async fn write_group(&self, numbers: Range<u64>) -> anyhow::Result<Filled> {
        let group = numbers.start as usize / group_owners(self.options.items);
        let bucket = &self.buckets[group % CONNECTIONS];
        let all = numbers.end - numbers.start;
        let users = numbers.map(|number| {
            let subject = format!("{}-{number}", self.options.seed);
            UserId::new(ISSUER, subject)
        });
        let mut owners: Vec<_> = users
            .filter(|user| !self.there.contains(&self.keyring.owner(user)))
            .map(|user| FilledOwner::new(&self.keyring, user))
            .collect();

        let items: Vec<u16> = (0..self.options.items).collect();
        for items in items.chunks(WRITE_ITEMS_MAX) {
            for owner in &mut owners {
                owner.seal(&self.keyring, bucket.format(), &self.text, items)?;
            }
            self.append(bucket, &mut owners).await?;
            // An owner whom somebody else wrote is left to them.
            owners.retain(|owner| owner.records > 0);
        }

        let written = owners.len() as u64;
        Ok(Filled {
            owners: written,
            records: owners.iter().map(|owner| owner.records).sum(),
            there: all - written,
            took: Duration::ZERO,
        })
    }

    /// Publishes the owners' next writes in one batch. If somebody wrote one of the owners meanwhile,
    /// it publishes each for itself: another run, or this one without an answer.
    async fn append(&self, bucket: &Bucket, owners: &mut [FilledOwner]) -> anyhow::Result<()> {
        if owners.is_empty() {
            return Ok(());
        }
        if let Some(last) = append(bucket, owners).await? {
            let mut last = last.get();
            for owner in owners.iter_mut().rev() {
                last = owner.note_written(&self.keyring, last)?;
            }
            return Ok(());
        }

        for owner in owners {
            if let Some(last) = append(bucket, std::slice::from_ref(owner)).await? {
                owner.note_written(&self.keyring, last.get())?;
            }
        }
        Ok(())
    }
}

/// How many owners are written at once: as many as fit into one batch.
fn group_owners(items: u16) -> usize {
    let records = WRITE_ITEMS_MAX.min(items.into()) + 1;

    BATCH_RECORDS_MAX / records
}

/// Publishes the next writes of the owners as one, again if the bucket does not answer. Returns the
/// version of the last record; `None` if an owner has another version than expected.
async fn append(bucket: &Bucket, owners: &[FilledOwner]) -> anyhow::Result<Option<Version>> {
    let writes: Vec<_> = owners.iter().map(FilledOwner::write).collect();
    let mut tries = 1;
    loop {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        let error = match bucket.append_all(&writes, deadline).await {
            Ok(last) => return Ok(Some(last)),
            Err(AppendError::Conflict) => return Ok(None),
            Err(error) => error,
        };

        let may_pass = matches!(
            error,
            AppendError::Busy
                | AppendError::InDoubt
                | AppendError::NotWritten(TruthError::Unavailable(CallError::TimedOut))
                | AppendError::NotWritten(TruthError::Unavailable(CallError::NotConnected))
                | AppendError::NotWritten(TruthError::Unavailable(CallError::KnownUnavailable))
        );
        if !may_pass || tries >= WRITE_TRIES_MAX {
            bail!("the bucket did not take a write: {error}");
        }
        tries += 1;
        sleep(RETRY_PAUSE).await;
    }
}
