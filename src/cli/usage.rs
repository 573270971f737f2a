//! `gofavorites usage`: prints how much of the limits is used.

use super::client::Connection;
use super::freshness::Freshness;
use super::show::{plain, print, print_json, table, warn_if_stale};
use crate::wire::Operation;
use clap::Args;
use serde_json::json;

/// Show how many items, keys and bytes you use, and how many you may use. Deletions take keys and
/// bytes as well, until they are forgotten.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites usage --json")]
pub(super) struct Usage {
    #[command(flatten)]
    freshness: Freshness,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Usage {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut body = json!({});
        self.freshness.fill(&mut body);

        let reply = self.connection.ask(Operation::Usage, &body).await?;

        warn_if_stale(&reply);
        if self.json {
            return print_json(&reply);
        }
        let rows = ["items", "keys", "bytes"].map(|what| {
            let usage = &reply[what];
            [
                what.to_owned(),
                plain(&usage["used"]),
                usage.get("limit").map(plain).unwrap_or_default(),
            ]
        });
        print(&table(["WHAT", "USED", "LIMIT"], rows))
    }
}
