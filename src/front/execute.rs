//! Does what the handles of the connection ask.

use super::context::Context;
use super::encoder;
use super::link::Link;
use super::registry::Registry;
use super::session::{Session, Waiter};
use super::shared::Command;

/// Executes a command on a link.
pub(super) fn execute(
    command: Command,
    context: &mut Context,
    link: &mut Link,
    session: &mut Session,
) {
    let control = &mut link.writer.control;

    match command {
        Command::Subscribe { sid, route } => {
            encoder::subscribe(control, &route.subject, route.queue_group.as_deref(), sid);
            context.registry.insert(sid, route);
        }
        Command::Stop { sid } => {
            if context.registry.stop(sid) {
                encoder::unsubscribe(control, sid);
                session.ping(control, Waiter::Stop(sid));
            }
        }
        Command::Forget { sid } => {
            if let Some(route) = context.registry.remove(sid) {
                encoder::unsubscribe(control, sid);
                if route.is_denied {
                    context.report_denied(session);
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

/// Executes what can be done without a link. Returns `None` if the connection is to end.
pub(super) fn execute_offline(command: Command, registry: &mut Registry) -> Option<()> {
    match command {
        Command::Subscribe { sid, route } => registry.insert(sid, route),
        Command::Stop { sid } | Command::Forget { sid } => drop(registry.remove(sid)),
        // The dropped waiter reports to the handle that there is no connection.
        Command::Flush(_) => {}
        Command::Close(_) => return None,
    }

    Some(())
}
