//! The bucket, as the raw figures reach it: the calls of a worker, and nothing around them.

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The first part of the owners' keys. No owner has such a key, so no worker takes them for records.
const OWNER_PREFIX: &str = "_bench";
/// How many records are written or removed at the same time in the beginning and at the end.
const CONCURRENT_CALLS: usize = 64;
/// How long the removal of an owner's records may take.
const PURGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Records of owners that exist only for the raw figures.
pub(super) struct RawBucket {
    /// The connections, as a worker. At least one.
    pub clients: Vec<Client>,
    /// What the API's subjects begin with: `$JS.API`, or that of a domain.
    pub api: String,
    pub items: usize,
    pub record: Bytes,
    /// The version of each owner.
    versions: Vec<Mutex<u64>>,
}

/// The answer to a publish.
#[derive(Deserialize)]
struct Ack {
    seq: Option<u64>,
}

impl RawBucket {
    /// Creates the owners, without records.
    pub fn new(
        clients: Vec<Client>,
        domain: &str,
        (owners, items): (usize, usize),
        record_bytes: usize,
    ) -> Self {
        let api = match domain {
            "" => "$JS.API".to_owned(),
            domain => format!("$JS.{domain}.API"),
        };

        Self {
            clients,
            api,
            items,
            record: vec![b'x'; record_bytes].into(),
            versions: std::iter::repeat_with(|| Mutex::new(0))
                .take(owners)
                .collect(),
        }
    }

    /// How many owners there are.
    pub fn owners(&self) -> usize {
        self.versions.len()
    }

    /// Writes each owner's records.
    pub async fn fill(&self) -> anyhow::Result<()> {
        let all =
            (0..self.owners()).flat_map(|owner| (0..self.items).map(move |item| (owner, item)));
        let writes = all.map(|(owner, item)| self.compare_and_set(owner, item));
        let written = futures::stream::iter(writes).buffer_unordered(CONCURRENT_CALLS);
        let refused = written.filter(|written| std::future::ready(written.is_none()));
        let refused = refused.count().await;

        anyhow::ensure!(refused == 0, "the bucket refused {refused} records");
        Ok(())
    }

    /// Removes all of it, as a user who may purge, and who is connected where the bucket is.
    pub async fn purge(&self, maintainer: &Client) -> anyhow::Result<()> {
        let subject = "$JS.API.STREAM.PURGE.KV_favorites";
        let purges = (0..self.owners()).map(|owner| {
            let filter = json!({"filter": filter(owner)}).to_string();
            let reply = maintainer.request(subject, filter.into());
            async move {
                let reply = timeout(PURGE_TIMEOUT, reply).await??;
                let is_done = !reply.payload.windows(7).any(|part| part == b"\"error\"");
                anyhow::ensure!(is_done, "the bucket did not purge an owner");
                Ok(())
            }
        });

        let purges = futures::stream::iter(purges).buffer_unordered(CONCURRENT_CALLS);
        purges.try_collect().await
    }

    /// Asks for the newest record of an owner. Returns whether it came.
    pub async fn head(&self, owner: usize) -> bool {
        let subject = format!("{}.DIRECT.GET.KV_favorites", self.api);
        let query = json!({"last_by_subj": filter(owner)}).to_string();

        let reply = self.client(owner).request(subject, query.into()).await;
        reply.is_ok_and(|reply| !reply.payload.is_empty())
    }

    /// Writes a record if the owner's version is still the one that is known. Returns its version;
    /// `None` if it is not written.
    pub async fn compare_and_set(&self, owner: usize, item: usize) -> Option<u64> {
        let mut version = self.versions.get(owner)?.lock().await;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", version.to_string());
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", filter(owner));
        headers.insert("Nats-Expected-Stream", "KV_favorites");

        let subject = self.published(owner, item);
        let reply = self
            .client(owner)
            .request_with_headers(subject, headers, self.record.clone())
            .await;
        let ack = reply.ok().and_then(|reply| {
            let ack: Ack = serde_json::from_slice(&reply.payload).ok()?;
            ack.seq
        });
        if let Some(sequence) = ack {
            *version = sequence;
        }
        ack
    }

    fn published(&self, owner: usize, item: usize) -> String {
        let subject = format!("$KV.favorites.{OWNER_PREFIX}{owner}.i{item}");
        match self.api.as_str() {
            "$JS.API" => subject,
            // A leaf passes on what is sent to the domain of its hub.
            api => format!("{api}.{subject}"),
        }
    }

    fn client(&self, owner: usize) -> &Client {
        &self.clients[owner % self.clients.len()]
    }
}

/// All records of an owner.
fn filter(owner: usize) -> String {
    format!("$KV.favorites.{OWNER_PREFIX}{owner}.>")
}
