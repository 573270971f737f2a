//! `gofavorites serve`: a worker, until it is told to stop.

use crate::app::App;
use crate::config::Settings;
use crate::shutdown::told_to_stop;
use anyhow::Context as _;
use tracing::info;

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    // Before anything else: whoever tells a worker to stop while it starts is heard as well.
    let mut told = std::pin::pin!(told_to_stop().context("signals cannot be heard")?);
    let app = tokio::select! {
        app = App::build(settings) => app?,
        signal = &mut told => {
            info!("told to stop by {signal} before it took any request");
            return Ok(());
        }
    };
    app.run(async {
        let signal = told.await;
        info!("told to stop by {signal}");
    })
    .await
}
