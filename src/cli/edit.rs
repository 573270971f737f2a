//! `gofavorites edit`: opens an item in an editor, and stores what was written.

use super::client::Connection;
use super::draft::{Draft, without_any_remark};
use super::failed::{CommandError, is_in_doubt, is_refused_with};
use super::item_name::ItemName;
use super::output::{kept, note, print, summary, visible};
use crate::telemetry::error_chain;
use crate::wire::{Code, Operation};
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Edit an item in $VISUAL or $EDITOR: a text as it is, an instrument's data, metadata and tags as
/// JSON, and of an otp or codes the metadata and the tags.
#[derive(Args)]
#[command(
    after_help = "What you wrote is stored, unless somebody changed the item meanwhile. If it is
refused, the editor opens it again, with the reason on top. Close it without a change to give up:
then what you wrote stays in a file, and the name of that file is printed.

Examples:
  gofavorites edit instrument US0378331005
  EDITOR=nano gofavorites edit text shopping
  gofavorites edit text shopping --whole"
)]
pub(super) struct Edit {
    #[command(flatten)]
    item: ItemName,
    /// Edit also the metadata and the tags of a text: all of it as JSON
    #[arg(long)]
    whole: bool,
    /// Begin with what is in this file, which a refused edit has left
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

impl Edit {
    pub async fn run(self) -> anyhow::Result<()> {
        let item = self.fetch().await?;
        if item["unknown"] == true {
            bail!("the service does not know this kind yet, so the item cannot be edited");
        }

        let before = self.written(&item)?;
        let text = match &self.from {
            Some(file) => {
                let kept = std::fs::read_to_string(file)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
                without_any_remark(&kept).to_owned()
            }
            None => before.clone(),
        };
        let mut draft = Draft::create(if self.is_plain() { "txt" } else { "json" })?;
        let written = match draft.edit(&text, None) {
            Ok(written) => written,
            Err(error) => return Err(give_up(draft.keep_if_changed(), error)),
        };
        if written == before {
            return print("nothing changed\n");
        }

        self.store_until_accepted(item, draft, written).await
    }

    /// Stores what was written. While it is refused, the editor opens it again.
    async fn store_until_accepted(
        &self,
        mut item: Value,
        mut draft: Draft,
        mut text: String,
    ) -> anyhow::Result<()> {
        loop {
            let error = match self.store(&item, &text).await {
                Ok(reply) => return print(&format!("{}\n", kept(&reply["item"]))),
                Err(error) => error,
            };
            if is_in_doubt(&error) {
                return Err(give_up(
                    Some(draft.keep()),
                    CommandError::edit_in_doubt().into(),
                ));
            }

            let reason = visible(&error_chain(&error)) + &self.renewed(&mut item, &error).await;
            let reason = reason + "\nClose without a change to give up.";
            match draft.edit(&text, Some(&reason)) {
                Ok(edited) if edited == text => return Err(give_up(Some(draft.keep()), error)),
                Ok(edited) => text = edited,
                Err(error) => return Err(give_up(Some(draft.keep()), error)),
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<Value> {
        let mut reply = self
            .connection
            .ask(Operation::Get, &self.item.body())
            .await?;

        Ok(reply["item"].take())
    }

    /// Takes the version to which somebody else has changed the item, so that what is written can
    /// take its place. Returns the sentences about it.
    async fn renewed(&self, item: &mut Value, error: &anyhow::Error) -> String {
        if !is_refused_with(error, Code::VersionConflict) {
            return String::new();
        }

        match self.fetch().await {
            Ok(present) => {
                *item = present;
                let present = summary(item);
                format!("\nIt is now: {present}\nWhat you save now takes its place.")
            }
            Err(error) if is_refused_with(&error, Code::NotFound) => {
                item["version"] = json!(0);
                "\nIt was deleted. What you save now stores it again.".to_owned()
            }
            // The reason is all that is known.
            Err(_) => String::new(),
        }
    }

    /// Returns whether the draft is the text of a text, as it is.
    fn is_plain(&self) -> bool {
        self.item.kind == "text" && !self.whole
    }

    /// Returns the draft of an item.
    fn written(&self, item: &Value) -> anyhow::Result<String> {
        if self.is_plain() {
            return Ok(item["data"]["text"].as_str().unwrap_or_default().to_owned());
        }

        let fields: Map<String, Value> = self
            .editable()
            .iter()
            .map(|name| ((*name).to_owned(), item[*name].clone()))
            .collect();
        Ok(serde_json::to_string_pretty(&fields)?)
    }

    /// Returns the fields that can be edited. Data that are left out stay as they are, so hidden
    /// data are not sent: what a reply shows of them is not what is stored.
    fn editable(&self) -> &'static [&'static str] {
        match self.item.kind.as_str() {
            "otp" | "codes" => &["meta", "tags"],
            _ => &["data", "meta", "tags"],
        }
    }

    async fn store(&self, item: &Value, draft: &str) -> anyhow::Result<Value> {
        let mut body = self.item.body();
        body["if_version"] = item["version"].clone();
        for (name, value) in self.fields(item, draft)? {
            body[name] = value;
        }

        // A new connection with a new timeout, because editing may have taken long.
        let client = self.connection.open().await?.in_words_of_the_wire();
        client.write(Operation::Put, &body, None).await
    }

    /// Returns the fields of the item that the draft makes of it.
    fn fields(&self, item: &Value, draft: &str) -> anyhow::Result<Map<String, Value>> {
        if self.is_plain() {
            let mut fields = Map::new();
            fields.insert("data".to_owned(), json!({"text": draft}));
            for name in ["meta", "tags"] {
                fields.insert(name.to_owned(), item[name].clone());
            }
            return Ok(fields);
        }

        let fields: Value = serde_json::from_str(draft).context("what you wrote is not JSON")?;
        let Value::Object(fields) = fields else {
            bail!("what you wrote is not a JSON object");
        };
        let editable = self.editable();
        if let Some(name) = fields
            .keys()
            .find(|name| !editable.contains(&name.as_str()))
        {
            bail!("{name}: only {} can be edited", editable.join(", "));
        }

        Ok(fields)
    }
}

/// Names the file with what was written, if there is one, and returns the error. It is not part of
/// the error, because the error's type determines the exit code.
fn give_up(file: Option<PathBuf>, error: anyhow::Error) -> anyhow::Error {
    if let Some(file) = file {
        note(&format!("what you wrote is in {}", file.display()));
    }

    error
}
