//! Handles what the server sends on a link.

use super::context::Context;
use super::encoder;
use super::link::Link;
use super::protocol::{ProtocolError, ServerInfo, ServerOp};
use super::server_error::ServerError;
use super::session::{Handover, Session, Waiter};
use super::state::Refusal;
use std::time::Instant as Moment;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{error, warn};

/// Handles everything that has arrived completely. Returns the waiter of `close` once the server
/// has answered its PING: the link ends then.
///
/// # Errors
/// Fails when the bytes are not the protocol's.
pub(super) fn handle_received(
    context: &mut Context,
    link: &mut Link,
    session: &mut Session,
) -> Result<Option<oneshot::Sender<()>>, ProtocolError> {
    while let Some(op) = link.reader.decoder.decode()? {
        match op {
            ServerOp::Message(message) => context.registry.deliver(*message),
            ServerOp::TooLong { length } => {
                warn!(
                    length,
                    "skipped a message longer than the server's max_payload"
                );
            }
            ServerOp::Ping => encoder::pong(&mut link.writer.control),
            ServerOp::Pong => {
                if let Some(Waiter::Close(waiter)) = handle_pong(context, session) {
                    return Ok(Some(waiter));
                }
            }
            ServerOp::Info(info) => handle_info(&info, context, link, session),
            ServerOp::Error(text) => handle_error(text, context, session),
            ServerOp::Ok => {}
        }
    }

    Ok(None)
}

fn handle_info(info: &ServerInfo, context: &mut Context, link: &mut Link, session: &mut Session) {
    context.apply_info(info, link);

    if info.lame_duck && session.replacement.is_none() {
        warn!("the NATS server is about to shut down, connecting to another one");
        session.replace_at = Some(Instant::now());
    }
}

/// Handles the answer to the oldest PING. Returns the waiter of `close` if the PING was its.
fn handle_pong(context: &mut Context, session: &mut Session) -> Option<Waiter> {
    match session.waiters.pop_front()? {
        Waiter::Flush(waiter) => {
            // The handle may have stopped waiting.
            let _ = waiter.send(());
        }
        Waiter::Stop(sid) => context.registry.stopped(sid),
        Waiter::Subscribed => handle_subscribed(context, session),
        close @ Waiter::Close(_) => return Some(close),
        Waiter::Probe | Waiter::Left => {}
    }

    None
}

/// Continues after the server has processed the subscriptions: its denials have arrived by now.
fn handle_subscribed(context: &Context, session: &mut Session) {
    match session.handover.take() {
        Some(Handover::Joining { leave, left }) => {
            // The replaced link may have ended by itself.
            let _ = leave.send(());
            session.handover = Some(Handover::Leaving { left });
        }
        leaving @ Some(Handover::Leaving { .. }) => session.handover = leaving,
        None => context.report_denied(session),
    }
}

fn handle_error(text: String, context: &mut Context, session: &mut Session) {
    let server_error = ServerError::parse(&text);
    if server_error == ServerError::Publish {
        // Only counted, and without the server's text: a caller chose the subject of the reply.
        let count = context.shared.counters.count_refused_reply();
        if count.is_power_of_two() {
            error!(count, "the NATS server refuses replies of this user");
        }
        return;
    }

    error!(error = text, "the NATS server refuses something");
    let refusal = Refusal {
        text,
        at: Moment::now(),
    };
    context
        .shared
        .state
        .send_modify(|state| state.refused = Some(refusal));

    if let ServerError::Subscription(denied) = server_error {
        context.registry.deny(&denied);
        context.report_denied(session);
    }
}
