//! A bucket that an earlier release wrote, read from a file: its stream, its messages, and the
//! replies of that release about its owners.

use super::caller::Caller;
use super::world::World;
use async_nats::{Client, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The subject of messages that only fill the sequences of which the bucket no longer had messages.
const GAP_SUBJECT: &str = "$KV.favorites._b.gap";

/// A recorded bucket.
#[derive(Deserialize)]
pub struct Recorded {
    /// The installation's keys.
    keys: RecordedKeys,
    /// The configuration with which the bucket was created.
    stream: Value,
    /// The messages that the bucket had, in the order of their sequences.
    messages: Vec<RecordedMessage>,
    pub owners: Vec<RecordedOwner>,
}

#[derive(Deserialize)]
struct RecordedKeys {
    /// In base64, as in the settings.
    identity: String,
    encryption: String,
}

#[derive(Deserialize)]
struct RecordedMessage {
    sequence: u64,
    subject: String,
    /// In base64.
    payload: String,
    /// The id of the atomic batch to which the message belongs. What the bucket no longer had of a
    /// batch is left out.
    batch: Option<String>,
}

/// An owner of the bucket, and the replies of a shard that had never seen the owner before.
#[derive(Deserialize)]
pub struct RecordedOwner {
    /// The subject of the owner's tokens. The issuer is that of the stand-in auth service.
    pub subject: String,
    /// The reply of `list`.
    pub list: Value,
    /// The reply of `changes` since 0.
    pub changes: Value,
    /// Replies of `history`.
    pub histories: Vec<RecordedHistory>,
    /// The writes that had a request id.
    pub requests: Vec<RecordedRequest>,
}

/// The history of an item.
#[derive(Deserialize)]
pub struct RecordedHistory {
    pub request: Value,
    pub reply: Value,
}

/// A write with a request id.
#[derive(Deserialize)]
pub struct RecordedRequest {
    pub operation: String,
    pub id: String,
    pub body: Value,
    pub reply: Value,
}

impl Recorded {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).expect("a recorded bucket")
    }

    /// The sequence of the newest message.
    pub fn newest(&self) -> u64 {
        self.messages.last().expect("a message").sequence
    }

    /// Starts servers with this bucket, as the earlier release left it: without marks. There is no
    /// worker yet.
    pub async fn start(&self) -> World {
        let mut world = World::start().await;
        world.secrets.identity.clone_from(&self.keys.identity);
        world.secrets.encryption.clone_from(&self.keys.encryption);

        self.create_stream(&world).await;
        self.store_messages(&world).await;

        world
    }

    async fn create_stream(&self, world: &World) {
        let init = world.connect("init").await;
        let subject = "$JS.API.STREAM.CREATE.KV_favorites";

        let reply = init.request(subject, self.stream.to_string().into()).await;

        let reply: Value = serde_json::from_slice(&reply.expect("a reply").payload).expect("JSON");
        assert!(reply["error"].is_null(), "{reply}");
    }

    /// Stores every message at its sequence, and an atomic batch as one.
    async fn store_messages(&self, world: &World) {
        let worker = world.connect("worker").await;
        let mut newest = 0;

        for write in self.messages.chunk_by(RecordedMessage::is_of_one_batch) {
            while newest + 1 < write[0].sequence {
                newest = store(&worker, GAP_SUBJECT, HeaderMap::new(), Vec::new()).await;
            }

            newest = store_write(&worker, write).await;
            let recorded = write.last().map(|message| message.sequence);
            assert_eq!(Some(newest), recorded, "the sequence of a message");
        }
    }
}

impl RecordedMessage {
    fn is_of_one_batch(&self, next: &Self) -> bool {
        self.batch.is_some() && self.batch == next.batch
    }

    fn bytes(&self) -> Vec<u8> {
        STANDARD.decode(&self.payload).expect("base64")
    }
}

impl RecordedOwner {
    /// Returns the owner as a caller with all scopes.
    pub async fn caller(&self, world: &World) -> Caller {
        world.caller(&self.subject).await
    }
}

/// Stores a message, or all of an atomic batch. Returns the last sequence.
async fn store_write(worker: &Client, write: &[RecordedMessage]) -> u64 {
    let [members @ .., last] = write else {
        panic!("a write without messages");
    };
    let headers = |position: usize| {
        let mut headers = HeaderMap::new();
        if let Some(batch) = &last.batch {
            headers.insert("Nats-Batch-Id", batch.as_str());
            headers.insert("Nats-Batch-Sequence", position.to_string());
        }
        headers
    };

    for (position, member) in (1..).zip(members) {
        let subject = member.subject.clone();
        let sent = worker.publish_with_headers(subject, headers(position), member.bytes().into());
        sent.await.expect("sent");
    }

    let mut headers = headers(write.len());
    if last.batch.is_some() {
        headers.insert("Nats-Batch-Commit", "1");
    }
    store(worker, &last.subject, headers, last.bytes()).await
}

/// Publishes a message, and returns the sequence at which the bucket has it.
async fn store(worker: &Client, subject: &str, headers: HeaderMap, payload: Vec<u8>) -> u64 {
    let reply = worker
        .request_with_headers(subject.to_owned(), headers, payload.into())
        .await
        .expect("an acknowledgement");

    let ack: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    ack["seq"].as_u64().unwrap_or_else(|| panic!("{ack}"))
}

impl World {
    /// Returns the formats of the owners' records that the bucket has after that sequence.
    pub async fn formats_after(&self, sequence: u64) -> BTreeSet<u8> {
        let operator = self.connect("operator").await;
        let info = self.stream_info("").await;
        let newest = info["state"]["last_seq"].as_u64().expect("a number");

        let mut formats = BTreeSet::new();
        for sequence in sequence + 1..=newest {
            formats.extend(format_at(&operator, sequence).await);
        }
        formats
    }
}

/// Returns the format of the message at that sequence, if it is an owner's record.
async fn format_at(operator: &Client, sequence: u64) -> Option<u8> {
    let subject = "$JS.API.STREAM.MSG.GET.KV_favorites";
    let request = json!({"seq": sequence}).to_string();

    let reply = operator.request(subject, request.into()).await;

    let reply: Value = serde_json::from_slice(&reply.expect("a reply").payload).expect("JSON");
    let message = &reply["message"];
    let key = message["subject"]
        .as_str()?
        .strip_prefix("$KV.favorites.")?;
    let (owner, _) = key.split_once('.')?;
    if owner == "_b" {
        return None;
    }
    let payload = message["data"].as_str().expect("a payload");
    STANDARD.decode(payload).expect("base64").first().copied()
}
