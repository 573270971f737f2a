//! The connection to NATS: who we are there, and what becomes of it.

use crate::config::NatsSettings;
use anyhow::Context as _;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How long it may take to connect, and to send what is to be sent.
const ROUND_TRIP: Duration = Duration::from_secs(5);

/// After that time a refusal of the server's tells nothing of how it is now.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// A connection that is made anew when it is lost.
pub(super) struct Connection {
    pub client: Client,
    /// Counts the connections made.
    pub reconnects: watch::Receiver<u64>,
    /// Counts the moments in which messages may have been missed.
    pub gaps: watch::Receiver<u64>,
    pub events: Arc<ConnectionEvents>,
}

/// What the connection's events told.
#[derive(Debug, Default)]
pub(super) struct ConnectionEvents {
    /// Connections made.
    pub connected: AtomicU64,
    /// Messages lost because a subscription's queue was full.
    pub overflowed: AtomicU64,
    /// The id of the subscription of which nothing may be missed unnoticed; 0 while there is none.
    pub heeded: AtomicU64,
    /// What the server refused last, and when.
    refused: Mutex<Option<(String, Instant)>>,
}

impl ConnectionEvents {
    /// What the server refused last; a permission that is lacking shows only so. It is forgotten after a while: one that
    /// still lacks shows again.
    pub fn refused(&self) -> Option<String> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        _ = refused.take_if(|(_, at)| at.elapsed() >= FORGOTTEN);
        refused.as_ref().map(|(what, _)| what.clone())
    }
}

impl Connection {
    /// Connects under `name`, and waits for a server that cannot be reached.
    pub async fn wait_for(settings: &NatsSettings, name: &str) -> anyhow::Result<Self> {
        let mut tries: u32 = 0;
        loop {
            let error = match Self::open(settings, name).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let kind = error.downcast_ref::<ConnectError>().map(ConnectError::kind);
            // A name that nobody knows, a server that is not up, or one that does not answer: all may mend themselves.
            if !matches!(
                kind,
                Some(ConnectErrorKind::Io | ConnectErrorKind::Dns | ConnectErrorKind::TimedOut)
            ) {
                return Err(error);
            }
            tries += 1;
            if tries.is_power_of_two() {
                warn!(error = format!("{error:#}"), "waiting for NATS");
            }
            tokio::time::sleep(delay(tries as usize)).await;
        }
    }

    /// Connects under `name`; fails if the server cannot be reached or does not know the user.
    pub async fn open(settings: &NatsSettings, name: &str) -> anyhow::Result<Self> {
        let (made, reconnects) = watch::channel(0);
        let (missed, gaps) = watch::channel(0);
        let events = Arc::new(ConnectionEvents::default());
        let noted = events.clone();
        let mut options = ConnectOptions::new()
            .name(name)
            .custom_inbox_prefix(&settings.inbox_prefix)
            .connection_timeout(ROUND_TRIP)
            .subscription_capacity(settings.queue_messages)
            .ping_interval(Duration::from_secs(5))
            .reconnect_delay_callback(delay)
            .event_callback(move |event| {
                note(&event, &made, &missed, &noted);
                async {}
            });
        if !settings.user.is_empty() {
            options = options.user_and_password(settings.user.clone(), settings.password.clone());
        }
        let servers: Vec<&str> = settings.url.split(',').map(str::trim).collect();
        let client = options.connect(servers).await.with_context(|| {
            format!(
                "NATS cannot be reached with nats.url, nats.user and nats.password (user {:?})",
                settings.user
            )
        })?;
        Ok(Self {
            client,
            reconnects,
            gaps,
            events,
        })
    }

    /// Ends when everything that was sent before is on its way to the server.
    pub async fn flush(&self) -> anyhow::Result<()> {
        let flush = self.client.flush();
        tokio::time::timeout(ROUND_TRIP, flush)
            .await
            .context("NATS does not answer")?
            .context("NATS is away")
    }
}

/// Waits longer after each failure, up to a second, and not as long as the others do, so that workers do not all come
/// back in one moment.
fn delay(attempts: usize) -> Duration {
    let step = Duration::from_millis(50) * 2u32.saturating_pow(attempts.min(5) as u32);
    let step = step.min(Duration::from_secs(1));
    let [jitter] = crate::seal::random::<1>();
    step.mul_f64(0.5 + f64::from(jitter) / 512.0)
}

fn note(
    event: &Event,
    made: &watch::Sender<u64>,
    missed: &watch::Sender<u64>,
    events: &ConnectionEvents,
) {
    let heeded =
        |subscription: &u64| [0, *subscription].contains(&events.heeded.load(Ordering::Relaxed));
    let missed_something = match event {
        Event::Connected | Event::Disconnected => true,
        Event::SlowConsumer(subscription) => heeded(subscription),
        _ => false,
    };
    if missed_something {
        missed.send_modify(|count| *count += 1);
    }
    match event {
        Event::Connected => {
            made.send_modify(|count| *count += 1);
            events.connected.fetch_add(1, Ordering::Relaxed);
            info!("connected to NATS");
        }
        Event::Disconnected => warn!("NATS is away"),
        Event::SlowConsumer(subscription) => {
            let dropped = events.overflowed.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                warn!(
                    subscription,
                    dropped, "a subscription's queue is full: messages are lost"
                );
            }
        }
        // A permission that is lacking shows only here.
        Event::ServerError(error) => {
            let error = error.to_string();
            error!(error, "the NATS server refuses something");
            *events
                .refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some((error, Instant::now()));
        }
        other => info!(event = %other, "NATS"),
    }
}
