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
    /// The id of its subscription.
    pub sid: u64,
    /// The subject.
    pub subject: RawSubject,
    /// The subject to which the sender expects an answer.
    pub reply: Option<RawSubject>,
    /// The headers; empty for a message without any.
    pub headers: Result<HeaderBlock, Unreadable>,
    /// The payload.
    pub payload: Bytes,
    /// Its size in memory, in bytes: subject, reply subject, headers and payload.
    pub length: usize,
}

// Subjects name owners; headers and payloads belong to callers.
opaque_debug!(RawSubject, Message);

/// One thing that a server sends.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerOp {
    /// A description of the server, at first and after each change.
    Info(Box<ServerInfo>),
    /// A message.
    Message(Box<Message>),
    /// A message longer than the server's `max_payload`. Its bytes are skipped.
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The server asks for a PONG.
    Ping,
    /// The server has processed everything that was sent before a PING.
    Pong,
    /// The server acknowledges a line. It does so only if CONNECT asks for it.
    Ok,
    /// The server refuses something.
    Error(String),
}

/// What a server reports about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// The version.
    pub version: String,
    /// The longest message that it accepts, headers included, in bytes.
    pub max_payload: usize,
    /// Whether it accepts connections with TLS only.
    pub tls_required: bool,
    /// Whether it accepts connections with TLS.
    pub tls_available: bool,
    /// The bytes that a client signs to prove that it has a key.
    pub nonce: String,
    /// The other servers of its cluster, to which clients can connect.
    pub connect_urls: Vec<String>,
    /// Whether it is about to shut down (lame duck mode), so that clients should leave.
    #[serde(rename = "ldm")]
    pub lame_duck: bool,
}

/// Bytes that only a broken server sends. They end the connection. The error does not quote them,
/// because they may be a caller's.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A line that begins with an unknown verb.
    #[error("a line begins with an unknown verb")]
    Verb,
    /// The line of a message without all its parts, or with invalid numbers.
    #[error("the line of a message cannot be read")]
    Line,
    /// A line without an end.
    #[error("a line is longer than {0} bytes")]
    LineTooLong(usize),
    /// A payload that is not followed by the end of a line.
    #[error("the payload of a message does not end where its line says")]
    End,
    /// An INFO that is not valid JSON.
    #[error("an INFO cannot be read")]
    Info(#[source] serde_json::Error),
    /// A first line that is not INFO.
    #[error("the first line is not INFO")]
    NoInfo,
}

impl RawSubject {
    /// Wraps the bytes of a subject.
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Returns the subject as text.
    ///
    /// # Errors
    /// Fails when it is not UTF-8.
    pub fn as_str(&self) -> Result<&str, Unreadable> {
        std::str::from_utf8(&self.0).map_err(|_| Unreadable)
    }

    /// Returns the subject as text, with `�` for what is not UTF-8.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}
