//! `gofavorites limits`: prints the service's limits.

use super::client::Connection;
use super::show::{plain, print, print_json, table};
use crate::wire::Operation;
use clap::Args;
use serde_json::json;

/// Show the service's limits.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites limits --json")]
pub(super) struct Limits {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Limits {
    pub async fn run(self) -> anyhow::Result<()> {
        let reply = self.connection.ask(Operation::Limits, &json!({})).await?;

        if self.json {
            return print_json(&reply);
        }

        let limits = reply["limits"].as_object().into_iter().flatten();
        let rows = limits
            .map(|(name, limit)| [name.clone(), plain(&limit["value"]), plain(&limit["unit"])]);
        print(&table(["LIMIT", "VALUE", "UNIT"], rows))
    }
}
