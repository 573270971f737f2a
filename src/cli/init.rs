//! `gofavorites init`: creates the bucket, and the schema in the shard's Postgres.

use crate::app;
use crate::config::Settings;

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    let bucket = settings.truth.bucket.clone();

    let prepared = app::init(&settings).await?;

    let outcome = if prepared.bucket_created {
        "created"
    } else {
        "exists, and its settings are right"
    };
    println!("bucket {bucket}: {outcome}");
    println!(
        "shard {}: Postgres has this version's schema",
        settings.shard.id
    );

    Ok(())
}
