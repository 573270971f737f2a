//! A bare worker: the least that any worker has to do, and nothing else.
//!
//! It is a process of its own, as a real worker is, and receives requests on the same road, as a worker
//! of a shard of its own. A `get` asks the bucket for the newest record of an owner, a `put` writes a
//! record with a compare-and-set and its row in Postgres, and both reply. There is no token, no cipher,
//! no check, and no copy in memory: a `put` names the owner's version, and its reply the new one. What
//! two of them reach is the limit for every worker on this machine.

use super::bucket::RawBucket;
use crate::dev::connect::connect;
use crate::dev::secrets::Secrets;
use crate::dev::state::secrets_file;
use crate::shard::{BareRow, BareRows};
use anyhow::Context as _;
use async_nats::{Client, Message};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::io::{Stdin, stdin};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// The operation that replies at once.
pub(super) const ECHO: &str = "echo";
/// The operation that asks for the newest record of an owner, and replies.
pub(super) const GET: &str = "get";
/// The operation that writes a record, and replies.
pub(super) const PUT: &str = "put";

/// The queue group in which workers receive requests.
const QUEUE: &str = "favorites";
/// The name of its connections.
const NAME: &str = "gofavorites bench (bare worker)";
/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// What a reply begins with if its row is not written.
const NOT_DONE: &str = "!";
/// The line that it prints once it receives requests.
const READY: &str = "ready";

/// What a bare worker has to know, as a line of JSON on its input.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct BareSettings {
    /// The NATS server of its shard.
    pub url: String,
    /// The JetStream domain of the bucket; empty: the server's own.
    pub domain: String,
    pub postgres_url: String,
    /// What its subjects begin with, up to the operation.
    pub subjects: String,
    pub record_bytes: usize,
    pub reply_bytes: usize,
}

/// A bare worker that runs until this is dropped.
pub(super) struct BareProcess {
    _process: Child,
    /// Its end tells the worker to end, also if this process was killed.
    _input: ChildStdin,
}

/// What a bare worker replies with.
struct Worker {
    front: Client,
    bucket: RawBucket,
    rows: BareRows,
    reply_bytes: usize,
}

/// The body of a request: which item of which owner, and the version of the owner that the caller knows.
pub(super) struct Body {
    pub owner: usize,
    pub item: usize,
    pub version: u64,
}

/// A reply. A record may be written, and its row not.
pub(super) struct Reply {
    /// The owner's version now.
    pub version: u64,
    pub is_done: bool,
}

impl BareProcess {
    /// Starts one on the platform with that state, and waits until it receives requests.
    ///
    /// # Errors
    ///
    /// It cannot be started, or ends at once.
    pub async fn start(state: &Path, settings: &BareSettings) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own path")?;
        let mut process = Command::new(program)
            .args(["dev", "bare-worker", "--state"])
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C ends the run in order, which still needs it.
            .process_group(0)
            .spawn()
            .context("a bare worker")?;
        let mut input = process.stdin.take().context("its input")?;
        let output = process.stdout.take().context("its output")?;

        let settings = serde_json::to_string(settings)? + "\n";
        input.write_all(settings.as_bytes()).await?;
        let mut output = BufReader::new(output).lines();
        let first = timeout(START_TIMEOUT, output.next_line()).await??;
        anyhow::ensure!(first.as_deref() == Some(READY), "a bare worker has ended");

        Ok(Self {
            _process: process,
            _input: input,
        })
    }
}

