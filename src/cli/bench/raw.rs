//! The raw figures: what the same servers do on the same road without the service.

use super::bare::{self, BareWorker};
use super::bucket::RawBucket;
use super::drive::Work;
use super::random::Random;
use super::road::NO_REPLY;
use super::tally::End;
use crate::shard::BareRows;
use async_nats::Client;
use std::sync::Arc;
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

/// The connections of the raw figures, each with the rights that it needs.
pub(super) struct Connections {
    /// Those of the load.
    pub callers: Vec<Client>,
    /// As the workers' connection to callers. They are [`WORKERS`].
    pub fronts: Vec<Client>,
    /// As the workers' connection to the bucket.
    pub buckets: Vec<Client>,
    /// As `maintain`, which may purge.
    pub maintainer: Client,
    /// The URL of the Postgres of a shard.
    pub postgres_url: String,
    /// The JetStream domain of the bucket; empty: the server's own.
    pub domain: String,
}

/// All that the raw figures need.
pub(super) struct Raw {
    callers: Vec<Client>,
    maintainer: Client,
    bucket: Arc<RawBucket>,
    rows: Arc<BareRows>,
    subjects: String,
    _workers: Vec<BareWorker>,
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
    /// How many connections as front there have to be.
    pub const FRONTS: usize = WORKERS;

    /// Writes the records that the figures need, and starts the bare workers.
    pub async fn start(
        connections: Connections,
        (owners, items): (usize, usize),
        item_bytes: usize,
    ) -> anyhow::Result<Self> {
        let counts = (owners.min(OWNERS_MAX), items);
        let record_bytes = item_bytes + RECORD_BYTES;
        let bucket = RawBucket::new(
            connections.buckets,
            &connections.domain,
            counts,
            record_bytes,
        );
        let bucket = Arc::new(bucket);
        // What an earlier run left behind has versions that this one does not know.
        bucket.purge(&connections.maintainer).await?;
        bucket.fill().await?;
        let rows = Arc::new(BareRows::open(&connections.postgres_url).await?);

        // A shard that no worker has.
        let shard = Uuid::now_v7().simple().to_string();
        let subjects = format!("favorites.v1.shard.bench-{}", &shard[20..]);
        let mut workers = Vec::new();
        for front in connections.fronts {
            let reply_bytes = item_bytes + REPLY_BYTES;
            let (bucket, rows) = (bucket.clone(), rows.clone());
            workers.push(BareWorker::start(front, &subjects, bucket, rows, reply_bytes).await?);
        }

        Ok(Self {
            callers: connections.callers,
            maintainer: connections.maintainer,
            bucket,
            rows,
            subjects,
            _workers: workers,
        })
    }

    /// Removes the records and the rows.
    pub async fn clean_up(&self) -> anyhow::Result<()> {
        self.bucket.purge(&self.maintainer).await?;

        self.rows.remove().await
    }

    async fn ask(&self, caller: usize, operation: &str, body: String) -> bool {
        let subject = format!("{}.{operation}", self.subjects);
        let client = &self.callers[caller % self.callers.len()];

        let reply = client.request(subject, body.into()).await;
        reply.is_ok_and(|reply| !reply.payload.is_empty())
    }
}

impl Work for RawWork {
    async fn request(&self, caller: usize, random: &mut Random) -> (&'static str, End) {
        let Self { raw, kind, callers } = self;
        // Each caller has owners of its own, if there are enough: nobody waits for another.
        let owners = raw.bucket.owners();
        let own = caller + callers * random.below(owners / callers);
        let (owner, item) = (own % owners, random.below(raw.bucket.items));
        let body = || bare::body(owner, item);

        let is_done = match kind {
            Kind::Echo => raw.ask(caller, bare::ECHO, body()).await,
            Kind::Head => raw.bucket.head(owner).await,
            Kind::CompareAndSet => raw.bucket.compare_and_set(owner, item).await.is_some(),
            Kind::BareGet => raw.ask(caller, bare::GET, body()).await,
            Kind::BarePut => raw.ask(caller, bare::PUT, body()).await,
        };
        let end = match is_done {
            true => End::Answered,
            false => End::Unanswered(NO_REPLY),
        };
        (kind.name(), end)
    }
}
