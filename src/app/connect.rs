//! A connection of the published client to NATS, and the events that it reports.

use super::server::check_server_version;
use super::wait_limit::{StillUnavailable, WaitLimit};
use crate::config::{NatsSettings, Role};
use crate::front::{FrontError, denied_delay, reconnect_delay};
use crate::nats::Credentials;
use crate::requester::Requester;
use crate::telemetry;
use anyhow::Context as _;
use async_nats::{Client, ConnectError, ConnectErrorKind, Event, rustls};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

/// The longest time to connect, and the longest time until the server answers.
pub(super) const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an error of the server counts. A permission that is still missing causes another error.
const REFUSAL_TTL: Duration = Duration::from_secs(60);

/// The pause before another attempt to replace a client that has ended.
const REPLACE_PAUSE: Duration = Duration::from_secs(1);

/// The longest time from a new connection to the server's refusal of a subscription on it.
const DENIED_DELAY_MAX: Duration = Duration::from_millis(500);

/// A connection of the published client, which opens it again when it is lost.
pub(super) struct Connection {
    pub client: Client,
    /// Counts the times that the connection was opened, the first one included.
    pub reconnects: watch::Receiver<u64>,
    /// Counts the moments in which messages may have been missed.
    pub gaps: watch::Receiver<u64>,
    pub events: Arc<ConnectionEvents>,
    opener: Opener,
}

/// Opens clients for one purpose, whose events are recorded together.
#[derive(Clone)]
pub(super) struct Opener {
    settings: NatsSettings,
    role: Role,
    name: String,
    reconnects: watch::Sender<u64>,
    gaps: watch::Sender<u64>,
    events: Arc<ConnectionEvents>,
}

/// What the connection's events have reported.
#[derive(Debug)]
pub(super) struct ConnectionEvents {
    /// What the connection is for.
    pub role: Role,
    /// How often the connection was opened.
    pub connected: AtomicU64,
    /// Whether the connection is up.
    pub is_up: AtomicBool,
    /// Messages lost because a subscription's queue was full.
    pub overflowed: AtomicU64,
    /// Notified when the server refuses a subscription.
    denied: Notify,
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
            denied: Notify::default(),
            refused: Mutex::default(),
        }
    }

    /// Returns the server's last error, if it came within [`REFUSAL_TTL`]. This is the only sign of
    /// a missing permission.
    pub fn refused(&self) -> Option<String> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        _ = refused.take_if(|(_, at)| at.elapsed() >= REFUSAL_TTL);

        refused.as_ref().map(|(error, _)| error.clone())
    }

    /// Returns the same error as a message for an operator.
    pub fn missing_right(&self) -> Option<MissingRight> {
        Some(MissingRight::of(self.role, &self.refused()?))
    }

    /// Returns the same if the error is about a missing permission. Other errors may pass.
    pub fn refusal(&self) -> Option<MissingRight> {
        let refused = self.refused().filter(|error| is_refusal(error))?;
        Some(MissingRight::of(self.role, &refused))
    }

    fn set_refused(&self, refused: Option<(String, Instant)>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }
}

/// A server has refused something to the user of a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the NATS user of nats.{role} lacks a right, see nats/accounts.conf: {refused}")]
pub struct MissingRight {
    role: &'static str,
    refused: String,
}

impl MissingRight {
    /// Returns the error about what a server refused to the user of `role`.
    pub(super) fn of(role: Role, refused: &str) -> Self {
        Self {
            role: role.name(),
            refused: refused.to_owned(),
        }
    }
}

/// Returns whether a server did not accept the user, or refused something to the user.
pub fn is_not_authorised(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<ConnectError>().map(ConnectError::kind);

    error.is::<MissingRight>()
        || matches!(
            kind,
            Some(ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation)
        )
}

impl Connection {
    /// Connects for `role` under `name`, and waits while no server can be reached, up to `limit`.
    pub async fn wait_for(
        settings: &NatsSettings,
        role: Role,
        name: &str,
        limit: WaitLimit,
    ) -> anyhow::Result<Self> {
        let opener = Opener {
            settings: settings.clone(),
            role,
            name: name.to_owned(),
            reconnects: watch::Sender::new(0),
            gaps: watch::Sender::new(0),
            events: Arc::new(ConnectionEvents::new(role)),
        };

        Ok(Self {
            client: opener.wait_for(limit).await?,
            reconnects: opener.reconnects.subscribe(),
            gaps: opener.gaps.subscribe(),
            events: opener.events.clone(),
            opener,
        })
    }

