//! The end of a connection that another one has followed: it writes and reads what is left, so that
//! nothing is lost.

use super::commands;
use super::link::Link;
use super::outbox::Outbox;
use super::protocol::ServerOp;
use super::registry::Registry;
use super::session::Waiter;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// Longer than a server takes to hand over a message that it had matched before a subscription
/// ended.
const QUIET_TIME: Duration = Duration::from_millis(100);
/// How long it may take.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// A connection that another one has followed.
pub(super) struct Drain {
    pub link: Link,
    /// The subscriptions, as they were on it.
    pub registry: Registry,
    pub waiters: VecDeque<Waiter>,
    /// Comes, or is dropped, when the subscriptions may end here.
    pub leave: oneshot::Receiver<()>,
}

impl Drain {
    /// Reads to the end. `left` is dropped as soon as the server has ended the subscriptions.
    pub async fn run(mut self, left: oneshot::Sender<()>) {
        let ended = timeout(DRAIN_TIME_MAX, self.read_out(left)).await;
        debug!(
            ?ended,
            "a connection that another one has followed has ended"
        );
        self.link.writer.shut_down().await;
    }

    async fn read_out(&mut self, left: oneshot::Sender<()>) -> io::Result<()> {
        let mut left = Some(left);
        let mut is_leaving = false;
        // Nothing is published here any more.
        let nothing = Outbox::default();
        loop {
            let writer = &mut self.link.writer;
            if !writer.is_busy() {
                writer.fill(&nothing);
            }
            tokio::select! {
                read = self.link.reader.read() => read?,
                written = writer.write(), if writer.is_busy() => written?,
                _ = &mut self.leave, if !is_leaving => {
                    is_leaving = true;
                    self.registry.unsubscribe_all(&mut writer.control);
                    commands::ping(&mut writer.control);
                    self.waiters.push_back(Waiter::Left);
                }
                () = sleep(QUIET_TIME), if left.is_none() => return Ok(()),
            }
            self.take_all(&mut left).map_err(io::Error::other)?;
        }
    }

    fn take_all(
        &mut self,
        left: &mut Option<oneshot::Sender<()>>,
    ) -> Result<(), super::protocol::ProtocolError> {
        while let Some(op) = self.link.reader.decoder.decode()? {
            match op {
                ServerOp::Message(message) => self.registry.deliver(*message),
                ServerOp::Ping => commands::pong(&mut self.link.writer.control),
                ServerOp::Pong => match self.waiters.pop_front() {
                    Some(Waiter::Flush(waiter) | Waiter::Close(waiter)) => {
                        let _ = waiter.send(());
                    }
                    Some(Waiter::Left) => *left = None,
                    _ => {}
                },
                ServerOp::Info(_)
                | ServerOp::Ok
                | ServerOp::Error(_)
                | ServerOp::TooLong { .. } => {}
            }
        }
        Ok(())
    }
}
