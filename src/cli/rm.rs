//! `gofavorites rm`: deletes items.

use super::client::Connection;
use super::closed_list::ClosedList;
use super::failed::{CommandError, of_operation};
use super::output::{Output, plain};
use super::secret_input::is_uri;
use crate::wire::Operation;
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

/// Delete items of one kind: all that you name, or none.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites rm instrument US0378331005 --if-version 42
  gofavorites rm text shopping ideas")]
pub(super) struct Rm {
    /// The kind of the items
    #[arg(value_parser = ClosedList::kinds())]
    kind: String,
    /// The ids; an instrument's is its ISIN or MIC:TICKER
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
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
        let (operation, body) = self.request()?;
        let request_id = self.request_id.as_deref();

        let reply = self.connection.write(operation, &body, request_id).await;
        let name = |at: usize| self.ids.get(at).filter(|id| !is_uri(id)).cloned();
        let reply = reply.map_err(|error| of_operation(error, name))?;

        self.output.print(&reply, |_| {
            let results = reply["results"].as_array().into_iter().flatten();
            let items = match &reply["item"] {
                Value::Null => results.map(|result| &result["item"]).collect(),
                item => vec![item],
            };
            items.into_iter().map(deleted).collect()
        })
    }

    /// Returns the request: the deletion of one item, or a batch of deletions.
    fn request(&self) -> anyhow::Result<(Operation, Value)> {
        let (operation, mut body) = match self.ids.as_slice() {
            [id] => (Operation::Delete, json!({"kind": self.kind, "id": id})),
            _ if self.if_version.is_some() => {
                bail!(CommandError::usage("--if-version is for one item"))
            }
            ids => {
                let ops = ids
                    .iter()
                    .map(|id| json!({"op": "delete", "kind": self.kind, "id": id}));
                let ops: Vec<Value> = ops.collect();
                (Operation::Batch, json!({"mode": "atomic", "ops": ops}))
            }
        };

        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }
        if let Some(version) = self.if_owner_version {
            body["if_owner_version"] = json!(version);
        }
        Ok((operation, body))
    }
}

/// Returns the line about a deleted item.
fn deleted(item: &Value) -> String {
    format!(
        "deleted {} {} at version {}\n",
        plain(&item["kind"]),
        plain(&item["id"]),
        item["version"]
    )
}