    pub fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

impl Opener {
    async fn wait_for(&self, limit: WaitLimit) -> anyhow::Result<Client> {
        until_connected(limit, || self.open()).await
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// Fails if no server can be reached, or if the server does not accept the user or is too old.
    async fn open(&self) -> anyhow::Result<Client> {
        let Self { settings, role, .. } = self;
        let user = settings.user(*role);
        let recorder = self.clone();

        let access = settings
            .access(*role)
            .with_context(|| format!("nats.{} cannot be used", role.name()))?;
        let options = access
            .options()
            .name(&self.name)
            .custom_inbox_prefix(&user.inbox_prefix)
            .connection_timeout(ROUND_TRIP_TIMEOUT)
            .subscription_capacity(settings.queue_messages)
            .ping_interval(Duration::from_secs(5))
            .reconnect_delay_callback(|attempts| {
                reconnect_delay(u32::try_from(attempts).unwrap_or(u32::MAX))
            })
            .event_callback(move |event| {
                recorder.record(&event);
                async {}
            });

        let client = options
            .connect(access.servers())
            .await
            .with_context(|| unreachable(*role, access.credentials()))?;
        check_server_version(&client.server_info().version)?;

        Ok(client)
    }

    /// Keeps the connection of `requester` in use. Never returns.
    ///
    /// An unreadable message may end the client's task for good. Then another client replaces it.
    ///
    /// A reload of the server's accounts may take a right away, so that the server refuses a
    /// subscription. It reports nothing when the right is given back. So the connection is opened
    /// again at intervals until the server accepts the subscription.
    pub async fn keep(self, requester: Requester) {
        loop {
            tokio::select! {
                () = requester.ended() => self.replace(&requester).await,
                () = self.events.denied.notified() => self.reopen(&requester).await,
            }
        }
    }

    async fn replace(&self, requester: &Requester) {
        let connection = self.role.name();
        warn!(connection, "the NATS client has ended, replacing it");
        self.lost();

        loop {
            let replaced = match self.wait_for(WaitLimit::FOREVER).await {
                Ok(client) => requester.replace(client).await.map_err(Into::into),
                Err(error) => Err(error),
            };

            match replaced {
                Ok(()) => return,
                Err(error) => {
                    let error = format!("{error:#}");
                    error!(
                        connection,
                        error, "cannot replace the NATS client, will retry"
                    );
                }
            }

            sleep(REPLACE_PAUSE).await;
        }
    }

    async fn reopen(&self, requester: &Requester) {
        sleep(denied_delay()).await;

        let mut reconnects = self.reconnects.subscribe();
        // This fails if the client has ended, and the client is replaced then.
        let _ = requester.client().force_reconnect().await;
        let reconnected = timeout(ROUND_TRIP_TIMEOUT, reconnects.changed()).await;
        sleep(DENIED_DELAY_MAX).await;

        // If the server refuses a subscription again, it has reported that by now.
        let is_denied = timeout(Duration::ZERO, self.events.denied.notified())
            .await
            .is_ok();
        if is_denied || reconnected.is_err() {
            self.events.denied.notify_one();
        } else {
            self.events.set_refused(None);
            info!(
                connection = self.role.name(),
                "the NATS server accepts the subscriptions again"
            );
        }
    }

    fn lost(&self) {
        self.events.is_up.store(false, Ordering::Relaxed);
        self.gaps.send_modify(|count| *count += 1);
    }

    /// Records an event of the client in the counters and the log.
    fn record(&self, event: &Event) {
        let events = &self.events;
        let connection = self.role.name();

        match event {
            Event::Connected => {
                self.gaps.send_modify(|count| *count += 1);
                self.reconnects.send_modify(|count| *count += 1);
                events.connected.fetch_add(1, Ordering::Relaxed);
                events.is_up.store(true, Ordering::Relaxed);
                info!(connection, "connected to NATS");
            }
            Event::Disconnected => {
                self.lost();
                warn!(connection, "disconnected from NATS");
            }
            Event::SlowConsumer(subscription) => {
                self.gaps.send_modify(|count| *count += 1);
                let dropped = events.overflowed.fetch_add(1, Ordering::Relaxed) + 1;
                if dropped.is_power_of_two() {
                    warn!(
                        connection,
                        subscription,
                        dropped,
                        "the queue of a subscription is full, messages are lost"
                    );
                }
            }
            // This is the only sign of a missing permission.
            Event::ServerError(error) => {
                let error = error.to_string();
                log_server_error(connection, &error);
                if is_denied_subscription(&error) {
                    self.gaps.send_modify(|count| *count += 1);
                    events.denied.notify_one();
                }
                events.set_refused(Some((error, Instant::now())));
            }
            other => info!(connection, event = %other, "event of the NATS connection"),
        }
    }
}

/// Repeats `open` while no server can be reached, up to `limit`.
///
/// # Errors
///
/// Fails on an error that waiting does not mend, or with [`StillUnavailable`] at the limit.
pub(super) async fn until_connected<T, F>(
    limit: WaitLimit,
    open: impl Fn() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut attempts: u32 = 0;

    loop {
        let error = match open().await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };

        if !is_temporary(&error) {
            return Err(error);
        }

        attempts += 1;
        if attempts.is_power_of_two() && !limit.is_over() {
            warn!(error = format!("{error:#}"), "waiting for NATS");
        }

        if !limit.pause(reconnect_delay(attempts)).await {
            return Err(error.context(StillUnavailable("NATS".to_owned())));
        }
    }
}

/// Logs an error of the server. What it refuses has a target of its own.
fn log_server_error(connection: &'static str, error: &str) {
    const MESSAGE: &str = "the NATS server reports an error";

    if is_refusal(error) {
        error!(target: telemetry::REFUSALS, connection, error, "{MESSAGE}");
    } else {
        error!(connection, error, "{MESSAGE}");
    }
}

/// Returns whether the server's error is about a missing permission, and not about the connection.
fn is_refusal(error: &str) -> bool {
    error.to_ascii_lowercase().contains("permissions violation")
}

/// Returns whether the server's error is about a subscription. The protocol has only text for it,
/// and the client changes the case of its letters.
fn is_denied_subscription(error: &str) -> bool {
    let error = error.to_ascii_lowercase();

    error.contains("permissions violation for subscription")
}

/// Returns the message that names the settings to check when there is no connection with these
/// credentials.
pub(super) fn unreachable(role: Role, credentials: &Credentials) -> String {
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

/// Returns whether the connection may succeed later without a change of the settings: the host name
/// has no address, or the server is down or does not answer.
fn is_temporary(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<FrontError>() {
        return error.is_temporary();
    }

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
