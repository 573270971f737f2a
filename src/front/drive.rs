//! The loop over one link: reads and writes until the link ends.

use super::context::Context;
use super::error::with_sources;
use super::execute::execute;
use super::link::Link;
use super::pool::denied_delay;
use super::protocol::ProtocolError;
use super::receive::handle_received;
use super::session::{Session, Waiter, predecessor_left, replacement_opened};
use super::shared::CommandReceiver;
use std::io;
use std::pin::pin;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// How a link ends in order.
pub(super) enum LinkEnd {
    /// Another link replaces it.
    Replaced(Box<Link>),
    /// This program closes the connection. The sender is the waiter of `close`, if there is one.
    Closed(Option<oneshot::Sender<()>>),
}

/// Why a link is lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the server does not answer")]
    Silent,
}

/// Reads and writes until the link ends.
///
/// # Errors
/// Fails when the link is lost.
pub(super) async fn drive(
    context: &mut Context,
    commands: &mut CommandReceiver,
    link: &mut Link,
    session: &mut Session,
) -> Result<LinkEnd, LinkError> {
    let mut alarm = pin!(sleep_until(session.ping_at));

    loop {
        if !link.writer.is_busy() {
            link.writer.fill(&context.shared.outbox);
        }
        let next = next_alarm(context, session);
        if alarm.deadline() != next {
            alarm.as_mut().reset(next);
        }

        let is_busy = link.writer.is_busy();
        tokio::select! {
            read = link.reader.read() => {
                read?;
                if let Some(waiter) = handle_received(context, link, session)? {
                    return Ok(LinkEnd::Closed(Some(waiter)));
                }
            }
            written = link.writer.write(), if is_busy => written?,
            () = context.shared.outbox.filled(), if !is_busy => {}
            command = commands.recv() => match command {
                Some(command) => execute(command, context, link, session),
                None => return Ok(LinkEnd::Closed(None)),
            },
            () = &mut alarm => handle_alarm(context, link, session)?,
            opened = replacement_opened(&mut session.replacement) => match opened {
                Ok(next) => return Ok(LinkEnd::Replaced(Box::new(next))),
                Err(error) => {
                    let error = with_sources(&error);
                    warn!(error, "cannot open another connection to NATS, keeping this one");
                    session.replace_at = Some(Instant::now() + denied_delay());
                }
            },
            () = predecessor_left(&mut session.handover) => {
                let control = &mut link.writer.control;
                context.registry.subscribe(control, |route| route.queue_group.is_none());
                session.ping(control, Waiter::Subscribed);
            }
        }
    }
}

/// Returns when something is due next.
fn next_alarm(context: &Context, session: &Session) -> Instant {
    let others = [session.replace_at, context.registry.next_end()];
    let earliest = others.into_iter().flatten().min();

    earliest.map_or(session.ping_at, |at| at.min(session.ping_at))
}

/// Does what is due.
///
/// # Errors
/// Fails when the server has left too many PINGs unanswered.
fn handle_alarm(
    context: &mut Context,
    link: &mut Link,
    session: &mut Session,
) -> Result<(), LinkError> {
    let now = Instant::now();
    context.registry.remove_ended();

    if session.replace_at.is_some_and(|at| at <= now) {
        session.replace_at = None;
        start_replacement(context, link, session);
    }

    let is_answering = session.ping_at > now
        || session.probe(&mut link.writer.control, context.settings.ping_interval);
    if is_answering {
        Ok(())
    } else {
        Err(LinkError::Silent)
    }
}

/// Starts to open another link, unless that is under way or no server is left to try.
fn start_replacement(context: &Context, link: &Link, session: &mut Session) {
    if session.replacement.is_some() || session.is_closing {
        return;
    }

    let servers = if link.info.lame_duck {
        context.pool.others(&link.server)
    } else {
        context.pool.shuffled()
    };
    if servers.is_empty() {
        return;
    }

    let settings = context.settings.clone();
    let attempt = async move { Link::open_any(servers, &settings).await };
    session.replacement = Some(Box::pin(attempt));
}
