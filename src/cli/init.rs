//! `gofavorites init`: creates the bucket, and the schema in the shard's Postgres.

use super::Settings;
use super::wait::{Wait, unavailable};
use crate::app;
use clap::Args;

/// Create the bucket and migrate the shard's Postgres to this version's schema. It takes the settings
/// of a worker, with the NATS user `init`.
#[derive(Args)]
pub(super) struct Init {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    wait: Wait,
}

impl Init {
    pub async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        let bucket = &settings.truth.bucket;

        let prepared = app::init(&settings, self.wait.limit())
            .await
            .map_err(unavailable)?;

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
}
