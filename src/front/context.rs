//! What the task keeps from one link to the next.

use super::link::Link;
use super::pool::{Pool, denied_delay};
use super::protocol::ServerInfo;
use super::registry::Registry;
use super::session::{Session, Waiter};
use super::settings::FrontSettings;
use super::shared::Shared;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::{info, warn};

/// What the task keeps from one link to the next.
pub(super) struct Context {
    pub settings: Arc<FrontSettings>,
    pub shared: Arc<Shared>,
    pub pool: Pool,
    pub registry: Registry,
    /// Whether the settings have changed, and no link was opened with them yet.
    pub is_renewing: bool,
    /// The settings with which a link was opened last.
    pub proven: Arc<FrontSettings>,
    /// Whether the newest link was opened with the proven settings, because the changed ones do not
    /// work.
    pub uses_proven: bool,
}

impl Context {
    /// Takes other settings for the next link. The servers that others have named stay known,
    /// unless the settings name other servers than before.
    pub fn take_settings(&mut self, settings: Arc<FrontSettings>) {
        let has_other_servers = settings.servers != self.settings.servers
            || settings.ignore_discovered != self.settings.ignore_discovered;
        if has_other_servers {
            match Pool::new(&settings.servers, settings.ignore_discovered) {
                Ok(pool) => self.pool = pool,
                Err(error) => warn!(%error, "the servers cannot be used, keeping the former ones"),
            }
        }

        self.settings = settings;
        self.is_renewing = true;
        self.shared.state.send_modify(|state| state.renewal = None);
    }

    /// Reports why no other link could be opened. Returns whether that is new.
    pub fn report_not_opened(&self, error: &str) -> bool {
        if !self.is_renewing {
            return true;
        }

        self.shared.state.send_if_modified(|state| {
            let is_new = state.renewal.as_deref() != Some(error);
            state.renewal = Some(error.to_owned());
            is_new
        })
    }

    /// Starts the session of a link that follows none: subscribes to everything at once.
    pub fn start_session(&mut self, link: &mut Link) -> Session {
        let mut session = Session::new(self.settings.ping_interval);
        self.registry.subscribe(&mut link.writer.control, |_| true);
        session.ping(&mut link.writer.control, Waiter::Subscribed);

        self.report_connected(link);
        if self.is_renewing {
            session.replace_at = Some(Instant::now() + denied_delay());
        }
        session
    }

    /// Applies what a server reports about itself.
    pub fn apply_info(&mut self, info: &ServerInfo, link: &mut Link) {
        link.info = info.clone();
        link.reader.decoder.set_max_payload(info.max_payload);
        self.shared.outbox.set_max_payload(info.max_payload);
        self.pool.discover(&link.server, link.has_tls, info);

        let info = Arc::new(info.clone());
        self.shared.state.send_modify(|state| state.info = info);
    }

    /// Reports a new link in the state and in the log.
    pub fn report_connected(&mut self, link: &mut Link) {
        self.apply_info(&link.info.clone(), link);

        self.is_renewing = self.uses_proven;
        if !self.uses_proven {
            self.proven = self.settings.clone();
        }
        self.uses_proven = false;
        let is_renewed = !self.is_renewing;
        self.shared.state.send_modify(|state| {
            state.is_connected = true;
            state.connections += 1;
            _ = state.renewal.take_if(|_| is_renewed);
        });
        info!(
            server = link.server.address(),
            version = link.info.version,
            tls = link.has_tls,
            "connected to NATS"
        );
    }

    /// Reports the denied subscriptions in the state. The server sends nothing when the permission
    /// is granted again, so another link has to try.
    pub fn report_denied(&self, session: &mut Session) {
        let denied = self.registry.denied();
        if !denied.is_empty() && session.replace_at.is_none() {
            session.replace_at = Some(Instant::now() + denied_delay());
        }

        self.shared.state.send_if_modified(|state| {
            let has_changed = state.denied != denied;
            state.denied = denied;
            has_changed
        });
    }
}
