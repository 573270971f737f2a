//! `gofavorites move`: moves an item in the list.

use super::client::Connection;
use super::item_name::ItemName;
use super::output::{Output, plain, visible};
use crate::wire::Operation;
use clap::{ArgAction, Args};
use serde_json::{Value, json};

/// Move an item to the place right after another one, or to the first place.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites move text shopping
  gofavorites move text shopping --after instrument US0378331005")]
pub(super) struct MoveItem {
    #[command(flatten)]
    item: ItemName,
    /// The item after which it is put [default: it is put first]
    #[arg(long, num_args = 2, action = ArgAction::Set, value_names = ["KIND", "ID"])]
    after: Option<Vec<String>>,
    /// Only if the item is at this version
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

impl MoveItem {
    pub async fn run(self) -> anyhow::Result<()> {
        let reply = self
            .connection
            .write(Operation::Move, &self.body(), self.request_id.as_deref())
            .await?;

        let item = &reply["item"];
        let place = match self.after() {
            Some((kind, id)) => format!("after {} {}", visible(kind), visible(id)),
            None => "to the first place".to_owned(),
        };
        self.output.print(&reply, |_| {
            format!(
                "moved {} {} {place}, at version {}\n",
                plain(&item["kind"]),
                plain(&item["id"]),
                item["version"]
            )
        })
    }

    fn body(&self) -> Value {
        let mut body = self.item.body();
        if let Some((kind, id)) = self.after() {
            body["after"] = json!({"kind": kind, "id": id});
        }
        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }

        body
    }

    /// Returns kind and id of the item after which this one is put.
    fn after(&self) -> Option<(&str, &str)> {
        match self.after.as_deref() {
            Some([kind, id]) => Some((kind.as_str(), id.as_str())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        item: MoveItem,
    }

    #[test]
    fn without_another_item_it_is_put_first() {
        let item = ["command", "text", "a"];
        let first = Command::parse_from(item).item.body();
        let after = [&item[..], &["--after", "codes", "b"]].concat();
        let after = Command::parse_from(after).item.body();

        assert_eq!(first, json!({"kind": "text", "id": "a"}));
        assert_eq!(after["after"], json!({"kind": "codes", "id": "b"}));
    }

    #[test]
    fn another_item_is_named_by_kind_and_id() {
        for rest in [&["b"][..], &["text", "b", "c"]] {
            let arguments = [&["command", "text", "a", "--after"], rest].concat();

            assert!(Command::try_parse_from(arguments).is_err());
        }
    }
}
