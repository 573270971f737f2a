//! The option that decides how a command prints what it has.

use super::items::{item_table, kept};
use super::json::{json_line, ordered_yaml};
use super::screen::Screen;
use super::template::Template;
use super::text::{print, print_json};
use clap::{ArgMatches, Args};
use serde_json::Value;

/// The lists in replies, each entry of which is something that is printed by itself.
const LISTS: [&str; 9] = [
    "items", "versions", "results", "tags", "shards", "workers", "entries", "contexts", "values",
];

/// How a command prints what it has.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct Output {
    /// Print as json, yaml, table or ids, or each item as template='{kind} {id} {data.name}'
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        value_parser = Format::parse,
        conflicts_with = "json"
    )]
    output: Option<Format>,
    /// Short for --output json
    #[arg(long)]
    json: bool,
}

/// A form of output that is asked for.
#[derive(Clone, Debug, PartialEq)]
enum Format {
    Json,
    Yaml,
    /// A table, also of a single item.
    Table,
    /// Kind and id of each item, on a line.
    Ids,
    /// A line for each item.
    Template(Template),
}

/// A form of output that the command does not have.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::cli) struct WrongOutput(&'static str);

impl Format {
    fn parse(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("template=")) {
            (_, Some(template)) => Template::parse(template).map(Self::Template),
            ("json", _) => Ok(Self::Json),
            ("yaml", _) => Ok(Self::Yaml),
            ("table", _) => Ok(Self::Table),
            ("ids", _) => Ok(Self::Ids),
            _ => Err("give json, yaml, table, ids or template=…".to_owned()),
        }
    }
}

impl Output {
    /// Returns whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.json || self.output == Some(Format::Json)
    }

    /// Returns whether the output is for people, or a form that is made from it.
    pub fn is_text(&self) -> bool {
        !self.json && matches!(self.output, None | Some(Format::Table))
    }

    /// Returns whether the output is neither JSON nor YAML: lines, without a place for what concerns
    /// all of them.
    pub fn is_by_line(&self) -> bool {
        !self.is_json() && self.output != Some(Format::Yaml)
    }

    /// Refuses the form `ids`, for a command that prints no items. It has to be called before
    /// anything is asked or written.
    pub fn refuse_ids(&self) -> Result<(), WrongOutput> {
        if self.output == Some(Format::Ids) {
            return Err(WrongOutput("--output ids: this command prints no items"));
        }

        Ok(())
    }

    /// Prints a reply: in the form that was asked for, else as the text for people.
    ///
    /// What is no item has no line in the form `ids`.
    pub fn print(&self, reply: &Value, text: impl FnOnce(&Screen) -> String) -> anyhow::Result<()> {
        let screen = Screen::new();

        match &self.output {
            _ if self.is_json() => print_json(reply),
            Some(Format::Yaml) => print(&ordered_yaml(reply)),
            Some(Format::Table) if reply["item"].is_object() => {
                print(&item_table([&reply["item"]]).format(&screen))
            }
            Some(Format::Ids | Format::Template(_)) => {
                let mut lines = String::new();
                for row in rows(reply) {
                    lines += &self.line(row);
                }
                print(&lines)
            }
            Some(Format::Json | Format::Table) | None => print(&text(&screen)),
        }
    }

    /// Prints the reply to a write that kept an item.
    pub fn print_kept(&self, reply: &Value) -> anyhow::Result<()> {
        self.print(reply, |_| format!("{}\n", kept(&reply["item"])))
    }

    /// Prints one of several items that come one after the other. `text` is its line for people.
    pub fn print_next(
        &self,
        item: &Value,
        text: impl FnOnce(&Screen) -> String,
    ) -> anyhow::Result<()> {
        match &self.output {
            _ if self.is_json() => print(&format!("{}\n", json_line(item))),
            Some(Format::Yaml) => print(&format!("---\n{}", ordered_yaml(item))),
            Some(Format::Ids | Format::Template(_)) => print(&self.line(item)),
            Some(Format::Json | Format::Table) | None => print(&text(&Screen::new())),
        }
    }

    /// Returns the line of the form `ids` or of a template.
    fn line(&self, row: &Value) -> String {
        if let Some(Format::Template(template)) = &self.output {
            return template.fill(row) + "\n";
        }

        match ["kind", "id"].map(|name| row[name].as_str()) {
            [Some(kind), Some(id)] => format!("{} {}\n", word(kind), word(id)),
            _ => String::new(),
        }
    }
}

/// Returns whether the arguments of a command ask for JSON.
pub(in crate::cli) fn asks_for_json(command: &ArgMatches) -> bool {
    // Other commands may have options of these names and of another type.
    let format = command.try_get_one::<Format>("output").ok().flatten();
    let json = command.try_get_one::<bool>("json").ok().flatten();
    format == Some(&Format::Json) || json == Some(&true)
}

/// Returns what a reply has: the entries of its list, its item, or itself. An operation of a batch
/// and an id of a look-up without an item have none.
fn rows(reply: &Value) -> Vec<&Value> {
    if reply["item"].is_object() {
        return vec![&reply["item"]];
    }

    let list = LISTS.iter().find_map(|name| reply[*name].as_array());
    let Some(list) = list else {
        return vec![reply];
    };
    let rows = list.iter().map(|entry| match entry.get("item") {
        Some(item) => item,
        None if entry.get("error").is_some() => &Value::Null,
        None => entry,
    });
    rows.filter(|row| !row.is_null()).collect()
}

/// Returns a text as one word of a shell, which `xargs` and `eval` read as it was.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.:,/@%+=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }

    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(format: &str, reply: &Value) -> String {
        let output = Output {
            output: Some(Format::parse(format).expect("a form")),
            json: false,
        };

        rows(reply)
            .into_iter()
            .map(|row| output.line(row))
            .collect()
    }

    #[test]
    fn each_kind_of_reply_has_its_rows() {
        let item = |id: &str| json!({"kind": "text", "id": id});
        for (reply, expected) in [
            (json!({"item": item("a"), "owner_version": 1}), "text a\n"),
            (
                json!({"items": [item("a"), null, item("b c")]}),
                "text a\ntext 'b c'\n",
            ),
            (json!({"versions": []}), ""),
            (
                json!({"results": [{"item": item("it's")}, {"error": {"code": "x"}}]}),
                "text 'it'\\''s'\n",
            ),
        ] {
            assert_eq!(lines("ids", &reply), expected);
        }
    }

    #[test]
    fn what_is_no_item_has_fields_and_no_id() {
        let tags = json!({"tags": [{"tag": "a", "items": 2}]});
        let code = json!({"code": "1"});

        assert_eq!(lines("ids", &tags), "");
        assert_eq!(lines("template={tag}={items}", &tags), "a=2\n");
        assert_eq!(lines("template={code}", &code), "1\n");
    }

    #[test]
    fn another_form_is_refused() {
        assert!(Format::parse("xml").is_err());
        assert!(Format::parse("template={nope}").is_err());
    }
}
