//! How the connection is: for health, discovery and the log.

use super::protocol::ServerInfo;
use super::server_error::Refused;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How the connection is now.
#[derive(Clone, Debug, Default)]
pub struct FrontState {
    /// Whether there is a connection.
    pub is_connected: bool,
    /// How many connections there were so far, the one that stands included.
    pub connections: u64,
    /// The subjects that the server does not let this user subscribe to. While there is one, the
    /// worker does not hear everything that it should; the connection is opened again every second
    /// or two until there is none.
    pub denied: Vec<String>,
    /// What the server refused last.
    pub refused: Option<Refusal>,
    /// Why the connection was lost last, or why there is none yet.
    pub lost: Option<String>,
    /// The server of the newest connection.
    pub info: Arc<ServerInfo>,
}

/// What the server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it said.
    pub text: String,
    /// When.
    pub at: Instant,
}

impl Refusal {
    /// Returns whether it is a subscription that the server refused.
    pub fn is_of_a_subscription(&self) -> bool {
        matches!(Refused::parse(&self.text), Refused::Subscription(_))
    }
}

/// What the connection has counted since it was first opened.
#[derive(Debug, Default)]
pub struct FrontCounters {
    dropped: AtomicU64,
    too_long: AtomicU64,
    unreadable: AtomicU64,
    publish_denied: AtomicU64,
}

impl FrontCounters {
    /// Messages dropped because a subscription's queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Messages skipped because they were longer than the server's `max_payload`.
    pub fn too_long(&self) -> u64 {
        self.too_long.load(Ordering::Relaxed)
    }

    /// Messages whose header block cannot be read. They are delivered all the same.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Messages that the server did not let this user publish.
    pub fn publish_denied(&self) -> u64 {
        self.publish_denied.load(Ordering::Relaxed)
    }

    pub(super) fn count_dropped(&self) -> u64 {
        self.dropped.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn count_too_long(&self) {
        self.too_long.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_publish_denied(&self) {
        self.publish_denied.fetch_add(1, Ordering::Relaxed);
    }
}
