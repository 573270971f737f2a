//! The handle of the connection.

use super::context::Context;
use super::encoder::is_subject;
use super::error::{Disconnected, FrontError, InvalidSubject, PublishError};
use super::headers::HeaderBlock;
use super::link::Link;
use super::outbox::Outbox;
use super::pool::Pool;
use super::protocol::ServerInfo;
use super::registry::{Queue, Registry, Route};
use super::settings::FrontSettings;
use super::shared::{Command, CommandSender, Shared};
use super::state::{FrontCounters, FrontState};
use super::subscription::Subscription;
use super::task::Task;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

/// A connection on which a worker answers callers. Clones share the connection. It ends when the
/// last clone and the last subscription are dropped.
#[derive(Clone)]
pub struct Front {
    shared: Arc<Shared>,
    commands: CommandSender,
    settings: Arc<FrontSettings>,
    next_sid: Arc<AtomicU64>,
}

impl Front {
    /// Connects: tries each server once, in random order. From then on, a lost connection is opened
    /// again without end.
    ///
    /// # Errors
    /// Fails when no server accepts the connection, with the error of the last one. Credentials
    /// that a server refuses, and files of TLS that cannot be used, end the attempt at once.
    pub async fn connect(settings: FrontSettings) -> Result<Self, FrontError> {
        let pool = Pool::new(&settings.servers, settings.ignore_discovered)?;
        let link = Link::open_any(pool.shuffled(), &settings).await?;

        let counters = Arc::new(FrontCounters::default());
        let state = FrontState {
            is_connected: true,
            info: Arc::new(link.info.clone()),
            ..FrontState::default()
        };
        let shared = Arc::new(Shared {
            outbox: Outbox::default(),
            state: watch::Sender::new(state),
            counters: counters.clone(),
        });
        shared.outbox.set_max_payload(link.info.max_payload);

        let settings = Arc::new(settings);
        let (commands, received) = mpsc::unbounded_channel();
        let context = Context {
            settings: settings.clone(),
            shared: shared.clone(),
            pool,
            registry: Registry::new(counters),
        };
        let task = Task {
            context,
            commands: received,
        };
        tokio::spawn(task.run(link));

        Ok(Self {
            shared,
            commands,
            settings,
            next_sid: Arc::new(AtomicU64::new(1)),
        })
    }

    /// Subscribes, as a member of a queue group if one is named. If the server denies it, the
    /// subject stands in [`state`](Self::state) after a [`flush`](Self::flush).
    ///
    /// # Errors
    /// Fails when the subject or the queue group has characters that cannot be sent, or is too
    /// long.
    pub fn subscribe(
        &self,
        subject: &str,
        queue_group: Option<&str>,
    ) -> Result<Subscription, InvalidSubject> {
        if !is_subject(subject) || !queue_group.is_none_or(is_subject) {
            return Err(InvalidSubject);
        }

        let sid = self.next_sid.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(self.settings.queue_messages.max(1));
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let route = Route {
            subject: subject.to_owned(),
            queue_group: queue_group.map(str::to_owned),
            queue: Queue {
                sender,
                waiting_bytes: waiting_bytes.clone(),
                bytes_max: self.settings.queue_bytes,
            },
            is_denied: false,
            ending: None,
        };

        // This fails if the connection is closed. The subscription ends at once then.
        let _ = self.commands.send(Command::Subscribe { sid, route });
        let commands = self.commands.clone();
        Ok(Subscription::new(sid, messages, waiting_bytes, commands))
    }

    /// Queues a message. It waits while the queue is full. A message that is queued while there is
    /// no connection is sent on the next one.
    ///
    /// # Errors
    /// Fails when the server would not accept the message, or the connection is closed.
    pub async fn publish(
        &self,
        subject: &str,
        headers: &HeaderBlock,
        payload: &[u8],
    ) -> Result<(), PublishError> {
        self.shared.outbox.publish(subject, headers, payload).await
    }

    /// Waits until the server has processed everything that was published and subscribed to before.
    /// It waits for the server's answer as long as the connection is open, so give it a time limit.
    ///
    /// # Errors
    /// Fails when the connection is lost first, or there is none.
    pub async fn flush(&self) -> Result<(), Disconnected> {
        self.ask(Command::Flush).await
    }

    /// Flushes as [`flush`](Self::flush) does, then ends the connection and all subscriptions.
    ///
    /// # Errors
    /// Fails when the connection is lost first, or there is none. It has ended then, too.
    pub async fn close(self) -> Result<(), Disconnected> {
        self.ask(Command::Close).await
    }

    /// Sends a command, and waits for its answer.
    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<()>) -> Command,
    ) -> Result<(), Disconnected> {
        let (sender, receiver) = oneshot::channel();
        self.commands
            .send(command(sender))
            .map_err(|_| Disconnected)?;

        receiver.await.map_err(|_| Disconnected)
    }

    /// Returns whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.shared.state.borrow().is_connected
    }

    /// Returns what the server of the newest connection reported last.
    pub fn info(&self) -> Arc<ServerInfo> {
        self.shared.state.borrow().info.clone()
    }

    /// Returns the state of the connection, which can be watched for changes.
    pub fn state(&self) -> watch::Receiver<FrontState> {
        self.shared.state.subscribe()
    }

    /// Returns the counts so far.
    pub fn counters(&self) -> &FrontCounters {
        &self.shared.counters
    }
}
