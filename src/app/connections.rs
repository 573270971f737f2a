//! The three connections of a worker. Each is opened again on its own, so the loss of one does not
//! affect the other two.

use super::connect::{
    Connection, ConnectionEvents, MissingRight, ROUND_TRIP_TIMEOUT, unreachable, until_connected,
};
use super::server::check_server_version;
use super::wait_limit::WaitLimit;
use crate::config::{NatsSettings, Role};
use crate::front::{Front, FrontSettings};
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long an error of the callers' server counts, unless it is about a subscription.
const REFUSAL_TTL: Duration = Duration::from_secs(60);

/// The pause between two attempts to flush.
const FLUSH_PAUSE: Duration = Duration::from_millis(50);

/// The connections of a worker.
pub(super) struct Connections {
    /// Callers: requests, discovery, and the replies to both.
    pub front: Front,
    /// The auth service: verdicts and revocations.
    pub auth: Connection,
    /// The bucket.
    pub truth: Connection,
}

/// What the three connections report.
#[derive(Clone)]
pub(super) struct WorkerEvents {
    pub front: Front,
    pub auth: Arc<ConnectionEvents>,
    pub truth: Arc<ConnectionEvents>,
}

impl Connections {
    /// Connects all three under `name`. Waits while a server cannot be reached.
    pub async fn wait_for(settings: &NatsSettings, name: &str) -> anyhow::Result<Self> {
        let open = |role| Connection::wait_for(settings, role, name, WaitLimit::FOREVER);

        Ok(Self {
            truth: open(Role::Truth).await?,
            auth: open(Role::Auth).await?,
            front: open_front(settings, name).await?,
        })
    }

    pub fn events(&self) -> WorkerEvents {
        WorkerEvents {
            front: self.front.clone(),
            auth: self.auth.events.clone(),
            truth: self.truth.events.clone(),
        }
    }
}

/// Connects to the callers' server, and waits while none can be reached.
async fn open_front(settings: &NatsSettings, name: &str) -> anyhow::Result<Front> {
    let access = settings
        .access(Role::Front)
        .context("nats.front cannot be used")?;
    let front_settings = FrontSettings {
        queue_messages: settings.queue_messages,
        connect_timeout: ROUND_TRIP_TIMEOUT,
        ..access.front(name)
    };

    until_connected(WaitLimit::FOREVER, || async {
        let front = Front::connect(front_settings.clone())
            .await
            .with_context(|| unreachable(Role::Front, access.credentials()))?;
        check_server_version(&front.info().version)?;

        Ok(front)
    })
    .await
}

/// Waits until the callers' server has processed everything that was sent to it before. If the
/// connection is lost meanwhile, the flush may still succeed on the next one in time.
pub(super) async fn flush(front: &Front) -> anyhow::Result<()> {
    let flushed = async {
        while front.flush().await.is_err() {
            sleep(FLUSH_PAUSE).await;
        }
    };

    timeout(ROUND_TRIP_TIMEOUT, flushed)
        .await
        .context("the callers' NATS server does not answer")
}

impl WorkerEvents {
    /// Returns what the servers refused recently: the connection's role, and the server's last
    /// error on it.
    pub fn refused(&self) -> Vec<(Role, String)> {
        let others = [&self.auth, &self.truth]
            .into_iter()
            .filter_map(|events| Some((events.role, events.refused()?)));

        self.refused_to_front()
            .map(|refused| (Role::Front, refused))
            .into_iter()
            .chain(others)
            .collect()
    }

    /// Returns the message for an operator about the first of these errors, if there is one.
    pub fn missing_right(&self) -> Option<MissingRight> {
        let (role, refused) = self.refused().into_iter().next()?;
        Some(MissingRight::of(role, &refused))
    }

    /// Returns what the callers' server refused. A subscription counts as long as it is denied.
    fn refused_to_front(&self) -> Option<String> {
        let state = self.front.state();
        let state = state.borrow();
        let refused = state.refused.as_ref()?;

        let is_current = if refused.is_of_a_subscription() {
            !state.denied.is_empty()
        } else {
            refused.at.elapsed() < REFUSAL_TTL
        };

        is_current.then(|| refused.text.clone())
    }
}
