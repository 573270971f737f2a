//! Changes over from one link to another without losing a message.

use super::context::Context;
use super::drain::Drain;
use super::link::Link;
use super::session::{Handover, Session, Waiter};
use tokio::sync::oneshot;

/// Continues on `next`. The replaced link sends and reads what is left, in a task of its own.
///
/// Only the subscriptions that a queue group shares are made at once: the server delivers each of
/// their messages to one of the two links. The others follow when the replaced link has ended its
/// own, because two links would receive each message twice.
pub(super) fn replace(
    context: &mut Context,
    link: Link,
    session: Session,
    next: &mut Link,
) -> Session {
    let (leave, may_leave) = oneshot::channel();
    let (has_left, left) = oneshot::channel();
    let drain = Drain {
        link,
        registry: context.registry.clone(),
        waiters: session.waiters,
        shared: context.shared.clone(),
        leave: may_leave,
    };
    tokio::spawn(drain.run(has_left));

    context.registry.remove_ending();
    let mut session = Session::new(context.settings.ping_interval);
    let control = &mut next.writer.control;
    context
        .registry
        .subscribe(control, |route| route.queue_group.is_some());
    session.ping(control, Waiter::Subscribed);
    session.handover = Some(Handover::Joining { leave, left });

    context.report_connected(next);
    session
}
