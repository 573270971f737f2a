//! What the connection's task and its handles share.

use super::outbox::Outbox;
use super::registry::Route;
use super::state::{FrontCounters, FrontState};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// What the connection's task and its handles share.
pub(super) struct Shared {
    pub outbox: Outbox,
    pub state: watch::Sender<FrontState>,
    pub counters: Arc<FrontCounters>,
}

/// What a handle asks of the task.
pub(super) enum Command {
    /// Makes a subscription.
    Subscribe { sid: u64, route: Route },
    /// Ends a subscription without losing a message.
    Stop { sid: u64 },
    /// Removes a subscription that has no reader any more.
    Forget { sid: u64 },
    /// Answers once the server has processed everything that was sent before. The sender is dropped
    /// if the link is lost first.
    Flush(oneshot::Sender<()>),
    /// As `Flush`, and ends the connection.
    Close(oneshot::Sender<()>),
}

/// Sends commands to the task. The queue has no bound: only the worker's own code fills it, and
/// callers cannot make it send many.
pub(super) type CommandSender = mpsc::UnboundedSender<Command>;

/// The task's end of that queue.
pub(super) type CommandReceiver = mpsc::UnboundedReceiver<Command>;
