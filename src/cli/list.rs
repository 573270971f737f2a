//! `gofavorites list`: prints the items.

use super::client::Connection;
use super::closed_list::ClosedList;
use super::freshness::Freshness;
use super::output::{Column, Output, Screen, Table, item_table, note, plain, warn_if_stale};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// List your items in your order: the oldest first, unless you moved some.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites list
  gofavorites list --tag tech --json
  gofavorites list --untagged --only-ids
  gofavorites list -o 'template={id} {data.name}'
  gofavorites list --tag old -o ids | xargs -n 2 gofavorites rm")]
pub(super) struct List {
    /// Only this kind
    #[arg(short, long, value_parser = ClosedList::kinds())]
    kind: Option<String>,
    /// Only items with this tag
    #[arg(short, long)]
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
    /// All items; this is what happens without --limit
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Only the items after those that a list with --limit printed: the cursor that it printed
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    freshness: Freshness,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    pub async fn run(self) -> anyhow::Result<()> {
        let list = self.fetch().await?;
        let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);

        warn_if_stale(&list);
        self.output
            .print(&list, |screen| self.format(items, screen))?;
        // In JSON and YAML the cursor is a field.
        if let (true, Some(cursor)) = (self.output.is_by_line(), list["next_cursor"].as_str()) {
            note(&format!(
                "there are more: continue with the same options and --cursor {cursor}, or list --all"
            ));
        }
        Ok(())
    }

    /// Fetches the items page by page, as many as are asked for.
    async fn fetch(&self) -> anyhow::Result<Value> {
        let client = self.connection.open().await?;
        let mut left = self
            .limit
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut cursor = self.cursor.as_deref().map(Value::from);

        let mut items: Vec<Value> = Vec::new();
        let mut list = json!({"items": [], "stale": false});
        loop {
            let page = self.body(cursor.as_ref(), None);
            let mut reply = client.ask(Operation::List, &page).await?;
            let has_too_many = |left: &usize| {
                let page = reply["items"].as_array();
                page.is_some_and(|page| page.len() > *left)
            };
            // Asked for in a second request, because a service may have smaller pages than the limit
            // here, and refuses a larger one.
            if let Some(limit) = left.filter(has_too_many) {
                let rest = self.body(cursor.as_ref(), Some(limit));
                reply = client.ask(Operation::List, &rest).await?;
            }

            list["owner_version"] = reply["owner_version"].take();
            if reply["stale"] == true {
                list["stale"] = true.into();
            }
            if let Value::Array(page) = reply["items"].take() {
                left = left.map(|left| left.saturating_sub(page.len()));
                items.extend(page);
            }
            match reply.get_mut("next_cursor").map(Value::take) {
                Some(next) if left != Some(0) => cursor = Some(next),
                Some(next) => {
                    list["next_cursor"] = next;
                    break;
                }
                None => break,
            }
        }

        list["items"] = items.into();
        Ok(list)
    }

    fn format(&self, items: &[Value], screen: &Screen) -> String {
        if items.is_empty() {
            let is_filtered = self.kind.is_some() || self.tag.is_some() || self.untagged;
            let empty = match (is_filtered, &self.cursor) {
                (_, Some(_)) => "no more items\n",
                (true, None) => "no items match\n",
                (false, None) => "nothing kept yet\n",
            };
            return empty.to_owned();
        }
        if !self.only_ids {
            return item_table(items).format(screen);
        }

        let columns = [
            Column::words("KIND"),
            Column::words("ID"),
            Column::words("PLACE"),
            Column::numbers("VERSION"),
        ];
        let rows = items.iter().map(|item| {
            let fields = ["kind", "id", "place", "version"];
            fields.map(|field| plain(&item[field]).into()).into()
        });
        Table::new(columns).with_rows(rows).format(screen)
    }

    fn body(&self, cursor: Option<&Value>, limit: Option<usize>) -> Value {
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
        if let Some(limit) = limit {
            body["limit"] = json!(limit);
        }

        body
    }
}
