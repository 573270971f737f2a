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
    /// A new subscription.
    Subscribe { sid: u64, route: Route },
    /// The end of a subscription, without a loss.
    Stop { sid: u64 },
    /// The end of a subscription that nobody reads any more.
    Forget { sid: u64 },
    /// An answer once the server has taken everything that was sent before; none if the connection
    /// is lost until then.
    Flush(oneshot::Sender<()>),
    /// As `Flush`, and the end of the connection.
    Close(oneshot::Sender<()>),
}

/// The way to the task. It is not bounded: its users are few, and each waits for what it asked.
pub(super) type Commands = mpsc::UnboundedSender<Command>;
