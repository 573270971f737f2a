//! The end of a replaced link: writes and reads what is left, so that no message is lost.

use super::encoder;
use super::link::Link;
use super::outbox::Outbox;
use super::protocol::{ProtocolError, ServerOp};
use super::registry::{QUIET_TIME, Registry};
use super::session::Waiter;
use super::shared::Shared;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// The longest time that a replaced link stays open.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// A replaced link.
pub(super) struct Drain {
    pub link: Link,
    /// The subscriptions of the link.
    pub registry: Registry,
    pub waiters: VecDeque<Waiter>,
    /// Takes back what cannot be sent on the replaced link any more.
    pub shared: Arc<Shared>,
    /// Resolves, or is dropped, when the subscriptions may end here.
    pub leave: oneshot::Receiver<()>,
}

impl Drain {
    /// Reads to the end. Drops `left` as soon as the server has ended the subscriptions.
    pub async fn run(mut self, left: oneshot::Sender<()>) {
        let result = timeout(DRAIN_TIME_MAX, self.read_rest(left)).await;

        let outcome = match result {
            Ok(Ok(())) => "all was read",
            Ok(Err(_)) => "the connection failed",
            Err(_) => "the time is over",
        };
        debug!(outcome, "closing a replaced connection to NATS");
        self.shared.outbox.put_back(self.link.writer.take_unsent());
        self.link.writer.shut_down().await;
    }

    async fn read_rest(&mut self, left: oneshot::Sender<()>) -> io::Result<()> {
        let mut left = Some(left);
        let mut is_leaving = false;
        // Nothing new is published here.
        let empty_outbox = Outbox::default();

        loop {
            let writer = &mut self.link.writer;
            if !writer.is_busy() {
                writer.fill(&empty_outbox);
            }

            tokio::select! {
                read = self.link.reader.read() => read?,
                written = writer.write(), if writer.is_busy() => written?,
                _ = &mut self.leave, if !is_leaving => {
                    is_leaving = true;
                    self.registry.unsubscribe_all(&mut writer.control);
                    encoder::ping(&mut writer.control);
                    self.waiters.push_back(Waiter::Left);
                }
                () = sleep(QUIET_TIME), if left.is_none() => return Ok(()),
            }

            self.handle_received(&mut left).map_err(io::Error::other)?;
        }
    }

    fn handle_received(
        &mut self,
        left: &mut Option<oneshot::Sender<()>>,
    ) -> Result<(), ProtocolError> {
        while let Some(op) = self.link.reader.decoder.decode()? {
            match op {
                ServerOp::Message(message) => self.registry.deliver(*message),
                ServerOp::Ping => encoder::pong(&mut self.link.writer.control),
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
