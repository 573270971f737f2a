//! A caller who speaks NATS by hand: what no client would send, the server still passes on.

use super::world::World;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection whose every byte is the test's, with a subscription to one inbox.
pub struct ByHand {
    stream: TcpStream,
    read: Vec<u8>,
}

impl ByHand {
    /// The inbox to which it listens, with all that is below.
    pub const INBOX: &str = "_INBOX.by_hand";

    /// Connects as that user, and waits until its subscription is known.
    pub async fn connect(world: &World, user: &str) -> Self {
        let stream = TcpStream::connect(world.nats.url().replace("nats://", ""))
            .await
            .expect("a connection");
        let mut this = Self {
            stream,
            read: Vec::new(),
        };
        let connect = json!({"user": user, "pass": world.secrets.nats(user), "headers": true, "verbose": false});
        let inbox = Self::INBOX;
        this.send(
            format!("CONNECT {connect}\r\nSUB {inbox} 1\r\nSUB {inbox}.> 2\r\nPING\r\n").as_bytes(),
        )
        .await;
        this.until(b"PONG\r\n").await.expect("a greeting");
        this
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// Publishes with a header block as it is given, well formed or not.
    pub async fn publish(&mut self, subject: &[u8], reply: &[u8], headers: &[u8], body: &[u8]) {
        let (head, all) = (headers.len(), headers.len() + body.len());
        let sizes = format!(" {head} {all}\r\n");
        self.send(
            &[
                b"HPUB ",
                subject,
                b" ",
                reply,
                sizes.as_bytes(),
                headers,
                body,
                b"\r\n",
            ]
            .concat(),
        )
        .await;
    }

    /// The error of the next reply that comes; `None` if none comes for a while.
    pub async fn refusal(&mut self) -> Option<Value> {
        let body: Value = serde_json::from_slice(&self.reply().await?).unwrap_or(Value::Null);
        Some(body["error"].clone())
    }

    /// The body of the next reply that comes; `None` if none comes for a while.
    pub async fn reply(&mut self) -> Option<Vec<u8>> {
        self.until(b"HMSG ").await?;
        let line = self.until(b"\r\n").await?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut sizes = line
            .trim_end()
            .rsplit(' ')
            .map(|size| size.parse::<usize>().expect("a size"));
        let (all, head) = (sizes.next().expect("a size"), sizes.next().expect("a size"));
        while self.read.len() < all {
            self.more().await?;
        }
        Some(self.read.drain(..all).skip(head).collect())
    }

    /// What comes up to and with these bytes.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|bytes| bytes == end) {
                return Some(self.read.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let mut bytes = [0; 8_192];
        match timeout(Duration::from_secs(2), self.stream.read(&mut bytes)).await {
            Ok(Ok(count)) if count > 0 => self.read.extend_from_slice(&bytes[..count]),
            _ => return None,
        }
        Some(())
    }
}
