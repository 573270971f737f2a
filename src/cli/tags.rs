//! `gofavorites tags`: prints the tags in use; `tags rename` and `tags remove`: change a tag on all
//! items that have it.

use super::client::Connection;
use super::closed_list::ClosedList;
use super::freshness::Freshness;
use super::output::{Cell, Column, Output, Screen, Table, count, plain, visible, warn_if_stale};
use crate::wire::Operation;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// List your tags, and how many items have each. With an item, also list which of them it has.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  gofavorites tags
  gofavorites tags instrument US0378331005
  gofavorites tags rename todo later
  gofavorites tags remove todo"
)]
pub(super) struct Tags {
    /// The kind of an item
    #[arg(requires = "id", value_parser = ClosedList::kinds())]
    kind: Option<String>,
    /// The item's id; an instrument's is its ISIN or MIC:TICKER
    id: Option<String>,
    #[command(flatten)]
    freshness: Freshness,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Subcommand)]
enum Command {
    /// Rename a tag on all items that have it
    Rename(Rename),
    /// Remove a tag from all items that have it
    Remove(Remove),
}

/// Rename a tag on all items that have it, in one write.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites tags rename todo later")]
struct Rename {
    /// The tag
    from: String,
    /// Its new name; an item that has this tag already keeps it
    to: String,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Remove a tag from all items that have it, in one write. The items stay.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites tags remove todo")]
struct Remove {
    /// The tag
    tag: String,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Tags {
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Some(Command::Rename(rename)) => rename.run().await,
            Some(Command::Remove(remove)) => remove.run().await,
            None => self.list().await,
        }
    }

    async fn list(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let mut body = json!({});
        for (name, value) in [("kind", &self.kind), ("id", &self.id)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        self.freshness.fill(&mut body);

        let reply = self.connection.ask(Operation::Tags, &body).await?;

        warn_if_stale(&reply);
        let tags = reply["tags"].as_array().map_or(&[][..], Vec::as_slice);
        self.output.print(&reply, |screen| {
            format_tags(tags, self.id.is_some(), screen)
        })
    }
}

/// Returns the table of tags; `of_item` adds the column for one item.
fn format_tags(tags: &[Value], of_item: bool, screen: &Screen) -> String {
    if tags.is_empty() {
        return "no tags yet\n".to_owned();
    }

    let mut columns = vec![Column::words("TAG"), Column::numbers("ITEMS")];
    if of_item {
        columns.push(Column::words("HAS IT"));
    }

    let rows = tags.iter().map(|entry| {
        let has_it = if entry["contains"] == true {
            "yes"
        } else {
            "no"
        };
        let mut row: Vec<Cell> = vec![plain(&entry["tag"]).into(), plain(&entry["items"]).into()];
        if of_item {
            row.push(has_it.into());
        }
        row
    });
    Table::new(columns).with_rows(rows).format(screen)
}

impl Rename {
    async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let body = json!({"from": self.from, "to": self.to});
        let reply = self
            .connection
            .write(Operation::TagsRename, &body, self.request_id.as_deref())
            .await?;

        self.output.print(&reply, |_| {
            format!(
                "renamed {} to {} on {}\n",
                visible(&self.from),
                visible(&self.to),
                count(&reply["items"], "item")
            )
        })
    }
}

impl Remove {
    async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let body = json!({"from": self.tag});
        let reply = self
            .connection
            .write(Operation::TagsRename, &body, self.request_id.as_deref())
            .await?;

        self.output.print(&reply, |_| {
            format!(
                "removed {} from {}\n",
                visible(&self.tag),
                count(&reply["items"], "item")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        tags: Tags,
    }

    #[test]
    fn an_item_adds_a_column() {
        let tags = [
            json!({"tag": "home", "items": 2, "contains": true}),
            json!({"tag": "todo", "items": 10, "contains": false}),
        ];

        assert_eq!(
            format_tags(&tags, false, &Screen::pipe()),
            "TAG   ITEMS\nhome      2\ntodo     10\n"
        );
        assert_eq!(
            format_tags(&tags, true, &Screen::pipe()),
            "TAG   ITEMS  HAS IT\nhome      2  yes\ntodo     10  no\n"
        );
        assert_eq!(format_tags(&[], true, &Screen::pipe()), "no tags yet\n");
    }

    #[test]
    fn an_item_is_named_by_kind_and_id() {
        let item = Program::try_parse_from(["program", "text", "rename"]);
        let kind_alone = Program::try_parse_from(["program", "text"]);
        let rename = Program::try_parse_from(["program", "rename", "a", "b"]);

        assert!(item.is_ok_and(|program| program.tags.command.is_none()));
        assert!(kind_alone.is_err());
        assert!(rename.is_ok_and(|program| program.tags.command.is_some()));
    }
}
