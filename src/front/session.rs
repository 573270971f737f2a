//! What one link waits for: the server's answers, and its replacement.

use super::encoder;
use super::error::FrontError;
use super::link::Link;
use bytes::BytesMut;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The number of unanswered PINGs that end a link.
const PROBES_MAX: usize = 2;

/// Why a PING was sent. The server answers PINGs in order.
pub(super) enum Waiter {
    /// Checks whether the server answers.
    Probe,
    /// Follows the subscriptions of a new link: the server sends its denials before the answer.
    Subscribed,
    /// Follows everything that was published before.
    Flush(oneshot::Sender<()>),
    /// Follows the UNSUB of one subscription.
    Stop(u64),
    /// Follows everything else: the connection is closed.
    Close(oneshot::Sender<()>),
    /// Follows the UNSUBs of all subscriptions, on a replaced link.
    Left,
}

/// The state of one link.
pub(super) struct Session {
    pub waiters: VecDeque<Waiter>,
    /// When the next PING is due.
    pub ping_at: Instant,
    /// When to try another link, because a subscription is denied or the server is about to shut
    /// down.
    pub replace_at: Option<Instant>,
    /// The attempt to open that link.
    pub replacement: Option<BoxFuture<'static, Result<Link, FrontError>>>,
    pub handover: Option<Handover>,
    /// Whether the connection is being closed, so that no other link follows.
    pub is_closing: bool,
}

/// How far this link has taken over from the one that it replaces.
pub(super) enum Handover {
    /// The shared subscriptions are requested. Once the server has them, the replaced link may end
    /// its own.
    Joining {
        leave: oneshot::Sender<()>,
        left: oneshot::Receiver<()>,
    },
    /// The replaced link ends its subscriptions. After that, this link requests those that are not
    /// shared: two links would receive each message twice.
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
        encoder::ping(control);
        self.waiters.push_back(waiter);
    }

    /// Sends the PING that is due. Returns `false` if the server has left too many unanswered.
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

/// Waits until the attempt to open another link has ended.
pub(super) async fn replacement_opened(
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

/// Waits until the replaced link has ended its subscriptions.
pub(super) async fn predecessor_left(handover: &mut Option<Handover>) {
    match handover {
        Some(Handover::Leaving { left }) => {
            // The other half is dropped in both cases: the subscriptions or their link have ended.
            let _ = left.await;
            *handover = None;
        }
        _ => std::future::pending().await,
    }
}
