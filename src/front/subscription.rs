//! A subscription, as its reader has it.

use super::protocol::Message;
use super::shared::{Command, Commands};
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The messages of a subject. It ends when it was told to and everything was read, or when the
/// connection was closed. A connection that is lost does not end it: it goes on with the next one.
pub struct Subscription {
    sid: u64,
    messages: mpsc::Receiver<Message>,
    waiting_bytes: Arc<AtomicUsize>,
    commands: Commands,
}

impl Subscription {
    pub(super) fn new(
        sid: u64,
        messages: mpsc::Receiver<Message>,
        waiting_bytes: Arc<AtomicUsize>,
        commands: Commands,
    ) -> Self {
        Self {
            sid,
            messages,
            waiting_bytes,
            commands,
        }
    }

    /// The next message; `None` at the end. It may be dropped at any time without a loss.
    pub async fn next(&mut self) -> Option<Message> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// Ends the subscription without losing a message. It does not wait: read on until
    /// [`next`](Self::next) returns `None`.
    ///
    /// The server is told UNSUB, then PING. What it sent before its PONG comes before the PONG, and
    /// is delivered. One message may come later: the server may be about to hand over one that it
    /// matched before the UNSUB. So the end is a moment after the PONG in which none came.
    pub fn stop(&mut self) {
        // The task has ended: so has this.
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
