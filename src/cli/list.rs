//! `gofavorites list`: the items as a table.

use super::client::{Connection, print_json, summary};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// List your items, oldest first.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites list
  gofavorites list --tag tech --json")]
pub(super) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Only this kind: instrument or text
    #[arg(long)]
    kind: Option<String>,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
    /// head, strong or eventual
    #[arg(long)]
    consistency: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub async fn run(self) -> anyhow::Result<()> {
        let (mut items, mut cursor, mut stale) = (Vec::new(), None, false);
        loop {
            let mut reply = self.connection.ask(Operation::List, &self.body(cursor.as_ref())).await?;
            stale |= reply["stale"] == true;
            if let Some(Value::Array(page)) = reply.get_mut("items").map(Value::take) {
                items.extend(page);
            }
            match reply.get_mut("next_cursor").map(Value::take) {
                Some(next) => cursor = Some(next),
                None if self.json => {
                    print_json(&json!({"items": items, "owner_version": reply["owner_version"], "stale": stale}));
                    return Ok(());
                }
                None => break,
            }
        }
        print!("{}", table(&items));
        if stale {
            println!("(may be stale: the truth could not be asked)");
        }
        Ok(())
    }

    fn body(&self, cursor: Option<&Value>) -> Value {
        let mut body = json!({});
        for (name, value) in [("kind", &self.kind), ("tag", &self.tag), ("consistency", &self.consistency)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        if let Some(cursor) = cursor {
            body["cursor"] = cursor.clone();
        }
        body
    }
}

/// Rows under a heading, each column as wide as its widest entry.
fn table(items: &[Value]) -> String {
    if items.is_empty() {
        return "nothing kept yet\n".to_owned();
    }
    let heading = ["KIND", "ID", "WHAT", "TAGS", "VERSION", "UPDATED"].map(str::to_owned);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows: Vec<[String; 6]> = std::iter::once(heading)
        .chain(items.iter().map(|item| {
            let tags: Vec<String> = item["tags"].as_array().into_iter().flatten().map(text).collect();
            [
                text(&item["kind"]),
                text(&item["id"]),
                summary(item),
                tags.join(","),
                item["version"].to_string(),
                text(&item["updated_at"]),
            ]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_entry() {
        let item = |id: &str| json!({"kind": "text", "id": id, "data": {"text": "x\ny"}, "tags": ["a", "b"], "version": 7, "updated_at": "t"});
        let table = table(&[item("one"), item("longer")]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "KIND  ID      WHAT  TAGS  VERSION  UPDATED");
        assert_eq!(lines[1], "text  one     x y   a,b   7        t");
        assert_eq!(lines.len(), 3);
    }
}
