//! How fresh the reply to a read has to be.

use super::closed_list::ClosedList;
use clap::Args;
use serde_json::{Value, json};

/// The consistency of a read, and the version that its reply must have reached.
#[derive(Args)]
pub(super) struct Freshness {
    /// How fresh the reply has to be
    #[arg(long, value_parser = ClosedList::consistencies())]
    consistency: Option<String>,
    /// At least as new as this owner_version
    #[arg(long)]
    min_version: Option<u64>,
}

impl Freshness {
    /// Writes what is given into the body of a read.
    pub fn fill(&self, body: &mut Value) {
        if let Some(consistency) = &self.consistency {
            body["consistency"] = json!(consistency);
        }
        if let Some(version) = self.min_version {
            body["min_version"] = json!(version);
        }
    }
}
