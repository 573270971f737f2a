//! `gofavorites get`: prints one item.

use super::client::Connection;
use super::show::{plain, print, print_json, warn_if_stale};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// Show one item.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites get instrument US0378331005 --shard b")]
pub(super) struct Get {
    #[command(flatten)]
    connection: Connection,
    /// instrument or text
    kind: String,
    /// An instrument's ISIN, or a text's name
    id: String,
    /// head, strong or eventual
    #[arg(long)]
    consistency: Option<String>,
    /// At least as new as this owner_version
    #[arg(long)]
    min_version: Option<u64>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
}

impl Get {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut body = json!({"kind": self.kind, "id": self.id});
        if let Some(consistency) = &self.consistency {
            body["consistency"] = json!(consistency);
        }
        if let Some(version) = self.min_version {
            body["min_version"] = json!(version);
        }

        let reply = self.connection.ask(Operation::Get, &body).await?;

        warn_if_stale(&reply);
        if self.json {
            return print_json(&reply);
        }
        let text: String = fields(&reply["item"])
            .into_iter()
            .map(|(name, value)| format!("{name:<12} {value}\n"))
            .collect();
        print(&text)
    }
}

/// Returns the names and values of an item's fields, in the order in which they are printed.
fn fields(item: &Value) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for key in ["kind", "id"] {
        fields.push((key.to_owned(), plain(&item[key])));
    }

    for part in ["data", "meta"] {
        for (key, value) in item[part].as_object().into_iter().flatten() {
            let name = if part == "meta" {
                format!("meta {key}")
            } else {
                key.clone()
            };
            fields.push((name, plain(value)));
        }
    }

    let tags: Vec<String> = item["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .map(plain)
        .collect();
    fields.push(("tags".to_owned(), tags.join(", ")));

    for key in ["version", "created_at", "updated_at"] {
        fields.push((key.to_owned(), plain(&item[key])));
    }

    fields
}
