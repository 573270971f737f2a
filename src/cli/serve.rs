//! `gofavorites serve`: a worker, until it is told to stop.

use crate::app::App;
use crate::config::Settings;
use crate::shutdown::told_to_stop;
use tracing::info;

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    let app = App::build(settings).await?;
    app.run(async {
        match told_to_stop().await {
            Ok(signal) => info!("told to stop by {signal}"),
            Err(fault) => tracing::error!(%fault, "signals cannot be heard"),
        }
    })
    .await
}
