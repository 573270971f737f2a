//! `gofavorites usage`: prints how much of the limits is used.

use super::client::Connection;
use super::freshness::Freshness;
use super::output::{Column, Output, Table, bytes, grouped, warn_if_stale};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// Show how many items, keys and bytes you use, and how many you may use. Deletions take keys and
/// bytes as well, until they are forgotten.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites usage --json")]
pub(super) struct Usage {
    #[command(flatten)]
    freshness: Freshness,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Usage {
    pub async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let mut body = json!({});
        self.freshness.fill(&mut body);

        let reply = self.connection.ask(Operation::Usage, &body).await?;

        warn_if_stale(&reply);
        let rows = ["items", "keys", "bytes"].map(|what| {
            let number = |name: &str| match (&reply[what][name], what) {
                (Value::Null, _) => String::new(),
                (number, "bytes") => bytes(number.as_u64().unwrap_or_default()),
                (number, _) => grouped(number),
            };
            vec![what.into(), number("used").into(), number("limit").into()]
        });
        let columns = [
            Column::words("WHAT"),
            Column::numbers("USED"),
            Column::numbers("LIMIT"),
        ];
        self.output.print(&reply, |screen| {
            Table::new(columns).with_rows(rows).format(screen)
        })
    }
}
