//! A connection to NATS, and the events that it reports.

use super::server::check_server;
use super::wait_limit::{StillUnavailable, WaitLimit};
use crate::config::{NatsSettings, Role};
use crate::nats::Credentials;
use anyhow::Context as _;
use async_nats::client::RequestErrorKind;
use async_nats::{Client, ConnectError, ConnectErrorKind, Event, rustls};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How long it may take to connect, and to flush what waits to be sent.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an error of the server counts. A permission that is still missing causes another one.
const REFUSAL_TTL: Duration = Duration::from_secs(60);

/// A connection that is made again when it is lost.
pub(super) struct Connection {
    pub client: Client,
    /// Counts the connections made, the first one included.
    pub reconnects: watch::Receiver<u64>,
    /// Counts the moments in which messages may have been missed.
    pub gaps: watch::Receiver<u64>,
    pub events: Arc<ConnectionEvents>,
}

/// What the connection's events have reported.
#[derive(Debug)]
pub(super) struct ConnectionEvents {
    /// What the connection is for.
    pub role: Role,
    /// Connections made.
    pub connected: AtomicU64,
    /// Whether the connection is up.
    pub is_up: AtomicBool,
    /// Messages lost because a subscription's queue was full.
    pub overflowed: AtomicU64,
    /// The id of the one subscription whose lost messages count as a gap; 0 while there is none.
    pub watched_subscription: AtomicU64,
    /// The server's last error, and when it came.
    refused: Mutex<Option<(String, Instant)>>,
}

impl ConnectionEvents {
    fn new(role: Role) -> Self {
        Self {
            role,
            connected: AtomicU64::default(),
            is_up: AtomicBool::default(),
            overflowed: AtomicU64::default(),
            watched_subscription: AtomicU64::default(),
            refused: Mutex::default(),
        }
    }

    /// The server's last error, if it came within [`REFUSAL_TTL`]. This is the only sign of a
    /// missing permission.
    pub fn refused(&self) -> Option<String> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        _ = refused.take_if(|(_, at)| at.elapsed() >= REFUSAL_TTL);
        refused.as_ref().map(|(error, _)| error.clone())
    }

    /// The same as a message for an operator.
    pub fn missing_right(&self) -> Option<String> {
        let refused = self.refused()?;
        let role = self.role.name();

        Some(format!(
            "the NATS user of nats.{role} lacks a right, see nats/accounts.conf: {refused}"
        ))
    }
}

impl Connection {
    /// Connects for `role` under `name`, and waits while no server can be reached, up to `limit`.
    pub async fn wait_for(
        settings: &NatsSettings,
        role: Role,
        name: &str,
        limit: WaitLimit,
    ) -> anyhow::Result<Self> {
        let mut attempts: u32 = 0;
        loop {
            let error = match Self::open(settings, role, name).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };

            if !may_pass(&error) {
                return Err(error);
            }

            attempts += 1;
            if attempts.is_power_of_two() {
                warn!(error = format!("{error:#}"), "waiting for NATS");
            }
            if !limit.pause(delay(attempts as usize)).await {
                return Err(error.context(StillUnavailable("NATS".to_owned())));
            }
        }
    }

    /// Connects for `role` under `name`.
    ///
    /// # Errors
    /// No server can be reached, or the server does not accept the user, or is too old.
    async fn open(settings: &NatsSettings, role: Role, name: &str) -> anyhow::Result<Self> {
        let user = settings.user(role);
        let (connections, reconnects) = watch::channel(0);
        let (missed, gaps) = watch::channel(0);
        let events = Arc::new(ConnectionEvents::new(role));
        let recorded = events.clone();

        let access = settings
            .access(role)
            .with_context(|| format!("nats.{} cannot be used", role.name()))?;
        let options = access
            .options()
            .name(name)
            .custom_inbox_prefix(&user.inbox_prefix)
            .connection_timeout(ROUND_TRIP_TIMEOUT)
            .subscription_capacity(settings.queue_messages)
            .ping_interval(Duration::from_secs(5))
            .reconnect_delay_callback(delay)
            .event_callback(move |event| {
                record(&event, &connections, &missed, &recorded);
                async {}
            });

        let client = options
            .connect(access.servers())
            .await
            .with_context(|| unreachable(role, access.credentials()))?;
        check_server(&client.server_info())?;

        Ok(Self {
            client,
            reconnects,
            gaps,
            events,
        })
    }

    /// Waits until everything that was sent before is on its way to the server.
    pub async fn flush(&self) -> anyhow::Result<()> {
        let flush = self.client.flush();
        tokio::time::timeout(ROUND_TRIP_TIMEOUT, flush)
            .await
            .context("NATS does not answer")?
            .context("NATS is unavailable")
    }

    /// Waits until the server has processed everything that was sent before: it answers a later
    /// request. That goes to a new inbox of this connection, where nobody is, so that the server
    /// itself answers. Needs the right to publish to the connection's own inboxes.
    pub async fn round_trip(&self) -> anyhow::Result<()> {
        let request = self.client.request(self.client.new_inbox(), "".into());
        let answer = tokio::time::timeout(ROUND_TRIP_TIMEOUT, request)
            .await
            .context("NATS does not answer")?;

        match answer {
            Err(error) if error.kind() != RequestErrorKind::NoResponders => {
                Err(error).context("NATS is unavailable")
            }
            _ => Ok(()),
        }
    }
}

