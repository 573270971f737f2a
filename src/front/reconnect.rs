//! Opens the next link after one was lost.

use super::context::Context;
use super::error::with_sources;
use super::execute::execute_offline;
use super::link::Link;
use super::pool::reconnect_delay;
use super::shared::CommandReceiver;
use std::pin::pin;
use tokio::time::sleep;
use tracing::warn;

/// Opens the next link, however long that takes. Returns `None` if the connection is closed or has
/// no handle any more.
pub(super) async fn reconnect(
    context: &mut Context,
    commands: &mut CommandReceiver,
) -> Option<Link> {
    let mut attempts = 0;

    loop {
        let servers = context.pool.shuffled();
        let settings = context.settings.clone();
        let mut attempt = pin!(async move {
            sleep(reconnect_delay(attempts)).await;
            Link::open_any(servers, &settings).await
        });

        let opened = loop {
            tokio::select! {
                opened = &mut attempt => break opened,
                command = commands.recv() => execute_offline(command?, &mut context.registry)?,
            }
        };
        let error = match opened {
            Ok(link) => return Some(link),
            Err(error) => with_sources(&error),
        };

        attempts += 1;
        if attempts.is_power_of_two() {
            warn!(error, attempts, "waiting for NATS");
        }
        context
            .shared
            .state
            .send_modify(|state| state.lost = Some(error));
    }
}
