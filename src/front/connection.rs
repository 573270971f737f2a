//! The handle of the connection.

use super::commands::is_subject;
use super::error::{Disconnected, FrontError, InvalidSubject, PublishError};
use super::headers::HeaderBlock;
use super::link::Link;
use super::outbox::Outbox;
use super::pool::Pool;
use super::protocol::ServerInfo;
use super::registry::{Queue, Registry, Route};
use super::settings::FrontSettings;
use super::shared::{Command, Commands, Shared};
use super::state::{FrontCounters, FrontState};
use super::subscription::Subscription;
use super::task::Task;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// A connection on which a worker answers callers. A clone is the same connection, which ends with
/// its last handle.
#[derive(Clone)]
pub struct Front {
    shared: Arc<Shared>,
    commands: Commands,
    settings: Arc<FrontSettings>,
    next_sid: Arc<AtomicU64>,
}

impl Front {
    /// Connects: tries each server once, in random order. From then on the connection is opened
    /// again when it is lost.
    ///
    /// # Errors
    /// When no server takes it. A credential or a certificate that is wrong ends the attempt at the
    /// first server.
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
        let task = Task {
            settings: settings.clone(),
            shared: shared.clone(),
            commands: received,
            pool,
            registry: Registry::new(counters),
        };
        tokio::spawn(task.run(link));
        Ok(Self {
            shared,
            commands,
            settings,
            next_sid: Arc::new(AtomicU64::new(1)),
        })
    }

    /// Subscribes, as a member of a queue group if one is named. Whether the server lets this user
    /// do that shows in [`state`](Self::state): after a [`flush`](Self::flush) it is known.
    ///
    /// # Errors
    /// When no subject or queue group can be spelled so.
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
        // Once the connection is closed, the subscription ends at once.
        let _ = self.commands.send(Command::Subscribe { sid, route });
        let commands = self.commands.clone();
        Ok(Subscription::new(sid, messages, waiting_bytes, commands))
    }

    /// Publishes a message. It waits while too much waits to be written, and otherwise only takes
    /// the message: what is published while there is no connection is sent on the next one.
    ///
    /// # Errors
    /// When the server would not take the message, or the connection is closed.
    pub async fn publish(
        &self,
        subject: &str,
        headers: &HeaderBlock,
        payload: &[u8],
    ) -> Result<(), PublishError> {
        self.shared.outbox.publish(subject, headers, payload).await
    }

    /// Ends when the server has taken everything that was published and subscribed to before. It
    /// waits for the server's answer as long as the connection stands, so give it a time limit.
    ///
    /// # Errors
    /// When the connection is lost before, or there is none.
    pub async fn flush(&self) -> Result<(), Disconnected> {
        self.ask(Command::Flush).await
    }

    /// As [`flush`](Self::flush), and then ends the connection. All subscriptions end.
    ///
    /// # Errors
    /// When the connection is lost before, or there is none. It has ended then, too.
    pub async fn close(self) -> Result<(), Disconnected> {
        self.ask(Command::Close).await
    }

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

    /// How long the server takes to answer, what waits to be written included.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn rtt(&self) -> Result<Duration, Disconnected> {
        let began = Instant::now();
        self.flush().await?;
        Ok(began.elapsed())
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.shared.state.borrow().is_connected
    }

    /// The server of the newest connection, as it is now.
    pub fn info(&self) -> Arc<ServerInfo> {
        self.shared.state.borrow().info.clone()
    }

    /// How the connection is, now and from now on.
    pub fn state(&self) -> watch::Receiver<FrontState> {
        self.shared.state.subscribe()
    }

    /// What was counted so far.
    pub fn counters(&self) -> &FrontCounters {
        &self.shared.counters
    }
}
