//! `gofavorites serve`: runs a worker until SIGTERM or SIGINT. It takes up changed settings.

use crate::app::{App, Reloading};
use crate::config::{Reading, Settings, SettingsSource};
use crate::shutdown::{hangup_signals, shutdown_signal};
use anyhow::Context as _;
use tracing::info;

pub(super) async fn run(settings: Settings, source: SettingsSource) -> anyhow::Result<()> {
    // Before anything else, so that a signal during the start is not missed.
    let shutdown = shutdown_signal().context("cannot listen for signals")?;
    let mut shutdown = std::pin::pin!(shutdown);
    let reloading = reloading(&settings, source)?;

    let app = tokio::select! {
        app = App::build(settings) => app?,
        signal = &mut shutdown => {
            info!("received {signal} before taking any request, stopping");
            return Ok(());
        }
    };

    app.with_reloading(reloading)
        .run(async {
            let signal = shutdown.await;
            info!("received {signal}, stopping");
        })
        .await
}

/// Returns what lets a program that starts with these settings read them again, also at each SIGHUP
/// from now on.
pub(super) fn reloading(settings: &Settings, source: SettingsSource) -> anyhow::Result<Reloading> {
    Ok(Reloading {
        source,
        started: Reading::of(settings.clone()),
        asked: hangup_signals().context("cannot listen for signals")?,
    })
}
