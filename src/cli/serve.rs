//! `gofavorites serve`: runs a worker until SIGTERM or SIGINT.

use crate::app::App;
use crate::config::Settings;
use crate::shutdown::shutdown_signal;
use anyhow::Context as _;
use tracing::info;

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    // Before anything else, so that a signal during the start is not missed.
    let shutdown = shutdown_signal().context("cannot listen for signals")?;
    let mut shutdown = std::pin::pin!(shutdown);

    let app = tokio::select! {
        app = App::build(settings) => app?,
        signal = &mut shutdown => {
            info!("received {signal} before taking any request, stopping");
            return Ok(());
        }
    };

    app.run(async {
        let signal = shutdown.await;
        info!("received {signal}, stopping");
    })
    .await
}
