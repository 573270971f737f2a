//! The task that owns the connection: it reads, writes, and opens the next one when this one is
//! lost.

use super::commands;
use super::drain::Drain;
use super::link::Link;
use super::pool::{Pool, delay, denied_delay};
use super::protocol::{ProtocolError, ServerInfo, ServerOp};
use super::registry::Registry;
use super::server_error::Refused;
use super::session::{Handover, Session, Waiter, left, opened};
use super::settings::FrontSettings;
use super::shared::{Command, Shared};
use super::state::Refusal;
use std::io;
use std::sync::Arc;
use std::time::Instant as Moment;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

/// The task that owns the connection.
pub(super) struct Task {
    pub settings: Arc<FrontSettings>,
    pub shared: Arc<Shared>,
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub pool: Pool,
    pub registry: Registry,
}

/// How a connection ends.
enum End {
    /// It is lost.
    Lost(LostReason),
    /// Another one follows it.
    Followed(Box<Link>),
    /// This program wants no more.
    Closed(Option<oneshot::Sender<()>>),
}

/// Why a connection is lost.
#[derive(Debug, thiserror::Error)]
enum LostReason {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the server does not answer")]
    Silent,
}

impl Task {
    /// Runs until it is told to close, or until nobody holds a handle any more.
    pub async fn run(mut self, mut link: Link) {
        let mut session = self.begin(&mut link);
        loop {
            match self.drive(&mut link, &mut session).await {
                End::Followed(next) => {
                    (link, session) = self.follow(link, session, *next);
                }
                End::Lost(reason) => {
                    let is_closing = session.is_closing;
                    drop(session);
                    self.lose(link, &reason);
                    let next = match is_closing {
                        true => None,
                        false => self.reconnect().await,
                    };
                    let Some(next) = next else { break };
                    link = next;
                    session = self.begin(&mut link);
                }
                End::Closed(waiter) => {
                    link.writer.shut_down().await;
                    self.shared.outbox.close();
                    let _ = waiter.map(|waiter| waiter.send(()));
                    break;
                }
            }
        }
        self.shared.outbox.close();
        self.shared
            .state
            .send_modify(|state| state.is_connected = false);
    }

    /// Subscribes on a new connection.
    fn begin(&mut self, link: &mut Link) -> Session {
        let mut session = Session::new(self.settings.ping_interval);
        self.registry.subscribe(&mut link.writer.control, |_| true);
        session.ping(&mut link.writer.control, Waiter::Subscribed);
        self.welcome(link);
        session
    }

    fn welcome(&mut self, link: &mut Link) {
        self.learn(&link.info.clone(), link);
        self.shared.state.send_modify(|state| {
            state.is_connected = true;
            state.connections += 1;
        });
        info!(
            server = link.server.place(),
            version = link.info.version,
            tls = link.has_tls,
            "connected to NATS"
        );
    }

