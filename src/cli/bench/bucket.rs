//! The bucket, as the raw figures reach it: the calls of a worker, and nothing around them.

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// The first part of the owners' keys. No owner has such a key, so no worker takes them for records.
const OWNER_PREFIX: &str = "_bench";
/// How many calls write or remove records at the same time, in the beginning and at the end.
pub(super) const CONCURRENT_CALLS: usize = 64;
/// How long the removal of an owner's records may take.
const PURGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Records of owners that exist only for the raw figures.
pub(super) struct RawBucket {
    /// The connections, as a worker. At least one.
    clients: Vec<Client>,
    /// What the API's subjects begin with: `$JS.API`, or that of a domain.
    api: String,
    pub record: Bytes,
}

/// The answer to a publish.
#[derive(Deserialize)]
struct Ack {
    seq: Option<u64>,
}

impl RawBucket {
    /// Returns the bucket in that JetStream domain; empty: the server's own.
    pub fn new(clients: Vec<Client>, domain: &str, record_bytes: usize) -> Self {
        let api = match domain {
            "" => "$JS.API".to_owned(),
            domain => format!("$JS.{domain}.API"),
        };

        Self {
            clients,
            api,
            record: vec![b'x'; record_bytes].into(),
        }
    }

    /// Removes the records of so many owners, as a user who may purge, and who is connected where the
    /// bucket is.
    pub async fn purge(owners: usize, maintainer: &Client) -> anyhow::Result<()> {
        let subject = "$JS.API.STREAM.PURGE.KV_favorites";
        let purges = (0..owners).map(|owner| {
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

    /// Writes a record if that is still the owner's version: 0 if the owner has none. Returns the version
    /// of the record; `None` if it is not written.
    pub async fn publish(&self, owner: usize, item: usize, version: u64) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", version.to_string());
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", filter(owner));
        headers.insert("Nats-Expected-Stream", "KV_favorites");

        let subject = self.published(owner, item);
        let reply = self
            .client(owner)
            .request_with_headers(subject, headers, self.record.clone())
            .await
            .ok()?;
        let ack: Ack = serde_json::from_slice(&reply.payload).ok()?;
        ack.seq
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