/// Names the settings to look at, if there is no connection with these credentials.
fn unreachable(role: Role, credentials: &Credentials) -> String {
    let section = format!("nats.{}", role.name());
    let with = if !credentials.creds_file.as_os_str().is_empty() {
        format!("{section}.creds_file")
    } else if !credentials.nkey_seed.is_empty() {
        format!("{section}.nkey_seed")
    } else if !credentials.token.is_empty() {
        format!("{section}.token")
    } else if !credentials.user.is_empty() {
        let user = &credentials.user;
        format!("{section}.user and {section}.password (user {user:?})")
    } else {
        "no credentials".to_owned()
    };

    format!("NATS cannot be reached for {section}, with nats.url, nats.tls and {with}")
}

/// Returns whether the connection may succeed later, without a change of the settings: a host name
/// without an address, a server that is down, or one that does not answer.
fn may_pass(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<ConnectError>().map(ConnectError::kind);
    let is_down = matches!(
        kind,
        Some(ConnectErrorKind::Io | ConnectErrorKind::Dns | ConnectErrorKind::TimedOut)
    );

    // The client reports a certificate that is not accepted as an error of the socket.
    is_down && !error.chain().any(is_tls_error)
}

fn is_tls_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);

    error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

/// How long to wait before the next attempt: longer after each failure, up to a second. A random
/// part keeps workers from reconnecting all at once.
fn delay(attempts: usize) -> Duration {
    let step = Duration::from_millis(50) * 2u32.saturating_pow(attempts.min(5) as u32);
    let step = step.min(Duration::from_secs(1));

    let [jitter] = crate::seal::random::<1>();
    step.mul_f64(0.5 + f64::from(jitter) / 512.0)
}

/// Records an event of the connection in the counters and the log.
fn record(
    event: &Event,
    connections: &watch::Sender<u64>,
    missed: &watch::Sender<u64>,
    events: &ConnectionEvents,
) {
    let connection = events.role.name();
    let is_watched = |subscription: &u64| {
        [0, *subscription].contains(&events.watched_subscription.load(Ordering::Relaxed))
    };
    let is_gap = match event {
        Event::Connected | Event::Disconnected => true,
        Event::SlowConsumer(subscription) => is_watched(subscription),
        _ => false,
    };
    if is_gap {
        missed.send_modify(|count| *count += 1);
    }

    match event {
        Event::Connected => {
            connections.send_modify(|count| *count += 1);
            events.connected.fetch_add(1, Ordering::Relaxed);
            events.is_up.store(true, Ordering::Relaxed);
            info!(connection, "connected to NATS");
        }
        Event::Disconnected => {
            events.is_up.store(false, Ordering::Relaxed);
            warn!(connection, "disconnected from NATS");
        }
        Event::SlowConsumer(subscription) => {
            let dropped = events.overflowed.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                warn!(
                    connection,
                    subscription, dropped, "the queue of a subscription is full, messages are lost"
                );
            }
        }
        // This is the only sign of a missing permission.
        Event::ServerError(error) => {
            let error = error.to_string();
            error!(connection, error, "the NATS server reports an error");
            *events
                .refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some((error, Instant::now()));
        }
        other => info!(connection, event = %other, "event of the NATS connection"),
    }
}
