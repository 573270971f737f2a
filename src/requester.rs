//! Requests to other NATS subjects. All replies arrive on one inbox.
//!
//! The client's own `request` keeps an entry for each request that times out, takes only one reply,
//! and may wait forever while the connection is down and its queue is full. A call of this module
//! ends by its deadline, leaves nothing behind, and may have many replies (a direct get of several
//! messages).

use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, StatusCode, SubscribeError, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How long a request waits for a connection that was lost: most are back within milliseconds.
const RECONNECT_WAIT: Duration = Duration::from_millis(100);
const RECONNECT_LOOK: Duration = Duration::from_millis(5);

/// The calls that wait for replies, by their ids.
type PendingCalls = Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<Message>>>>;

/// Sends requests, and routes each reply to the call that waits for it.
///
/// Some header blocks make the client's task panic, which ends it. The owner of the connection then
/// has to [replace](Self::replace) the client.
#[derive(Clone)]
pub struct Requester {
    channel: Arc<RwLock<Arc<Channel>>>,
    next_id: Arc<AtomicU64>,
}

/// A client and the inbox on it.
struct Channel {
    client: Client,
    inbox: String,
    pending: PendingCalls,
    /// Cancelled when the client's task has ended.
    ended: CancellationToken,
    _routing: AbortOnDropHandle<()>,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request was not sent: the circuit breaker is open.
    #[error("circuit open, nothing was sent")]
    KnownUnavailable,
    /// The request was not sent: the connection is down.
    #[error("not connected to NATS")]
    NotConnected,
    /// The request was sent, and nothing subscribes to its subject.
    #[error("no responders")]
    NoResponders,
    /// The server replied that it is too busy to take the request.
    #[error("the server is busy")]
    Busy,
    /// The request was sent, or may still be; no answer came in time.
    #[error("no answer in time")]
    TimedOut,
}

/// An error that may be temporary.
pub trait Transient {
    /// Returns whether a server is unavailable, so that the same call may succeed later.
    fn is_unavailable(&self) -> bool;
}

impl Transient for CallError {
    fn is_unavailable(&self) -> bool {
        true
    }
}

impl Requester {
    /// Subscribes to a new inbox on `client`.
    pub async fn start(client: Client) -> Result<Self, SubscribeError> {
        let channel = Channel::open(client).await?;

        Ok(Self {
            channel: Arc::new(RwLock::new(Arc::new(channel))),
            next_id: Arc::default(),
        })
    }

    /// Sends all further requests through `client`.
    pub async fn replace(&self, client: Client) -> Result<(), SubscribeError> {
        let channel = Arc::new(Channel::open(client).await?);
        *self.channel.write().unwrap_or_else(PoisonError::into_inner) = channel;

        Ok(())
    }

    fn channel(&self) -> Arc<Channel> {
        let channel = self.channel.read().unwrap_or_else(PoisonError::into_inner);
        channel.clone()
    }

    /// Returns the client that the requests use now.
    pub fn client(&self) -> Client {
        self.channel().client.clone()
    }

    /// Returns whether the connection is up, as far as the client knows.
    pub fn is_connected(&self) -> bool {
        self.channel().is_connected()
    }

    /// Returns the client once its connection is up. A connection that was just lost is usually made
    /// again at once, so the call waits a moment for that.
    pub async fn connected(&self, deadline: Instant) -> Result<Client, CallError> {
        let channel = self.wait_until_connected(deadline).await?;

        Ok(channel.client.clone())
    }

    async fn wait_until_connected(&self, deadline: Instant) -> Result<Arc<Channel>, CallError> {
        let until = deadline.min(Instant::now() + RECONNECT_WAIT);

        loop {
            let channel = self.channel();
            if channel.is_connected() {
                return Ok(channel);
            }
            if Instant::now() >= until {
                return Err(CallError::NotConnected);
            }
            sleep(RECONNECT_LOOK).await;
        }
    }

    /// Waits until the client's task has ended.
    pub async fn ended(&self) {
        self.channel().ended.cancelled().await;
    }

    /// Sends a request. Its replies arrive at the returned [`Call`].
    ///
    /// Fails while the connection is down, see [`connected`](Self::connected). Otherwise the client
    /// would queue the request, and the request could arrive long after the caller has received an
    /// error.
    pub async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Call, CallError> {
        let channel = self.wait_until_connected(deadline).await?;

        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::unbounded_channel();
        lock(&channel.pending).insert(id, sender);
        if channel.ended.is_cancelled() {
            // The client has ended meanwhile, so nothing ends this call any more.
            lock(&channel.pending).remove(&id);
            return Err(CallError::NotConnected);
        }

        let call = Call {
            id,
            replies,
            pending: channel.pending.clone(),
            deadline,
        };

        let reply = format!("{}.{id}", channel.inbox);
        let publish = channel
            .client
            .publish_with_reply_and_headers(subject, reply, headers, payload);

        match timeout_at(deadline, publish).await {
            Ok(Ok(())) => Ok(call),
            Ok(Err(_)) => Err(CallError::NotConnected),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    /// Sends a request and waits for its one reply.
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

impl Channel {
    async fn open(client: Client) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        let replies = client.subscribe(format!("{inbox}.*")).await?;
        let pending = PendingCalls::default();
        let ended = CancellationToken::new();

        let routing = tokio::spawn({
            let pending = pending.clone();
            let ended = ended.clone();

            async move {
                route_replies(replies, &pending).await;

                ended.cancel();
                // Ends the calls under way, because no more replies arrive.
                lock(&pending).clear();
            }
        });

        Ok(Self {
            client,
            inbox,
            pending,
            ended,
            // The subscription would keep the client alive, and with it the connection.
            _routing: AbortOnDropHandle::new(routing),
        })
    }

    fn is_connected(&self) -> bool {
        !self.ended.is_cancelled() && self.client.connection_state() == State::Connected
    }
}

/// A request under way. Dropping it ends it; later replies are discarded.
pub struct Call {
    id: u64,
    replies: mpsc::UnboundedReceiver<Message>,
    pending: PendingCalls,
    deadline: Instant,
}

impl Call {
    /// Extends the deadline for further replies. It never shortens the deadline.
    pub fn extend(&mut self, deadline: Instant) {
        self.deadline = self.deadline.max(deadline);
    }

    /// Waits for the next reply until the call's deadline.
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
        lock(&self.pending).remove(&self.id);
    }
}

/// Sends each reply to its call, by the last token of the reply's subject.
async fn route_replies(mut replies: Subscriber, pending: &PendingCalls) {
    while let Some(message) = replies.next().await {
        let id = message
            .subject
            .rsplit('.')
            .next()
            .and_then(|token| token.parse::<u64>().ok());

        if let Some(sender) = id.and_then(|id| lock(pending).get(&id).cloned()) {
            // This fails if the call was dropped at this moment; its reply is not needed then.
            let _ = sender.send(message);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
