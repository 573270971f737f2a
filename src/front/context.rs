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
use tracing::info;

/// What the task keeps from one link to the next.
pub(super) struct Context {
    pub settings: Arc<FrontSettings>,
    pub shared: Arc<Shared>,
    pub pool: Pool,
    pub registry: Registry,
}

impl Context {
    /// Starts the session of a link that follows none: subscribes to everything at once.
    pub fn start_session(&mut self, link: &mut Link) -> Session {
        let mut session = Session::new(self.settings.ping_interval);
        self.registry.subscribe(&mut link.writer.control, |_| true);
        session.ping(&mut link.writer.control, Waiter::Subscribed);

        self.report_connected(link);
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

        self.shared.state.send_modify(|state| {
            state.is_connected = true;
            state.connections += 1;
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
