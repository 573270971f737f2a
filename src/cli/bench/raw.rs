//! The raw figures: what the same servers do on the same road without the service.

use super::bare::{self, BareProcess, BareSettings, Body, Reply};
use super::bucket::{CONCURRENT_CALLS, RawBucket};
use super::drive::Work;
use super::random::Random;
use super::road::NO_REPLY;
use super::tally::End;
use crate::shard::BareRows;
use async_nats::Client;
use futures::StreamExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;
use uuid::Uuid;

/// The most owners of the raw figures.
const OWNERS_MAX: usize = 2_000;
/// How many bare workers there are: as many as a shard has at least, in production.
const WORKERS: usize = 2;
/// What a reply with an item, and a sealed record, have beyond the text of the item, in bytes.
const REPLY_BYTES: usize = 230;
const RECORD_BYTES: usize = 300;

/// What is measured, in the order of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request that a bare worker answers at once.
    Echo,
    /// A direct get of an owner's newest record.
    Head,
    /// A publish with a compare-and-set on an owner.
    CompareAndSet,
    /// A request, a head, a reply.
    BareGet,
    /// A request, a compare-and-set, a row in Postgres, a reply.
    BarePut,
}

/// Where the raw figures are measured, with the rights that they need.
pub(super) struct Connections {
    /// Those of the load.
    pub callers: Vec<Client>,
    /// As the workers' connection to the bucket.
    pub buckets: Vec<Client>,
    /// As `maintain`, which may purge.
    pub maintainer: Client,
    /// The state of the platform, from which bare workers take their secrets.
    pub state: PathBuf,
    /// The NATS server of the shard.
    pub url: String,
    /// The URL of the Postgres of the shard.
    pub postgres_url: String,
    /// The JetStream domain of the bucket; empty: the server's own.
    pub domain: String,
}

/// All that the raw figures need.
pub(super) struct Raw {
    callers: Vec<Client>,
    maintainer: Client,
    bucket: RawBucket,
    /// The version of each owner.
    versions: Vec<Mutex<u64>>,
    items: usize,
    postgres_url: String,
    subjects: String,
    _workers: Vec<BareProcess>,
}

/// One of the figures.
pub(super) struct RawWork {
    pub raw: Arc<Raw>,
    pub kind: Kind,
    pub callers: usize,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Echo,
        Self::Head,
        Self::CompareAndSet,
        Self::BareGet,
        Self::BarePut,
    ];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Head => "head",
            Self::CompareAndSet => "compare_and_set",
            Self::BareGet => "bare_get",
            Self::BarePut => "bare_put",
        }
    }
}

impl Raw {
    /// Writes the records that the figures need, and starts the bare workers.
    pub async fn start(
        connections: Connections,
        (owners, items): (usize, usize),
        item_bytes: usize,
    ) -> anyhow::Result<Self> {
        let owners = owners.min(OWNERS_MAX);
        let record_bytes = item_bytes + RECORD_BYTES;
        let bucket = RawBucket::new(connections.buckets, &connections.domain, record_bytes);
        // What an earlier run left behind has versions that this one does not know.
        RawBucket::purge(owners, &connections.maintainer).await?;
        BareRows::create(&connections.postgres_url).await?;

        // A shard that no worker has.
        let shard = Uuid::now_v7().simple().to_string();
        let subjects = format!("favorites.v1.shard.bench-{}", &shard[20..]);
        let settings = BareSettings {
            url: connections.url,
            domain: connections.domain,
            postgres_url: connections.postgres_url.clone(),
            subjects: subjects.clone(),
            record_bytes,
            reply_bytes: item_bytes + REPLY_BYTES,
        };
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(BareProcess::start(&connections.state, &settings).await?);
        }

        let raw = Self {
            callers: connections.callers,
            maintainer: connections.maintainer,
            bucket,
            versions: std::iter::repeat_with(Mutex::default)
                .take(owners)
                .collect(),
            items,
            postgres_url: connections.postgres_url,
            subjects,
            _workers: workers,
        };
        raw.fill().await?;
        Ok(raw)
    }

    /// Writes each owner's records.
    async fn fill(&self) -> anyhow::Result<()> {
        let owners = 0..self.versions.len();
        let all = owners.flat_map(|owner| (0..self.items).map(move |item| (owner, item)));
        let writes = all.map(|(owner, item)| self.compare_and_set(owner, item));
        let written = futures::stream::iter(writes).buffer_unordered(CONCURRENT_CALLS);
        let refused = written.filter(|written| std::future::ready(!written));
        let refused = refused.count().await;

        anyhow::ensure!(refused == 0, "the bucket refused {refused} records");
        Ok(())
    }

    /// Removes the records and the rows.
    pub async fn clean_up(&self) -> anyhow::Result<()> {
        RawBucket::purge(self.versions.len(), &self.maintainer).await?;

        BareRows::remove(&self.postgres_url).await
    }

    /// Writes a record. Returns whether it is written.
    async fn compare_and_set(&self, owner: usize, item: usize) -> bool {
        let mut version = self.versions[owner].lock().await;
        let written = self.bucket.publish(owner, item, *version).await;

        written.map(|written| *version = written).is_some()
    }

    /// Lets a bare worker write a record and its row. Returns whether both are written.
    async fn put(&self, caller: usize, owner: usize, item: usize) -> bool {
        let mut version = self.versions[owner].lock().await;
        let body = Body {
            owner,
            item,
            version: *version,
        };

        let Some(reply) = self.ask(caller, bare::PUT, &body).await else {
            return false;
        };
        *version = reply.version;
        reply.is_done
    }

    /// Returns a bare worker's reply; `None` if it has done nothing.
    async fn ask(&self, caller: usize, operation: &str, body: &Body) -> Option<Reply> {
        let subject = format!("{}.{operation}", self.subjects);
        let client = &self.callers[caller % self.callers.len()];
        let reply = client.request(subject, body.write().into()).await.ok()?;

        Reply::read(&reply.payload)
    }
}

impl Work for RawWork {
    async fn request(&self, caller: usize, random: &mut Random) -> (&'static str, End) {
        let Self { raw, kind, callers } = self;
        // Each caller has owners of its own, if there are enough: nobody waits for another.
        let owners = raw.versions.len();
        let own = caller + callers * random.below(owners / callers);
        let (owner, item) = (own % owners, random.below(raw.items));
        let body = Body {
            owner,
            item,
            version: 0,
        };

        let is_done = match kind {
            Kind::Echo => raw.ask(caller, bare::ECHO, &body).await.is_some(),
            Kind::Head => raw.bucket.head(owner).await,
            Kind::CompareAndSet => raw.compare_and_set(owner, item).await,
            Kind::BareGet => raw.ask(caller, bare::GET, &body).await.is_some(),
            Kind::BarePut => raw.put(caller, owner, item).await,
        };
        let end = match is_done {
            true => End::Answered,
            false => End::Unanswered(NO_REPLY),
        };
        (kind.name(), end)
    }
}
