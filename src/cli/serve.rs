//! `gofavorites serve`: runs a worker until SIGTERM or SIGINT. It takes up changed settings.

use super::Settings;
use super::wait::with_exit_code;
use crate::app::{App, Succession, Turn};
use crate::shutdown::shutdown_signal;
use crate::telemetry::write_in_background;
use anyhow::Context as _;

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    // Also what is wrong with the settings must not wait for a reader.
    write_in_background()?;
    // Before anything else, so that a signal during the start is not missed.
    let shutdown = shutdown_signal().context("cannot listen for signals")?;
    let (first, watch) = settings.watch()?;

    Succession::new(first, watch, run_worker)
        .run(shutdown)
        .await
        .map_err(with_exit_code)
}

async fn run_worker(turn: Turn) -> anyhow::Result<()> {
    let start = async {
        let app = App::build(turn.settings, turn.status).await?;
        if !turn.is_first {
            app.wait_for_auth().await?;
        }
        Ok::<_, anyhow::Error>(app)
    };
    let app = tokio::select! {
        app = start => app?,
        () = turn.stop.cancelled() => return Ok(()),
    };

    let on_ready = || {
        // Nobody waits for it if the worker has been told to stop.
        let _ = turn.ready.send(());
    };
    app.run(turn.stop.cancelled(), on_ready).await
}
