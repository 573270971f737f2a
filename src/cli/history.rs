//! `gofavorites history`: an item's earlier versions; `gofavorites restore`: a return to one.

use super::client::Connection;
use super::item_name::ItemName;
use super::show::{plain, print, print_json, summary, table, warn_if_stale};
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
    /// Print as JSON
    #[arg(long)]
    json: bool,
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
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
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
        if self.json {
            return print_json(&reply);
        }

        let versions = reply["versions"].as_array().into_iter().flatten();
        print(&table(
            ["VERSION", "WHAT", "TAGS", "UPDATED"],
            versions.map(row),
        ))?;
        if reply["more"] == true {
            print("there are older ones: give --before with the lowest version above\n")?;
        } else if reply["complete"] != true {
            print("what was before is no longer kept\n")?;
        }

        Ok(())
    }
}

/// A version's row in the table.
fn row(item: &Value) -> [String; 4] {
    let what = if item["deleted"] == true {
        "deleted".to_owned()
    } else {
        summary(item)
    };
    let tags: Vec<String> = item["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .map(plain)
        .collect();

    [
        plain(&item["version"]),
        what,
        tags.join(","),
        plain(&item["updated_at"]),
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

        if self.json {
            return print_json(&reply);
        }
        let item = &reply["item"];
        print(&format!(
            "kept {} {} at version {}, as at {}: {}\n",
            self.item.kind,
            plain(&item["id"]),
            item["version"],
            self.version,
            summary(item)
        ))
    }
}
