//! `gofavorites init`: what a shard needs before its first worker.

use crate::app;
use crate::config::Settings;

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    let bucket = settings.truth.bucket.clone();
    let prepared = app::init(&settings).await?;
    let made = if prepared.bucket_made {
        "made"
    } else {
        "there, and fits"
    };
    println!("bucket {bucket}: {made}");
    println!(
        "shard {}: Postgres has this version's schema",
        settings.shard.id
    );
    Ok(())
}
