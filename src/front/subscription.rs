//! A subscription, from the side of its reader.

use super::protocol::Message;
use super::shared::{Command, CommandSender};
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The messages of a subject. It ends once it was stopped and everything was read, or when the
/// connection is closed. It outlives a lost connection, and continues on the next one.
pub struct Subscription {
    sid: u64,
    messages: mpsc::Receiver<Message>,
    waiting_bytes: Arc<AtomicUsize>,
    commands: CommandSender,
}

impl Subscription {
    pub(super) fn new(
        sid: u64,
        messages: mpsc::Receiver<Message>,
        waiting_bytes: Arc<AtomicUsize>,
        commands: CommandSender,
    ) -> Self {
        Self {
            sid,
            messages,
            waiting_bytes,
            commands,
        }
    }

    /// Returns the next message, or `None` at the end. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// Ends the subscription without losing a message. It does not wait: continue to read until
    /// [`next`](Self::next) returns `None`.
    ///
    /// The connection sends UNSUB, then PING. All messages that arrive before the PONG are
    /// delivered. A message may arrive even later, if the server had matched it before the UNSUB.
    /// So the subscription ends a short time after the PONG, once no more messages arrive.
    pub fn stop(&mut self) {
        // This fails if the connection is closed, and the subscription has ended then.
        let _ = self.commands.send(Command::Stop { sid: self.sid });
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let polled = self.messages.poll_recv(context);

        if let Poll::Ready(Some(message)) = &polled {
            self.waiting_bytes
                .fetch_sub(message.length, Ordering::Relaxed);
        }

        polled
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Forget { sid: self.sid });
    }
}
