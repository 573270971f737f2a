//! `gofavorites history`: an item's earlier versions; `gofavorites restore`: a return to one.

use super::client::Connection;
use super::item_name::ItemName;
use super::output::{Cell, Column, Output, Table, note, plain, summary, tags, warn_if_stale, what};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// List an item's versions, newest first.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites history instrument US0378331005
  gofavorites history text shopping --limit 5 --json")]
pub(super) struct History {
    #[command(flatten)]
    item: ItemName,
    /// Only versions before this one
    #[arg(long)]
    before: Option<u64>,
    /// At most so many versions
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Restore an item to a version that `history` lists.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites restore instrument US0378331005 --version 42")]
pub(super) struct Restore {
    #[command(flatten)]
    item: ItemName,
    /// The version to restore
    #[arg(long)]
    version: u64,
    /// Only if the item is at this version; 0: only if there is none
    #[arg(long)]
    if_version: Option<u64>,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl History {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut body = self.item.body();
        for (name, value) in [("before", self.before), ("limit", self.limit)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }

        let reply = self.connection.ask(Operation::History, &body).await?;

        warn_if_stale(&reply);
        let versions = reply["versions"].as_array().map_or(&[][..], Vec::as_slice);
        self.output.print(&reply, |screen| {
            let columns = [
                Column::numbers("VERSION"),
                Column::free_text("WHAT"),
                Column::free_text("TAGS"),
                Column::times("UPDATED"),
            ];
            let table = Table::new(columns).with_rows(versions.iter().map(row));
            table.format(screen)
        })?;
        if !self.output.is_by_line() {
            return Ok(());
        }

        if let (true, Some(oldest)) = (reply["more"] == true, versions.last()) {
            let version = &oldest["version"];
            note(&format!(
                "there are older ones: continue with --before {version}"
            ));
        } else if reply["complete"] != true {
            note("what was before is no longer kept");
        }
        Ok(())
    }
}

/// A version's row in the table.
fn row(item: &Value) -> Vec<Cell> {
    vec![
        plain(&item["version"]).into(),
        what(item),
        tags(item).into(),
        plain(&item["updated_at"]).into(),
    ]
}

impl Restore {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut body = self.item.body();
        body["version"] = json!(self.version);
        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }

        let reply = self
            .connection
            .write(Operation::Restore, &body, self.request_id.as_deref())
            .await?;

        let item = &reply["item"];
        self.output.print(&reply, |_| {
            format!(
                "kept {} {} at version {}, as at {}: {}\n",
                self.item.kind,
                plain(&item["id"]),
                item["version"],
                self.version,
                summary(item)
            )
        })
    }
}
