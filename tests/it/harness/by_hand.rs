//! A caller that writes the NATS protocol byte by byte, to send what a client library would refuse.

use super::world::World;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long to wait for more bytes of the server.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection on which the test writes every byte, with a subscription to one inbox.
pub struct ByHand {
    stream: TcpStream,
    /// What was received and not yet parsed.
    read: Vec<u8>,
}

impl ByHand {
    /// The inbox that the connection subscribes to, with all subjects below it.
    pub const INBOX: &str = "_INBOX.by_hand";

    /// Connects as that user, and waits until the server has its subscriptions.
    pub async fn connect(world: &World, user: &str) -> Self {
        let address = world.nats.url().replace("nats://", "");
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut this = Self {
            stream,
            read: Vec::new(),
        };

        let connect = json!({
            "user": user, "pass": world.secrets.nats(user), "headers": true, "verbose": false,
        });
        let inbox = Self::INBOX;
        let greeting = format!("CONNECT {connect}\r\nSUB {inbox} 1\r\nSUB {inbox}.> 2\r\nPING\r\n");

        this.send(greeting.as_bytes()).await;
        this.until(b"PONG\r\n").await.expect("a greeting");

        this
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// Publishes a message whose header block is sent as it is, well formed or not.
    pub async fn publish(&mut self, subject: &[u8], reply: &[u8], headers: &[u8], body: &[u8]) {
        let header_bytes = headers.len();
        let total_bytes = headers.len() + body.len();
        let sizes = format!(" {header_bytes} {total_bytes}\r\n");

        let parts = [
            b"HPUB ",
            subject,
            b" ",
            reply,
            sizes.as_bytes(),
            headers,
            body,
            b"\r\n",
        ];
        self.send(&parts.concat()).await;
    }

    /// Returns the error of the next reply; `None` if no reply comes in time.
    pub async fn refusal(&mut self) -> Option<Value> {
        let reply = self.reply().await?;
        let body: Value = serde_json::from_slice(&reply).unwrap_or(Value::Null);

        Some(body["error"].clone())
    }

    /// Returns the body of the next reply; `None` if no reply comes in time.
    pub async fn reply(&mut self) -> Option<Vec<u8>> {
        self.until(b"HMSG ").await?;
        let line = self.until(b"\r\n").await?;
        let line = String::from_utf8_lossy(&line).into_owned();

        let mut sizes = line
            .trim_end()
            .rsplit(' ')
            .map(|size| size.parse::<usize>().expect("a size"));
        let total_bytes = sizes.next().expect("a size");
        let header_bytes = sizes.next().expect("a size");

        while self.read.len() < total_bytes {
            self.more().await?;
        }

        Some(self.read.drain(..total_bytes).skip(header_bytes).collect())
    }

    /// Returns everything up to these bytes, and the bytes themselves.
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

        match timeout(READ_TIMEOUT, self.stream.read(&mut bytes)).await {
            Ok(Ok(count)) if count > 0 => self.read.extend_from_slice(&bytes[..count]),
            _ => return None,
        }

        Some(())
    }
}