    /// Reads and writes until the connection ends.
    async fn drive(&mut self, link: &mut Link, session: &mut Session) -> End {
        let mut alarm = std::pin::pin!(sleep_until(session.ping_at));
        loop {
            if !link.writer.is_busy() {
                link.writer.fill(&self.shared.outbox);
            }
            let next = self.next_alarm(session);
            if alarm.deadline() != next {
                alarm.as_mut().reset(next);
            }

            let is_busy = link.writer.is_busy();
            tokio::select! {
                read = link.reader.read() => {
                    if let Err(error) = read {
                        return End::Lost(error.into());
                    }
                    match self.take_all(link, session) {
                        Ok(None) => {}
                        Ok(Some(end)) => return end,
                        Err(error) => return End::Lost(error.into()),
                    }
                }
                written = link.writer.write(), if is_busy => {
                    if let Err(error) = written {
                        return End::Lost(error.into());
                    }
                }
                () = self.shared.outbox.filled(), if !is_busy => {}
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command, link, session),
                    None => return End::Closed(None),
                },
                () = &mut alarm => {
                    self.registry.remove_ended();
                    if !self.keep_up(link, session) {
                        return End::Lost(LostReason::Silent);
                    }
                }
                opened = opened(&mut session.replacement) => match opened {
                    Ok(next) => return End::Followed(Box::new(next)),
                    Err(error) => {
                        warn!(%error, "another connection to NATS could not be opened: this one goes on");
                        session.replace_at = Some(Instant::now() + denied_delay());
                    }
                },
                () = left(&mut session.handover) => {
                    let control = &mut link.writer.control;
                    self.registry.subscribe(control, |route| route.queue_group.is_none());
                    session.ping(control, Waiter::Subscribed);
                }
            }
        }
    }

    fn next_alarm(&self, session: &Session) -> Instant {
        let alarms = [session.replace_at, self.registry.next_end()];
        let earliest = alarms.into_iter().flatten().min();
        earliest.map_or(session.ping_at, |at| at.min(session.ping_at))
    }

    /// Does what is due; `false` if the server has left too many PINGs unanswered.
    fn keep_up(&mut self, link: &mut Link, session: &mut Session) -> bool {
        let now = Instant::now();
        if session.replace_at.is_some_and(|at| at <= now) {
            session.replace_at = None;
            let servers = match link.info.lame_duck {
                true => self.pool.others(&link.server),
                false => self.pool.shuffled(),
            };
            let is_free = session.replacement.is_none() && !session.is_closing;
            if is_free && !servers.is_empty() {
                let settings = self.settings.clone();
                session.replacement =
                    Some(Box::pin(
                        async move { Link::open_any(servers, &settings).await },
                    ));
            }
        }
        session.ping_at > now
            || session.probe(&mut link.writer.control, self.settings.ping_interval)
    }

    /// Takes everything that is complete.
    fn take_all(
        &mut self,
        link: &mut Link,
        session: &mut Session,
    ) -> Result<Option<End>, ProtocolError> {
        while let Some(op) = link.reader.decoder.decode()? {
            match op {
                ServerOp::Message(message) => self.registry.deliver(*message),
                ServerOp::TooLong { length, .. } => {
                    self.shared.counters.count_too_long();
                    warn!(
                        length,
                        "a message longer than the server's bound was skipped"
                    );
                }
                ServerOp::Ping => commands::pong(&mut link.writer.control),
                ServerOp::Pong => {
                    if let Some(Waiter::Close(waiter)) = self.take_pong(session) {
                        return Ok(Some(End::Closed(Some(waiter))));
                    }
                }
                ServerOp::Info(info) => {
                    self.learn(&info, link);
                    if info.lame_duck && session.replacement.is_none() {
                        warn!("the NATS server is about to end: another one is looked for");
                        session.replace_at = Some(Instant::now());
                    }
                }
                ServerOp::Error(text) => self.take_refusal(text, session),
                ServerOp::Ok => {}
            }
        }
        Ok(None)
    }

    /// The server's word about itself.
    fn learn(&mut self, info: &ServerInfo, link: &mut Link) {
        link.info = info.clone();
        link.reader.decoder.set_max_payload(info.max_payload);
        self.shared.outbox.set_max_payload(info.max_payload);
        self.pool.discover(&link.server, link.has_tls, info);
        let info = Arc::new(info.clone());
        self.shared.state.send_modify(|state| state.info = info);
    }

    fn take_pong(&mut self, session: &mut Session) -> Option<Waiter> {
        match session.waiters.pop_front()? {
            Waiter::Flush(waiter) => {
                let _ = waiter.send(());
            }
            Waiter::Stop(sid) => self.registry.stopped(sid),
            Waiter::Subscribed => self.subscribed(session),
            close @ Waiter::Close(_) => return Some(close),
            Waiter::Probe | Waiter::Left => {}
        }
        None
    }

    /// The server has the subscriptions that were asked for; those that it denied are known.
    fn subscribed(&mut self, session: &mut Session) {
        match session.handover.take() {
            Some(Handover::Joining { leave, left }) => {
                // It may have ended by itself.
                let _ = leave.send(());
                session.handover = Some(Handover::Leaving { left });
            }
            leaving @ Some(Handover::Leaving { .. }) => session.handover = leaving,
            None => self.tell_denied(session),
        }
    }

    fn take_refusal(&mut self, text: String, session: &mut Session) {
        error!(error = text, "the NATS server refuses something");
        let refused = Refused::parse(&text);
        let refusal = Refusal {
            text,
            at: Moment::now(),
        };
        self.shared
            .state
            .send_modify(|state| state.refused = Some(refusal));
        match refused {
            Refused::Subscription(denied) => {
                self.registry.deny(&denied);
                self.tell_denied(session);
            }
            Refused::Publish => self.shared.counters.count_publish_denied(),
            Refused::Other => {}
        }
    }

    /// Publishes what is denied. Nothing comes when the right is given back, so another connection
    /// has to find out.
    fn tell_denied(&self, session: &mut Session) {
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

    fn obey(&mut self, command: Command, link: &mut Link, session: &mut Session) {
        let control = &mut link.writer.control;
        match command {
            Command::Subscribe { sid, route } => {
                commands::subscribe(control, &route.subject, route.queue_group.as_deref(), sid);
                self.registry.insert(sid, route);
            }
            Command::Stop { sid } => {
                if self.registry.stop(sid) {
                    commands::unsubscribe(control, sid, None);
                    session.ping(control, Waiter::Stop(sid));
                }
            }
            Command::Forget { sid } => {
                if let Some(route) = self.registry.remove(sid) {
                    commands::unsubscribe(control, sid, None);
                    if route.is_denied {
                        self.tell_denied(session);
                    }
                }
            }
            Command::Flush(waiter) => session.ping(control, Waiter::Flush(waiter)),
            Command::Close(waiter) => {
                session.is_closing = true;
                session.replacement = None;
                session.ping(control, Waiter::Close(waiter));
            }
        }
    }

    /// Goes on with another connection. The one before reads what is left, in a task of its own.
    fn follow(&mut self, link: Link, session: Session, mut next: Link) -> (Link, Session) {
        let (leave, may_leave) = oneshot::channel();
        let (has_left, left) = oneshot::channel();
        let drain = Drain {
            link,
            registry: self.registry.clone(),
            waiters: session.waiters,
            leave: may_leave,
        };
        tokio::spawn(drain.run(has_left));

        self.registry.remove_ending();
        let mut session = Session::new(self.settings.ping_interval);
        let control = &mut next.writer.control;
        self.registry
            .subscribe(control, |route| route.queue_group.is_some());
        session.ping(control, Waiter::Subscribed);
        session.handover = Some(Handover::Joining { leave, left });
        self.welcome(&mut next);
        (next, session)
    }

    fn lose(&mut self, mut link: Link, reason: &LostReason) {
        warn!(
            server = link.server.place(),
            error = %reason,
            "the connection to NATS is lost"
        );
        self.shared.outbox.put_back(link.writer.take_unsent());
        self.registry.remove_ending();
        self.shared.state.send_modify(|state| {
            state.is_connected = false;
            state.lost = Some(reason.to_string());
        });
    }

    /// Opens the next connection, however long it takes; `None` when nobody wants it any more.
    async fn reconnect(&mut self) -> Option<Link> {
        let mut attempts = 0;
        loop {
            let servers = self.pool.shuffled();
            let settings = self.settings.clone();
            let mut attempt = std::pin::pin!(async move {
                sleep(delay(attempts)).await;
                Link::open_any(servers, &settings).await
            });
            let opened = loop {
                tokio::select! {
                    opened = &mut attempt => break opened,
                    command = self.commands.recv() => self.obey_offline(command?)?,
                }
            };

            let error = match opened {
                Ok(link) => return Some(link),
                Err(error) => error,
            };
            attempts += 1;
            if attempts.is_power_of_two() {
                warn!(error = with_sources(&error), attempts, "waiting for NATS");
            }
            self.shared
                .state
                .send_modify(|state| state.lost = Some(with_sources(&error)));
        }
    }

    /// Does what can be done without a connection; `None` for the end.
    fn obey_offline(&mut self, command: Command) -> Option<()> {
        match command {
            Command::Subscribe { sid, route } => self.registry.insert(sid, route),
            Command::Stop { sid } | Command::Forget { sid } => drop(self.registry.remove(sid)),
            // Its handle learns that there is no connection.
            Command::Flush(_) => {}
            Command::Close(_) => return None,
        }
        Some(())
    }
}

/// An error with what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |text, source| {
        format!("{text}: {source}")
    })
}
