//! `gofavorites list`: prints the items as a table.

use super::client::Connection;
use super::closed_list::ClosedList;
use super::complete::complete_tags;
use super::freshness::Freshness;
use super::show::{plain, print, print_json, summary, table, warn_if_stale};
use crate::wire::Operation;
use clap::Args;
use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};

/// List your items in your order: the oldest first, unless you moved some.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites list
  gofavorites list --tag tech --json
  gofavorites list --untagged --only-ids")]
pub(super) struct List {
    /// Only this kind
    #[arg(short, long, value_parser = ClosedList::kinds())]
    kind: Option<String>,
    /// Only items with this tag
    #[arg(short, long, add = ArgValueCompleter::new(complete_tags))]
    tag: Option<String>,
    /// Only items without a tag
    #[arg(long, conflicts_with = "tag")]
    untagged: bool,
    /// Only kind, id, place and version of each item
    #[arg(long)]
    only_ids: bool,
    /// At most so many items
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    freshness: Freshness,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
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

        print(&self.format(&items))
    }

    fn format(&self, items: &[Value]) -> String {
        if items.is_empty() {
            let is_filtered = self.kind.is_some() || self.tag.is_some() || self.untagged;
            let empty = if is_filtered {
                "no items match\n"
            } else {
                "nothing kept yet\n"
            };
            return empty.to_owned();
        }
        if self.only_ids {
            return table(
                ["KIND", "ID", "PLACE", "VERSION"],
                items.iter().map(short_row),
            );
        }

        table(
            ["KIND", "ID", "WHAT", "TAGS", "VERSION", "UPDATED"],
            items.iter().map(row),
        )
    }

    fn body(&self, cursor: Option<&Value>) -> Value {
        let mut body = json!({});
        for (name, value) in [("kind", &self.kind), ("tag", &self.tag)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        if self.untagged {
            body["untagged"] = json!(true);
        }
        if self.only_ids {
            body["only"] = json!("ids");
        }
        self.freshness.fill(&mut body);
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

/// An item's row in the table of `--only-ids`.
fn short_row(item: &Value) -> [String; 4] {
    ["kind", "id", "place", "version"].map(|field| plain(&item[field]))
}
