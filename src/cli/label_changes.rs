//! How a command changes the tags and the metadata that an item has.

use super::labels::Labels;
use clap::Args;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of the tags and the metadata of an item that is put.
#[derive(Args)]
pub(super) struct LabelChanges {
    #[command(flatten)]
    added: Labels,
    /// A tag to take away; may be given several times
    #[arg(long, value_name = "TAG")]
    untag: Vec<String>,
    /// The key of metadata to take away; may be given several times
    #[arg(long, value_name = "KEY")]
    unmeta: Vec<String>,
    /// Take all tags away, and then add those of --tag
    #[arg(long, conflicts_with = "untag")]
    clear_tags: bool,
    /// Take all metadata away, and then set those of --meta
    #[arg(long, conflicts_with = "unmeta")]
    clear_meta: bool,
}

impl LabelChanges {
    /// Writes into the body of a put the tags and the metadata that the item then has. `item` is the
    /// present one; null if there is none, or nothing of it is kept.
    pub fn fill(&self, item: &Value, body: &mut Value) -> anyhow::Result<()> {
        let mut tags: BTreeSet<String> = present(&item["tags"]);
        if self.clear_tags {
            tags.clear();
        }
        tags.retain(|tag| !self.untag.contains(tag));
        tags.extend(self.added.tags().iter().cloned());

        let mut meta: BTreeMap<String, String> = present(&item["meta"]);
        if self.clear_meta {
            meta.clear();
        }
        meta.retain(|key, _| !self.unmeta.contains(key));
        meta.extend(self.added.meta()?);

        body["tags"] = json!(tags);
        body["meta"] = json!(meta);
        Ok(())
    }
}

fn present<T: Default + serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        labels: LabelChanges,
    }

    #[test]
    fn what_is_not_named_stays() {
        let item = json!({"tags": ["a", "b"], "meta": {"x": "1", "y": "2"}});
        for (arguments, tags, meta) in [
            ("", json!(["a", "b"]), json!({"x": "1", "y": "2"})),
            (
                "--tag c --untag a",
                json!(["b", "c"]),
                json!({"x": "1", "y": "2"}),
            ),
            (
                "--meta x=3 --unmeta y",
                json!(["a", "b"]),
                json!({"x": "3"}),
            ),
            (
                "--clear-tags --tag c",
                json!(["c"]),
                json!({"x": "1", "y": "2"}),
            ),
            ("--clear-meta", json!(["a", "b"]), json!({})),
        ] {
            let arguments = std::iter::once("program").chain(arguments.split_whitespace());
            let labels = Program::parse_from(arguments).labels;
            let mut body = json!({});

            labels.fill(&item, &mut body).expect("valid");

            assert_eq!(body, json!({"tags": tags, "meta": meta}));
        }
    }
}
