//! What a worker does with changed settings.

use super::connect::Opener;
use super::connections::front_settings;
use super::payload;
use super::reload::{NewSettings, Target};
use crate::auth::Keys;
use crate::config::{NatsSettings, Role, Settings, Uptake};
use crate::front::Front;
use crate::handler::{Limits, Service};
use crate::requester::Requester;
use crate::shard::Store;
use tracing::{info, warn};

/// The parts of a worker that take up changed settings.
pub(super) struct WorkerTarget {
    pub service: Service,
    pub front: Front,
    pub auth: Opener,
    pub truth: Opener,
    /// The requests to the bucket, whose server has a `max_payload` too.
    pub truth_requester: Requester,
    pub store: Store,
    /// The name of the connection on which callers reach the worker.
    pub name: &'static str,
    /// The settings of the connections at start.
    pub started: NatsSettings,
    /// A changed URL of the same database, with which no connection was made yet.
    pub postgres_url: Option<String>,
}

impl Target for WorkerTarget {
    fn uses(&self, _: &str, uptake: Uptake) -> bool {
        uptake != Uptake::Maintain
    }

    fn needs_restart(&self, uptake: Uptake, settings: &Settings) -> bool {
        match uptake {
            Uptake::Restart => true,
            Uptake::Postgres => !self.is_same_database(settings),
            _ => false,
        }
    }

    fn problems(&self, new: &NewSettings<'_>) -> Vec<String> {
        let mut problems = Vec::new();
        if new.changes.concern(Uptake::Limits) {
            problems = self.payload_problems(&new.settings.limits);
        }
        if let Err(error) = self.store.is_same_database(&new.settings.postgres.url) {
            problems.push(error.to_string());
        }
        if let Err(error) = front_settings(&new.settings.nats, self.name) {
            problems.push(format!("nats.front: {error}"));
        }

        problems
    }

    fn apply(&mut self, new: &NewSettings<'_>, keys: Option<Keys>) {
        if new.changes.concern(Uptake::Limits) {
            self.set_limits(&new.settings.limits);
        }
        if let Some(keys) = keys {
            self.service.auth.replace_keys(keys);
        }
        if new.changes.concern(Uptake::Postgres) {
            let url = new.settings.postgres.url.clone();
            self.postgres_url = self.is_same_database(new.settings).then_some(url);
        }

        let nats = with_fixed(&new.settings.nats, &self.started);
        for role in Role::ALL {
            if new
                .changes
                .concern_connection(role, new.former, new.settings)
            {
                self.renew(role, &nats);
            }
        }
    }

    async fn catch_up(&mut self) -> Option<String> {
        let url = self.postgres_url.as_ref()?;

        match self.store.renew(url).await {
            Ok(()) => {
                info!("connected to Postgres with the changed settings");
                self.postgres_url = None;
                None
            }
            Err(error) => Some(format!("postgres.url: {error}")),
        }
    }
}

impl WorkerTarget {
    fn payload_problems(&self, limits: &Limits) -> Vec<String> {
        let mut problems = limits.payload_problems(self.front.info().max_payload);
        let max_payload = self.truth_requester.client().server_info().max_payload;
        if let Err(error) = payload::check_truth(limits, max_payload) {
            problems.push(error.to_string());
        }

        problems
    }

    fn set_limits(&self, limits: &Limits) {
        self.service.limits.replace(limits.clone());
        if let Some(reference) = &self.service.reference {
            reference.set_limits(&limits.item);
        }

        if !self.service.owners.caches(limits.heaviest_owner_bytes()) {
            warn!(
                "the largest owner that the limits permit does not fit into the memory for owners \
                 before a restart: such an owner is loaded for each request"
            );
        }
    }

    /// Opens a connection again.
    fn renew(&self, role: Role, nats: &NatsSettings) {
        match role {
            Role::Front => match front_settings(nats, self.name) {
                Ok(settings) => self.front.renew(settings),
                Err(error) => warn!(%error, "nats.front cannot be used"),
            },
            Role::Auth => self.auth.renew_with(nats.clone()),
            Role::Truth => self.truth.renew_with(nats.clone()),
        }
    }

    fn is_same_database(&self, settings: &Settings) -> bool {
        self.store
            .is_same_database(&settings.postgres.url)
            .unwrap_or_default()
    }
}

/// Returns the settings of the connections with those that cannot change as they were at start.
pub(super) fn with_fixed(nats: &NatsSettings, started: &NatsSettings) -> NatsSettings {
    let mut nats = nats.clone();
    nats.queue_messages = started.queue_messages;
    nats.front.inbox_prefix = started.front.inbox_prefix.clone();
    nats.auth.inbox_prefix = started.auth.inbox_prefix.clone();
    nats.truth.inbox_prefix = started.truth.inbox_prefix.clone();

    nats
}
