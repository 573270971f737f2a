//! What waits on one connection for the server's answers.

use super::commands;
use super::error::FrontError;
use super::link::Link;
use bytes::BytesMut;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// So many PINGs without an answer end a connection.
const PROBES_MAX: usize = 2;

/// Why a PING was sent. The server answers them in order.
pub(super) enum Waiter {
    /// To see whether the server is there.
    Probe,
    /// After the subscriptions of a new connection: what the server denies of them comes before the
    /// answer.
    Subscribed,
    /// After everything that was published before.
    Flush(oneshot::Sender<()>),
    /// After the end of a subscription.
    Stop(u64),
    /// After everything else: the connection is closed.
    Close(oneshot::Sender<()>),
    /// After the end of all subscriptions, on a connection that another one has followed.
    Left,
}

/// What waits on one connection.
pub(super) struct Session {
    pub waiters: VecDeque<Waiter>,
    /// When the next PING is due.
    pub ping_at: Instant,
    /// When to try another connection, because a subscription is denied or the server is about to
    /// end.
    pub replace_at: Option<Instant>,
    /// The attempt to open that connection.
    pub replacement: Option<BoxFuture<'static, Result<Link, FrontError>>>,
    pub handover: Option<Handover>,
    /// Whether it is the last one.
    pub is_closing: bool,
}

/// How far this connection has followed another one.
pub(super) enum Handover {
    /// The shared subscriptions are asked for. Once the server has them, the one before may end its
    /// own.
    Joining {
        leave: oneshot::Sender<()>,
        left: oneshot::Receiver<()>,
    },
    /// The one before ends its subscriptions. Then those are asked for that are not shared: two
    /// connections would hear each message twice.
    Leaving { left: oneshot::Receiver<()> },
}

impl Session {
    pub fn new(ping_interval: Duration) -> Self {
        Self {
            waiters: VecDeque::new(),
            ping_at: Instant::now() + ping_interval,
            replace_at: None,
            replacement: None,
            handover: None,
            is_closing: false,
        }
    }

    /// Sends a PING, whose answer is for `waiter`.
    pub fn ping(&mut self, control: &mut BytesMut, waiter: Waiter) {
        commands::ping(control);
        self.waiters.push_back(waiter);
    }

    /// Sends the PING that is due; `false` if the server has left too many unanswered.
    pub fn probe(&mut self, control: &mut BytesMut, ping_interval: Duration) -> bool {
        let is_probe = |waiter: &&Waiter| matches!(waiter, Waiter::Probe);
        if self.waiters.iter().filter(is_probe).count() >= PROBES_MAX {
            return false;
        }
        self.ping(control, Waiter::Probe);
        self.ping_at = Instant::now() + ping_interval;
        true
    }
}

/// Ends when the attempt to open another connection has.
pub(super) async fn opened(
    replacement: &mut Option<BoxFuture<'static, Result<Link, FrontError>>>,
) -> Result<Link, FrontError> {
    match replacement {
        Some(attempt) => {
            let opened = attempt.await;
            *replacement = None;
            opened
        }
        None => std::future::pending().await,
    }
}

/// Ends when the connection before has ended its subscriptions.
pub(super) async fn left(handover: &mut Option<Handover>) {
    match handover {
        Some(Handover::Leaving { left }) => {
            // It is dropped, whether the subscriptions have ended or their connection.
            let _ = left.await;
            *handover = None;
        }
        _ => std::future::pending().await,
    }
}
