//! `gofavorites lookup`: prints which of some ids are among the items.

use super::client::Connection;
use super::closed_list::ClosedList;
use super::freshness::Freshness;
use super::output::{Output, description, visible, warn_if_stale};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// Show which of some ids of one kind are among your items. Prints one line for each id, in their
/// order.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites lookup instrument US0378331005 US5949181045")]
pub(super) struct Lookup {
    /// The kind of the items
    #[arg(value_parser = ClosedList::kinds())]
    kind: String,
    /// The ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    freshness: Freshness,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Lookup {
    pub async fn run(self) -> anyhow::Result<()> {
        let keys: Vec<Value> = self
            .ids
            .iter()
            .map(|id| json!({"kind": self.kind, "id": id}))
            .collect();
        let mut body = json!({"items": keys});
        self.freshness.fill(&mut body);

        let reply = self.connection.ask(Operation::Lookup, &body).await?;

        warn_if_stale(&reply);
        let items = reply["items"].as_array().into_iter().flatten();
        let lines = self.ids.iter().zip(items).map(|(id, item)| line(id, item));
        self.output.print(&reply, |_| lines.collect())
    }
}

/// Returns the line about an id: whether there is an item, and what it is.
fn line(id: &str, item: &Value) -> String {
    let id = visible(id);
    if item.is_null() {
        return format!("no   {id}\n");
    }

    let line = format!("yes  {id}  {}", description(item));
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_a_line() {
        let item = json!({"kind": "text", "id": "a", "data": {"text": "milk"}});

        assert_eq!(line("a", &item), "yes  a  milk\n");
        assert_eq!(line("b", &Value::Null), "no   b\n");
    }
}
