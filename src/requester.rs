//! Requests to other NATS subjects, all answered on one inbox.
//!
//! The client's own `request` keeps an entry for each request that times out, takes one reply only, and may wait for
//! ever while the connection is down and its queue full. Here a call ends by its deadline, leaves nothing behind, and
//! may have many replies (a direct get of several messages).

use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

type PendingCalls = Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<Message>>>>;

/// Sends requests and hands each reply to the call that waits for it.
#[derive(Clone)]
pub struct Requester {
    client: Client,
    inbox: Arc<str>,
    waiting: PendingCalls,
    next: Arc<AtomicU64>,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: it is known that no answer comes.
    #[error("known to be away")]
    KnownUnavailable,
    /// Nothing was sent: the connection is down.
    #[error("not connected to NATS")]
    NotConnected,
    /// It was sent, and nobody listens to that subject.
    #[error("nobody answers there")]
    NoResponders,
    /// It was answered that there is no room for it now.
    #[error("no room for it now")]
    Busy,
    /// It was sent, or may yet be; no answer came in time.
    #[error("no answer in time")]
    TimedOut,
}

/// An error that may be only for a time.
pub trait Transient {
    /// Whether a server is unavailable, so that the same call may succeed later.
    fn is_unavailable(&self) -> bool;
}

impl Requester {
    /// Subscribes to an inbox of its own on `client`.
    pub async fn start(client: Client) -> Result<Self, async_nats::SubscribeError> {
        let inbox: Arc<str> = client.new_inbox().into();
        let replies = client.subscribe(format!("{inbox}.*")).await?;
        let waiting = PendingCalls::default();
        tokio::spawn(hand_out(replies, waiting.clone()));
        Ok(Self {
            client,
            inbox,
            waiting,
            next: Arc::default(),
        })
    }

    /// The connection that it uses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection is up, as far as the client knows.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Sends a request; its replies come to the [`Call`]. Fails at once while the connection is down: what the client
    /// would keep until it is back could land long after the caller was told that it did not.
    pub async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Call, CallError> {
        if !self.is_connected() {
            return Err(CallError::NotConnected);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::unbounded_channel();
        lock(&self.waiting).insert(id, sender);
        let call = Call {
            id,
            replies,
            waiting: self.waiting.clone(),
            deadline,
        };
        let reply = format!("{}.{id}", self.inbox);
        let sent = self
            .client
            .publish_with_reply_and_headers(subject, reply, headers, payload);
        match timeout_at(deadline, sent).await {
            Ok(Ok(())) => Ok(call),
            Ok(Err(_)) => Err(CallError::NotConnected),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    /// Sends a request that has one reply.
    pub async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Message, CallError> {
        self.send(subject, headers, payload, deadline)
            .await?
            .next()
            .await
    }
}

/// A request under way; dropping it forgets it.
pub struct Call {
    id: u64,
    replies: mpsc::UnboundedReceiver<Message>,
    waiting: PendingCalls,
    deadline: Instant,
}

impl Call {
    /// Waits longer for what is still to come.
    pub fn extend(&mut self, deadline: Instant) {
        self.deadline = self.deadline.max(deadline);
    }

    /// The next reply, by the call's deadline.
    pub async fn next(&mut self) -> Result<Message, CallError> {
        match timeout_at(self.deadline, self.replies.recv()).await {
            Ok(Some(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(CallError::NoResponders)
            }
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(_) => Err(CallError::TimedOut),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.id);
    }
}

async fn hand_out(mut replies: Subscriber, waiting: PendingCalls) {
    while let Some(message) = replies.next().await {
        let id = message
            .subject
            .rsplit('.')
            .next()
            .and_then(|token| token.parse::<u64>().ok());
        if let Some(sender) = id.and_then(|id| lock(&waiting).get(&id).cloned()) {
            // A call that was dropped in this moment no longer wants its reply.
            let _ = sender.send(message);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
