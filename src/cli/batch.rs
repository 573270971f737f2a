//! `gofavorites batch`: several puts and deletes in one request.

use super::client::Connection;
use super::contexts::check_private;
use super::failed::{CommandError, of_operation};
use super::output::{Output, kept, plain};
use crate::client::Refused;
use crate::wire::Operation;
use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;

/// Execute several puts and deletes in one request: all of them or none, or with --each those that
/// are possible.
#[derive(Args)]
#[command(after_help = "Operations are a list in JSON, or one on each line:
  {\"op\": \"put\", \"kind\": \"text\", \"id\": \"shopping\", \"data\": {\"text\": \"milk\"}, \"tags\": [\"todo\"]}
  {\"op\": \"delete\", \"kind\": \"instrument\", \"id\": \"US0378331005\", \"if_version\": 42}

Examples:
  gofavorites batch changes.json
  gofavorites batch --each - < changes.jsonl")]
pub(super) struct Batch {
    /// A file of operations; - for the standard input
    file: PathBuf,
    /// Execute each operation that is possible, and print why the others are not
    #[arg(long)]
    each: bool,
    /// Only if you are at this owner_version; 0: only if you have nothing yet
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

impl Batch {
    pub async fn run(self) -> anyhow::Result<()> {
        let ops = self.ops()?;
        let mut body = json!({"mode": if self.each { "each" } else { "atomic" }, "ops": ops});
        if let Some(version) = self.if_owner_version {
            body["if_owner_version"] = json!(version);
        }

        let reply = self
            .connection
            .write(Operation::Batch, &body, self.request_id.as_deref())
            .await
            .map_err(|error| of_operation(error, |at| Some(format!("operation {at}"))))?;
        let results = reply["results"]
            .as_array()
            .context("the reply has no results")?;

        let lines = results
            .iter()
            .enumerate()
            .map(|(number, result)| format_result(number, result));
        self.output.print(&reply, |_| lines.collect())?;

        // The first operation that was refused determines the exit code.
        let refused = results
            .iter()
            .map(|result| &result["error"])
            .find(|error| error.is_object());
        match refused {
            Some(error) => {
                let refused: Refused = serde_json::from_value(error.clone())?;
                Err(CommandError::refused(&refused).into())
            }
            None => Ok(()),
        }
    }

    fn ops(&self) -> anyhow::Result<Vec<Value>> {
        let mut text = String::new();
        let read = if self.file.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(&self.file)
        };
        let text = read.map_err(|error| {
            CommandError::usage(format!("{} cannot be read: {error}", self.file.display()))
        })?;

        let ops = parse_operations(&text)?;
        let holds_secret = |op: &Value| {
            ["otp", "codes"].contains(&op["kind"].as_str().unwrap_or_default())
                && !op["data"].is_null()
        };
        if self.file.as_os_str() != "-" && ops.iter().any(holds_secret) {
            check_private(&self.file)?;
        }
        Ok(ops)
    }
}

/// Parses a JSON list of operations, or one operation on each line.
fn parse_operations(text: &str) -> Result<Vec<Value>, CommandError> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| {
            CommandError::usage(format!("not a list of operations in JSON: {error}"))
        });
    }

    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                CommandError::usage(format!("line {} is not JSON: {error}", index + 1))
            })
        })
        .collect()
}

/// Returns the line for the result of one operation; `number` counts from 0.
fn format_result(number: usize, result: &Value) -> String {
    let item = &result["item"];
    let error = &result["error"];
    if error.is_object() {
        return format!(
            "{number}: {} ({}): {}\n",
            plain(&error["code"]),
            error["status"],
            plain(&error["message"])
        );
    }

    if item["deleted"] == true {
        return format!(
            "{number}: deleted {} {} at version {}\n",
            plain(&item["kind"]),
            plain(&item["id"]),
            item["version"]
        );
    }

    format!("{number}: {}\n", kept(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_a_list_or_a_line_each() {
        let one = json!({"op": "delete"});
        let two = json!({"op": "put"});

        for text in [json!([one, two]).to_string(), format!("{one}\n\n{two}\n")] {
            let operations = parse_operations(&text).expect("well formed");

            assert_eq!(operations, [one.clone(), two.clone()]);
        }
    }

    #[test]
    fn a_line_that_is_not_json_is_named() {
        let text = "{\"op\": \"delete\"}\nx";

        let error = parse_operations(text).expect_err("no JSON");

        assert!(format!("{error:#}").starts_with("line 2 is not JSON"));
    }

    #[test]
    fn each_result_is_a_line() {
        let kept =
            json!({"item": {"kind": "text", "id": "x", "version": 7, "data": {"text": "milk"}}});
        let deleted = json!({"item": {"kind": "text", "id": "x", "version": 8, "deleted": true}});
        let error = json!({"error": {"code": "not_found", "status": 404, "message": "no"}});

        assert_eq!(
            format_result(0, &kept),
            "0: kept text x at version 7: milk\n"
        );
        assert_eq!(
            format_result(1, &deleted),
            "1: deleted text x at version 8\n"
        );
        assert_eq!(format_result(2, &error), "2: not_found (404): no\n");
    }
}
