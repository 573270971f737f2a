//! The item that a command is about.

use super::closed_list::ClosedList;
use clap::Args;
use serde_json::{Value, json};

/// An item's kind and id.
#[derive(Args)]
pub(super) struct ItemName {
    /// The item's kind
    #[arg(value_parser = ClosedList::kinds())]
    pub kind: String,
    /// The item's id; an instrument's is its ISIN or MIC:TICKER
    pub id: String,
}

impl ItemName {
    /// Returns the body of a request about the item.
    pub fn body(&self) -> Value {
        json!({"kind": self.kind, "id": self.id})
    }
}
