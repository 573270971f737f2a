//! What a server sends, as types.

use super::headers::{HeaderBlock, Unreadable};
use crate::domain::opaque_debug;
use bytes::Bytes;
use serde::Deserialize;
use std::borrow::Cow;

/// A subject as it arrived. Another client chose it, so it may be anything without spaces and line
/// breaks.
#[derive(Clone, PartialEq, Eq)]
pub struct RawSubject(Bytes);

/// A message as it arrived.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The id of the subscription that it is for.
    pub sid: u64,
    /// Its subject.
    pub subject: RawSubject,
    /// Where the sender expects an answer.
    pub reply: Option<RawSubject>,
    /// Its headers; empty for a message that has none.
    pub headers: Result<HeaderBlock, Unreadable>,
    /// Its payload.
    pub payload: Bytes,
    /// How many bytes it takes in memory: subject, reply subject, headers and payload.
    pub length: usize,
}

// Subjects name owners; headers and payloads are theirs.
opaque_debug!(RawSubject, Message);

/// One thing that a server sends.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerOp {
    /// What it is, and what has changed about it since.
    Info(Box<ServerInfo>),
    /// A message.
    Message(Box<Message>),
    /// A message that was longer than the server's bound. Its bytes are skipped.
    TooLong {
        /// The id of the subscription that it was for.
        sid: u64,
        /// Its length in bytes.
        length: usize,
    },
    /// It asks whether this client is there.
    Ping,
    /// It has taken everything that was sent before a PING.
    Pong,
    /// It has taken a line, which it only acknowledges where CONNECT asked for that.
    Ok,
    /// It refuses something.
    Error(String),
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Its id.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// Its version.
    pub version: String,
    /// The longest message that it takes, headers included, in bytes.
    pub max_payload: usize,
    /// This connection's number there.
    pub client_id: u64,
    /// Whether it takes connections with TLS only.
    pub tls_required: bool,
    /// Whether it takes connections with TLS.
    pub tls_available: bool,
    /// What a client signs to show that it has a key.
    pub nonce: String,
    /// Where else clients can connect: the other servers of its cluster.
    pub connect_urls: Vec<String>,
    /// Whether it is about to end, so that clients should leave.
    #[serde(rename = "ldm")]
    pub lame_duck: bool,
}

/// What only a broken server sends. It ends the connection.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A line that begins with no known verb.
    #[error("a line that is none of the protocol's: {0}")]
    Verb(String),
    /// A message's line without its parts, or with numbers that are none.
    #[error("a message's line that cannot be read: {0}")]
    Line(String),
    /// A line without an end.
    #[error("a line longer than {0} bytes")]
    LineTooLong(usize),
    /// A payload that is not followed by the end of a line.
    #[error("a message whose payload does not end where its line says")]
    End,
    /// An INFO that is no JSON.
    #[error("an INFO that cannot be read")]
    Info(#[source] serde_json::Error),
}

impl RawSubject {
    /// The subject of these bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// As text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn as_str(&self) -> Result<&str, Unreadable> {
        std::str::from_utf8(&self.0).map_err(|_| Unreadable)
    }

    /// As text, with `�` for what is not UTF-8.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// As it arrived.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
