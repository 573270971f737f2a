//! `gofavorites limits`: prints the service's limits.

use super::client::Connection;
use super::output::{Column, Output, Table, bytes, grouped, plain};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// Show the service's limits.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites limits --json")]
pub(super) struct Limits {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Limits {
    pub async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let reply = self.connection.ask(Operation::Limits, &json!({})).await?;
        let columns = [
            Column::words("LIMIT"),
            Column::numbers("VALUE"),
            Column::words("UNIT"),
        ];

        let limits = reply["limits"].as_object().into_iter().flatten();
        let rows = limits.map(|(name, limit)| {
            let [value, unit] = in_words(name, limit);
            vec![name.as_str().into(), value.into(), unit.into()]
        });
        self.output.print(&reply, |screen| {
            Table::new(columns).with_rows(rows).format(screen)
        })
    }
}

/// Returns value and unit of a limit: bytes from a mebibyte on in larger units, and no limit in a
/// word.
fn in_words(name: &str, limit: &Value) -> [String; 2] {
    let value = limit["value"].as_u64();
    let unit = plain(&limit["unit"]);

    match (name, value) {
        ("rate_per_s", Some(0)) => ["unlimited".to_owned(), "requests a second".to_owned()],
        ("rate_per_s", _) => [grouped(&limit["value"]), "requests a second".to_owned()],
        (_, Some(size)) if unit == "bytes" && size >= 1 << 20 => {
            let size = bytes(size);
            let (number, unit) = size.split_once(' ').unwrap_or((&size, ""));
            [number.to_owned(), unit.to_owned()]
        }
        _ => [grouped(&limit["value"]), unit],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_words() {
        for (name, limit, expected) in [
            (
                "cache_bytes",
                json!({"value": 268_435_456, "unit": "bytes"}),
                ["256", "MiB"],
            ),
            (
                "text_bytes",
                json!({"value": 65_536, "unit": "bytes"}),
                ["65,536", "bytes"],
            ),
            (
                "rate_per_s",
                json!({"value": 0, "unit": "requests a second, 0 is unbounded"}),
                ["unlimited", "requests a second"],
            ),
            (
                "items",
                json!({"value": 500, "unit": "items"}),
                ["500", "items"],
            ),
        ] {
            assert_eq!(in_words(name, &limit), expected);
        }
    }
}
