//! `gofavorites rm`: deletes an item.

use super::client::Connection;
use super::output::{Output, plain};
use crate::wire::Operation;
use clap::Args;
use serde_json::json;

/// Delete an item.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites rm instrument US0378331005 --if-version 42")]
pub(super) struct Rm {
    /// instrument, text, otp or codes
    kind: String,
    /// The item's id; an instrument's is its ISIN or MIC:TICKER
    id: String,
    /// Only if the item is at this version
    #[arg(long)]
    if_version: Option<u64>,
    /// Only if you are at this owner_version
    #[arg(long)]
    if_owner_version: Option<u64>,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Rm {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut body = json!({"kind": self.kind, "id": self.id});
        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }
        if let Some(version) = self.if_owner_version {
            body["if_owner_version"] = json!(version);
        }

        let reply = self
            .connection
            .write(Operation::Delete, &body, self.request_id.as_deref())
            .await?;

        let item = &reply["item"];
        self.output.print(&reply, |_| {
            format!(
                "deleted {} {} at version {}\n",
                plain(&item["kind"]),
                plain(&item["id"]),
                item["version"]
            )
        })
    }
}
