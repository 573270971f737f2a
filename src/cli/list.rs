//! `gofavorites list`: prints the items as a table.

use super::client::Connection;
use super::show::{plain, print, print_json, summary, table, warn_if_stale};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// List your items, oldest first.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites list
  gofavorites list --tag tech --json")]
pub(super) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Only this kind: instrument or text
    #[arg(long)]
    kind: Option<String>,
    /// Only items with this tag
    #[arg(long)]
    tag: Option<String>,
    /// At most so many items
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// head, strong or eventual
    #[arg(long)]
    consistency: Option<String>,
    /// At least as new as this owner_version
    #[arg(long)]
    min_version: Option<u64>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.open().await?;
        let limit = self.limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });

        let mut items = Vec::new();
        let mut cursor = None;
        let mut list = json!({"items": [], "stale": false});
        loop {
            let body = self.body(cursor.as_ref());
            let mut reply = client.ask(Operation::List, &body).await?;

            list["owner_version"] = reply["owner_version"].take();
            if reply["stale"] == true {
                list["stale"] = true.into();
            }
            if let Value::Array(page) = reply["items"].take() {
                items.extend(page);
            }

            let full = items.len() >= limit;
            match reply.get_mut("next_cursor").map(Value::take) {
                Some(next) if !full => cursor = Some(next),
                _ => break,
            }
        }
        items.truncate(limit);

        warn_if_stale(&list);
        if self.json {
            list["items"] = items.into();
            return print_json(&list);
        }

        if items.is_empty() {
            print("nothing kept yet\n")
        } else {
            print(&table(
                ["KIND", "ID", "WHAT", "TAGS", "VERSION", "UPDATED"],
                items.iter().map(row),
            ))
        }
    }

    fn body(&self, cursor: Option<&Value>) -> Value {
        let mut body = json!({});
        for (name, value) in [
            ("kind", &self.kind),
            ("tag", &self.tag),
            ("consistency", &self.consistency),
        ] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        if let Some(version) = self.min_version {
            body["min_version"] = json!(version);
        }
        if let Some(cursor) = cursor {
            body["cursor"] = cursor.clone();
        }

        body
    }
}

/// An item's row in the table.
fn row(item: &Value) -> [String; 6] {
    let tags: Vec<String> = item["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .map(plain)
        .collect();

    [
        plain(&item["kind"]),
        plain(&item["id"]),
        summary(item),
        tags.join(","),
        plain(&item["version"]),
        plain(&item["updated_at"]),
    ]
}
