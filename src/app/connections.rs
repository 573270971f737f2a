//! The three connections of a worker. Each is made again by itself, so what ends one of them leaves
//! the other two as they are.

use super::connect::{Connection, ConnectionEvents};
use super::wait_limit::WaitLimit;
use crate::config::{NatsSettings, Role};
use std::sync::Arc;

/// The connections of a worker.
pub(super) struct Connections {
    /// Callers: requests, discovery, and the replies to both.
    pub front: Connection,
    /// The auth service: verdicts and revocations.
    pub auth: Connection,
    /// The bucket.
    pub truth: Connection,
}

/// What the events of the three connections have reported.
#[derive(Clone)]
pub(super) struct WorkerEvents {
    pub front: Arc<ConnectionEvents>,
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
            front: open(Role::Front).await?,
        })
    }

    pub fn events(&self) -> WorkerEvents {
        WorkerEvents {
            front: self.front.events.clone(),
            auth: self.auth.events.clone(),
            truth: self.truth.events.clone(),
        }
    }
}

impl WorkerEvents {
    /// What the servers have refused lately: the connection's role, and the server's last error on
    /// it.
    pub fn refused(&self) -> Vec<(Role, String)> {
        [&self.front, &self.auth, &self.truth]
            .into_iter()
            .filter_map(|events| Some((events.role, events.refused()?)))
            .collect()
    }

    /// The first connection's error that an operator has to mend, if there is one.
    pub fn missing_right(&self) -> Option<String> {
        [&self.front, &self.auth, &self.truth]
            .into_iter()
            .find_map(|events| events.missing_right())
    }
}
