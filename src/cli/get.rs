//! `gofavorites get`: prints one item.

use super::client::Connection;
use super::failed::CommandError;
use super::freshness::Freshness;
use super::item_name::ItemName;
use super::output::{
    Output, Screen, for_output, labelled, moment, plain, print, tags, visible, warn_if_stale,
};
use crate::wire::Operation;
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

/// Show one item.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites get instrument US0378331005 --shard b
  gofavorites get otp bank --reveal")]
pub(super) struct Get {
    #[command(flatten)]
    item: ItemName,
    /// Also show the secret of an otp, or the codes of a list
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    freshness: Freshness,
    #[command(flatten)]
    output: Output,
    /// Print only the text of a text, as it is
    #[arg(long, conflicts_with_all = ["json", "output"])]
    raw: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Get {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut body = self.item.body();
        if self.reveal {
            body["reveal"] = json!(true);
        }
        self.freshness.fill(&mut body);

        let reply = self.connection.ask(Operation::Get, &body).await?;

        warn_if_stale(&reply);
        if self.raw {
            let Some(text) = reply["item"]["data"]["text"].as_str() else {
                bail!(CommandError::usage("--raw is for the kind text"));
            };
            return print(&for_output(text));
        }
        self.output.print(&reply, |screen| {
            let fields = fields(&reply["item"], screen).into_iter();
            let lines = fields.map(|(name, value)| labelled(&name, &value, screen));
            lines.collect()
        })
    }
}

/// Returns the names and values of an item's fields, in the order in which they are printed.
fn fields(item: &Value, screen: &Screen) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for key in ["kind", "id"] {
        fields.push((key.to_owned(), plain(&item[key])));
    }

    for part in ["data", "meta"] {
        for (key, value) in item[part].as_object().into_iter().flatten() {
            let name = if part == "meta" {
                format!("meta {}", visible(key))
            } else {
                key.clone()
            };
            fields.extend(rows(name, value));
        }
    }
    if item["unknown"] == true {
        let reason = "the service does not know this kind yet";
        fields.push(("data".to_owned(), reason.to_owned()));
    }

    fields.push(("tags".to_owned(), tags(item)));
    fields.push(("version".to_owned(), plain(&item["version"])));
    for key in ["created_at", "updated_at"] {
        let time = plain(&item[key]);
        let shown = match moment(&time, screen) {
            age if screen.is_terminal() => format!("{time} ({age})"),
            _ => time,
        };
        fields.push((key.to_owned(), shown));
    }

    fields
}

/// Returns a field's rows: one for each line of a text, or for each entry of a list, the first with
/// the field's name.
fn rows(name: String, value: &Value) -> Vec<(String, String)> {
    let shown: Vec<String> = match value {
        Value::Array(entries) => entries.iter().map(plain).collect(),
        Value::String(text) => text.lines().map(visible).collect(),
        _ => vec![plain(value)],
    };
    if shown.is_empty() {
        return vec![(name, String::new())];
    }

    let names = std::iter::once(name).chain(std::iter::repeat(String::new()));
    names.zip(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_of_a_list_has_its_row() {
        let item = json!({"data": {"codes": ["one", "two"], "taken": []}});

        let shown = fields(&item, &Screen::pipe());

        let row = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            shown[2..5],
            [row("codes", "one"), row("", "two"), row("taken", "")]
        );
    }

    #[test]
    fn each_line_of_a_text_has_its_row() {
        let item = json!({"data": {"text": "milk\n\nred\u{1b}[31m\n"}});

        let shown = fields(&item, &Screen::pipe());

        let row = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            shown[2..5],
            [row("text", "milk"), row("", ""), row("", "red [31m")]
        );
    }
}
