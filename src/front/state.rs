//! The state of the connection, for health, discovery and the log.

use super::protocol::ServerInfo;
use super::server_error::ServerError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The current state of the connection.
#[derive(Clone, Debug, Default)]
pub struct FrontState {
    /// Whether there is a connection.
    pub is_connected: bool,
    /// The number of connections so far, the current one included.
    pub connections: u64,
    /// The subjects that the server does not let this user subscribe to. While there is one, the
    /// worker misses messages; another connection is tried every second or two until there is
    /// none.
    pub denied: Vec<String>,
    /// What the server refused last.
    pub refused: Option<Refusal>,
    /// Why the connection was lost last, or why the last attempt to connect again failed.
    pub lost: Option<String>,
    /// The server of the newest connection.
    pub info: Arc<ServerInfo>,
}

/// What the server refused, except replies: those are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The server's text.
    pub text: String,
    /// When it came.
    pub at: Instant,
}

impl Refusal {
    /// Returns whether it is a subscription that the server refused.
    pub fn is_of_a_subscription(&self) -> bool {
        matches!(ServerError::parse(&self.text), ServerError::Subscription(_))
    }
}

/// Counts since the connection was first opened.
#[derive(Debug, Default)]
pub struct FrontCounters {
    dropped: AtomicU64,
    refused_replies: AtomicU64,
}

impl FrontCounters {
    /// Returns the number of messages dropped because a subscription's queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns the number of messages that the server did not let this user publish.
    pub fn refused_replies(&self) -> u64 {
        self.refused_replies.load(Ordering::Relaxed)
    }

    /// Counts a message that the server refused. Returns the count.
    pub(super) fn count_refused_reply(&self) -> u64 {
        self.refused_replies.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts a dropped message. Returns the count.
    pub(super) fn count_dropped(&self) -> u64 {
        self.dropped.fetch_add(1, Ordering::Relaxed) + 1
    }
}
