//! `gofavorites dev fill`: many owners in the bucket of a running platform.

use crate::cli::output::count;
use crate::cli::progress::Progress;
use crate::dev::fill::{self, FillOptions, Filled, ITEMS_MAX};
use clap::Args;
use std::path::Path;

/// Write many owners with items into the bucket, to measure at a size.
#[derive(Args)]
#[command(
    after_help = "The owners are the users SEED-0, SEED-1 and so on. Those that are there are left as \
they are, so the same command again goes on where it was interrupted.

Example:
  gofavorites dev fill --owners 10000 --items 10
  GOFAVORITES_TOKEN=$(gofavorites dev token --sub fill-0) gofavorites list"
)]
pub(super) struct Fill {
    /// How many owners there are in the end
    #[arg(long)]
    owners: u64,
    /// How many items each of them gets
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(ITEMS_MAX)))]
    items: u16,
    /// The bytes of each item's text
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// What the owners' user ids begin with
    #[arg(long, default_value = "fill")]
    seed: String,
}

impl Fill {
    pub async fn run(self, state: &Path) -> anyhow::Result<()> {
        let options = FillOptions {
            owners: self.owners,
            items: self.items,
            bytes: self.bytes,
            seed: self.seed,
        };

        let mut progress = Progress::new("owners");
        let filled = fill::fill(state, options, |done, total| progress.step(done, total)).await?;
        progress.end();

        println!("{}", outcome(&filled));
        Ok(())
    }
}

/// Says what was done, and how fast.
fn outcome(filled: &Filled) -> String {
    let seconds = filled.took.as_secs_f64();
    let rate = (filled.records as f64 / seconds.max(0.001)).round();

    format!(
        "wrote {} with {} in {seconds:.1} s, {rate} records/s; {} there before",
        count(filled.owners, "owner"),
        count(filled.records, "record"),
        filled.there,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_outcome_of_a_fill_has_its_rate() {
        let filled = Filled {
            owners: 2,
            records: 22,
            there: 3,
            took: Duration::from_secs(2),
        };

        assert_eq!(
            outcome(&filled),
            "wrote 2 owners with 22 records in 2.0 s, 11 records/s; 3 there before"
        );
    }
}
