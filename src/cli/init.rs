//! `gofavorites init`: creates the bucket, and the schema in the shard's Postgres.

use super::CommandSettings;
use super::wait::{Wait, with_exit_code};
use crate::app;
use crate::seal::Format;
use clap::Args;

/// Create the bucket and migrate the shard's Postgres to this version's schema. It takes the settings
/// of a worker, with the NATS user `init`.
#[derive(Args)]
pub(super) struct Init {
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
    /// Permit this format of records, once all workers of all shards can read it
    #[arg(long, value_parser = parse_format)]
    formats: Option<Format>,
}

fn parse_format(text: &str) -> Result<Format, String> {
    let format = text.parse().ok().and_then(Format::from_number);
    format.ok_or_else(|| {
        format!(
            "this version knows the formats 1 to {}",
            Format::NEWEST.number()
        )
    })
}

impl Init {
    pub async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        let bucket = &settings.truth.bucket;

        let prepared = app::init(&settings, self.formats, self.wait.limit())
            .await
            .map_err(with_exit_code)?;

        let outcome = if prepared.bucket_created {
            "created"
        } else {
            "exists, and its settings are right"
        };
        println!(
            "bucket {bucket}: {outcome}; workers write format {}",
            prepared.format
        );
        if self
            .formats
            .is_some_and(|format| format.number() < prepared.format)
        {
            println!(
                "bucket {bucket}: its format is never lowered, because newer records are there"
            );
        }
        println!(
            "shard {}: Postgres has this version's schema",
            settings.shard.id
        );

        Ok(())
    }
}
