//! The tags and the metadata that a command gives an item.

use super::failed::CommandError;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The tags and the metadata of an item that is put.
#[derive(Args)]
pub(super) struct Labels {
    /// A tag; may be given several times
    #[arg(short, long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Metadata as key=value; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
}

impl Labels {
    /// Writes the tags and the metadata into the body of a put.
    pub fn fill(&self, body: &mut Value) -> anyhow::Result<()> {
        body["tags"] = json!(self.tags);
        body["meta"] = json!(self.meta()?);

        Ok(())
    }

    /// The tags.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Returns the metadata: names and values.
    pub fn meta(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let pairs = self.meta.iter().map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| CommandError::usage(format!("--meta {pair}: give key=value")))?;
            Ok((key.to_owned(), value.to_owned()))
        });

        pairs.collect()
    }
}
