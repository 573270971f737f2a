//! `gofavorites batch`: several puts and deletes in one go.

use super::client::Connection;
use super::failed::CommandError;
use super::show::{plain, print, print_json, summary};
use crate::wire::Operation;
use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;

/// Do several puts and deletes in one go: all of them, or with --each those that can be done.
#[derive(Args)]
#[command(after_help = "Operations are a list in JSON, or one on each line:
  {\"op\": \"put\", \"kind\": \"text\", \"id\": \"shopping\", \"data\": {\"text\": \"milk\"}, \"tags\": [\"todo\"]}
  {\"op\": \"delete\", \"kind\": \"instrument\", \"id\": \"US0378331005\", \"if_version\": 42}

Examples:
  gofavorites batch changes.json
  gofavorites batch --each - < changes.jsonl")]
pub(super) struct Batch {
    #[command(flatten)]
    connection: Connection,
    /// A file of operations; - for the standard input
    file: PathBuf,
    /// Do each that can be done, and tell why the others cannot
    #[arg(long)]
    each: bool,
    /// Only if you are at this version; 0: only if you have nothing yet
    #[arg(long)]
    if_owner_version: Option<u64>,
    /// The request's own id: with the same one it is done once, however often it is asked for
    #[arg(long)]
    request_id: Option<String>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
}

impl Batch {
    pub async fn run(self) -> anyhow::Result<()> {
        let ops = self.ops()?;
        let mut body = json!({"mode": if self.each { "each" } else { "atomic" }, "ops": ops});
        if let Some(version) = self.if_owner_version {
            body["if_owner_version"] = json!(version);
        }
        let reply = self
            .connection
            .open()
            .await?
            .write(Operation::Batch, &body, self.request_id.as_deref())
            .await?;
        let results = reply["results"]
            .as_array()
            .context("the reply has no results")?;
        if self.json {
            print_json(&reply)?;
        } else {
            let lines = results
                .iter()
                .enumerate()
                .map(|(at, result)| line(at, result));
            print(&lines.collect::<String>())?;
        }
        // One that was refused is a failure, of which the first tells the kind.
        match results
            .iter()
            .map(|result| &result["error"])
            .find(|error| error.is_object())
        {
            Some(error) => Err(CommandError::refused(error).into()),
            None => Ok(()),
        }
    }

    fn ops(&self) -> anyhow::Result<Vec<Value>> {
        let mut text = String::new();
        if self.file.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text)?;
        } else {
            text = std::fs::read_to_string(&self.file)
                .with_context(|| format!("{} cannot be read", self.file.display()))?;
        }
        operations(&text)
    }
}

/// The operations in a list, or one on each line.
fn operations(text: &str) -> anyhow::Result<Vec<Value>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).context("not a list of operations in JSON");
    }
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_str(line).with_context(|| format!("line {} is not JSON", at + 1))
        })
        .collect()
}

/// What came of one operation.
fn line(at: usize, result: &Value) -> String {
    let (item, error) = (&result["item"], &result["error"]);
    if error.is_object() {
        return format!(
            "{at}: {} ({}): {}\n",
            plain(&error["code"]),
            error["status"],
            plain(&error["message"])
        );
    }
    let what = format!(
        "{} {} at version {}",
        plain(&item["kind"]),
        plain(&item["id"]),
        item["version"]
    );
    match item["deleted"] == true {
        true => format!("{at}: deleted {what}\n"),
        false => format!("{at}: kept {what}: {}\n", summary(item)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_a_list_or_a_line_each() {
        let (one, two) = (json!({"op": "delete"}), json!({"op": "put"}));
        for text in [json!([one, two]).to_string(), format!("{one}\n\n{two}\n")] {
            assert_eq!(
                operations(&text).expect("well formed"),
                [one.clone(), two.clone()]
            );
        }
        let error = operations(&format!("{one}\nx")).expect_err("no JSON");
        assert!(format!("{error:#}").starts_with("line 2 is not JSON"));
    }

    #[test]
    fn each_result_is_a_line() {
        let kept =
            json!({"item": {"kind": "text", "id": "x", "version": 7, "data": {"text": "milk"}}});
        assert_eq!(line(0, &kept), "0: kept text x at version 7: milk\n");
        let gone = json!({"item": {"kind": "text", "id": "x", "version": 8, "deleted": true}});
        assert_eq!(line(1, &gone), "1: deleted text x at version 8\n");
        let error = json!({"error": {"code": "not_found", "status": 404, "message": "no"}});
        assert_eq!(line(2, &error), "2: not_found (404): no\n");
    }
}