/// Runs a bare worker on the platform with that state, until its input ends.
pub(in crate::cli) async fn run(state: &Path) -> anyhow::Result<()> {
    let mut input: Lines<BufReader<Stdin>> = BufReader::new(stdin()).lines();
    let settings = input.next_line().await?.context("no settings")?;
    let settings: BareSettings = serde_json::from_str(&settings).context("the settings")?;
    let secrets = Secrets::load(&secrets_file(state)?)?;

    let front = connect(&secrets, "front", &settings.url, NAME).await?;
    let bucket = connect(&secrets, "worker", &settings.url, NAME).await?;
    let worker = Arc::new(Worker {
        bucket: RawBucket::new(vec![bucket], &settings.domain, settings.record_bytes),
        rows: BareRows::open(&settings.postgres_url).await?,
        reply_bytes: settings.reply_bytes,
        front,
    });
    let pattern = format!("{}.*", settings.subjects);
    let mut requests = worker.front.queue_subscribe(pattern, QUEUE.into()).await?;
    worker.front.flush().await?;
    println!("{READY}");

    let mut input = input.into_inner();
    let mut nothing = Vec::new();
    let ended = input.read_to_end(&mut nothing);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            _ = &mut ended => return Ok(()),
            request = requests.next() => {
                let request = request.context("the connection has ended")?;
                let worker = worker.clone();
                tokio::spawn(async move { worker.answer(request).await });
            }
        }
    }
}

impl Worker {
    async fn answer(&self, request: Message) {
        let Some(reply_to) = request.reply else {
            return;
        };
        let operation = request.subject.rsplit('.').next().unwrap_or_default();
        let reply = match (operation, Body::read(&request.payload)) {
            (ECHO, Some(body)) => Some(Reply::done(body.version)),
            (GET, Some(body)) => self
                .bucket
                .head(body.owner)
                .await
                .then(|| Reply::done(body.version)),
            (PUT, Some(body)) => self.put(body).await,
            _ => None,
        };

        let reply = reply.map_or(Bytes::new(), |reply| reply.write(self.reply_bytes));
        // A caller who gets no reply counts the request as unanswered.
        let _ = self.front.publish(reply_to, reply).await;
    }

    /// Writes a record and its row. `None` if not even the record is written.
    async fn put(&self, body: Body) -> Option<Reply> {
        let Body { owner, item, .. } = body;
        let version = self.bucket.publish(owner, item, body.version).await?;
        let row = BareRow {
            owner: owner.try_into().ok()?,
            item: item.try_into().ok()?,
            version: version.try_into().ok()?,
            body: self.bucket.record.clone(),
        };

        Some(Reply {
            version,
            is_done: self.rows.store(row).await,
        })
    }
}

impl Body {
    /// Writes it for a request.
    pub fn write(&self) -> String {
        format!("{} {} {}", self.owner, self.item, self.version)
    }

    fn read(body: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(body).ok()?.split(' ');

        Some(Self {
            owner: words.next()?.parse().ok()?,
            item: words.next()?.parse().ok()?,
            version: words.next()?.parse().ok()?,
        })
    }
}

impl Reply {
    fn done(version: u64) -> Self {
        Self {
            version,
            is_done: true,
        }
    }

    /// Writes it, with blanks up to so many bytes.
    fn write(&self, bytes: usize) -> Bytes {
        let mark = if self.is_done { "" } else { NOT_DONE };

        format!("{:<bytes$}", format!("{mark}{}", self.version)).into()
    }

    /// Reads it; `None` if the worker has done nothing.
    pub fn read(reply: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(reply).ok()?.trim_end();
        let version = text.strip_prefix(NOT_DONE);

        Some(Self {
            version: version.unwrap_or(text).parse().ok()?,
            is_done: version.is_none(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let body = Body {
            owner: 7,
            item: 0,
            version: 12,
        };
        let read = Body::read(body.write().as_bytes()).expect("a body");
        assert_eq!((read.owner, read.item, read.version), (7, 0, 12));
        assert!(Body::read(b"7 0").is_none());

        for is_done in [true, false] {
            let reply = Reply {
                version: 5,
                is_done,
            };
            let bytes = reply.write(300);
            assert_eq!(bytes.len(), 300);
            let read = Reply::read(&bytes).expect("a reply");
            assert_eq!((read.version, read.is_done), (5, is_done));
        }
        assert!(Reply::read(b"").is_none());
    }
}
