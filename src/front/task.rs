//! The task that owns the connection. It opens the next link when one is lost.

use super::context::Context;
use super::drive::{LinkEnd, LinkError, drive};
use super::link::Link;
use super::reconnect::reconnect;
use super::replace::replace;
use super::shared::CommandReceiver;
use tracing::warn;

/// The task that owns the connection.
pub(super) struct Task {
    pub context: Context,
    pub commands: CommandReceiver,
}

impl Task {
    /// Runs until the connection is closed, or until no handle is left.
    pub async fn run(mut self, mut link: Link) {
        let context = &mut self.context;
        let mut session = context.start_session(&mut link);

        loop {
            match drive(context, &mut self.commands, &mut link, &mut session).await {
                Ok(LinkEnd::Replaced(next)) => {
                    let replaced = std::mem::replace(&mut link, *next);
                    session = replace(context, replaced, session, &mut link);
                }
                Ok(LinkEnd::Closed(waiter)) => {
                    link.writer.shut_down().await;
                    context.shared.outbox.close();
                    let _ = waiter.map(|waiter| waiter.send(()));
                    break;
                }
                Err(error) => {
                    let is_closing = session.is_closing;
                    // Its waiters learn of the loss.
                    drop(session);
                    give_up(context, link, &error);
                    if is_closing {
                        break;
                    }

                    let Some(next) = reconnect(context, &mut self.commands).await else {
                        break;
                    };
                    link = next;
                    session = context.start_session(&mut link);
                }
            }
        }

        context.shared.outbox.close();
        context
            .shared
            .state
            .send_modify(|state| state.is_connected = false);
    }
}

/// Gives up a lost link, and keeps its messages of which no byte was written.
fn give_up(context: &mut Context, mut link: Link, error: &LinkError) {
    warn!(
        server = link.server.address(),
        %error,
        "the connection to NATS is lost"
    );

    context.shared.outbox.put_back(link.writer.take_unsent());
    context.registry.remove_ending();
    context.shared.state.send_modify(|state| {
        state.is_connected = false;
        state.lost = Some(error.to_string());
    });
}
