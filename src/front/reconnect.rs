//! Opens the next link after one was lost.

use super::context::Context;
use super::error::with_sources;
use super::execute::execute_offline;
use super::link::Link;
use super::pool::reconnect_delay;
use super::shared::CommandReceiver;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::sleep;
use tracing::warn;

/// Opens the next link, however long that takes. Returns `None` if the connection is closed or has
/// no handle any more.
///
/// If the settings have changed and no link was opened with them yet, every second attempt has the
/// settings of the last link: a mistake must not keep callers from a worker that served them.
pub(super) async fn reconnect(
    context: &mut Context,
    commands: &mut CommandReceiver,
) -> Option<Link> {
    let mut attempts = 0;

    'attempts: loop {
        let servers = context.pool.shuffled();
        let newest = context.settings.clone();
        let uses_proven = context.is_renewing && attempts % 2 == 1;
        let settings = if uses_proven {
            context.proven.clone()
        } else {
            newest.clone()
        };
        let mut attempt = pin!(async move {
            sleep(reconnect_delay(attempts)).await;
            Link::open_any(servers, &settings).await
        });

        let opened = loop {
            tokio::select! {
                opened = &mut attempt => break opened,
                command = commands.recv() => {
                    execute_offline(command?, context)?;
                    if !Arc::ptr_eq(&newest, &context.settings) {
                        // This attempt has the former settings.
                        continue 'attempts;
                    }
                }
            }
        };
        let error = match opened {
            Ok(link) => {
                context.uses_proven = uses_proven;
                return Some(link);
            }
            Err(error) => with_sources(&error),
        };
        context.report_not_opened(&error);

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
