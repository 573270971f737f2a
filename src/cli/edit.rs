//! `gofavorites edit`: an item in your editor.

use super::client::Connection;
use super::show::{print, summary};
use crate::wire::Operation;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Edit an item: its data, metadata and tags, as JSON in $VISUAL or $EDITOR.
#[derive(Args)]
#[command(
    after_help = "It is kept only if nobody changed it meanwhile. What was refused stays in a file that is named.

Examples:
  gofavorites edit instrument US0378331005
  EDITOR=nano gofavorites edit text shopping"
)]
pub(super) struct Edit {
    #[command(flatten)]
    connection: Connection,
    /// instrument or text
    kind: String,
    /// An instrument's ISIN, or a text's name
    id: String,
}

/// A file that only its owner reads, removed when it is dropped.
struct Draft {
    file: PathBuf,
    keep: bool,
}

impl Edit {
    pub async fn run(self) -> anyhow::Result<()> {
        let what = json!({"kind": self.kind, "id": self.id});
        let item = self.connection.ask(Operation::Get, &what).await?["item"].take();
        let before = serde_json::to_string_pretty(
            &json!({"data": item["data"], "meta": item["meta"], "tags": item["tags"]}),
        )?;
        let mut draft = Draft::new(&before)?;
        let editor = ["VISUAL", "EDITOR"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|e| !e.is_empty()));
        edit(&editor.unwrap_or_else(|| "vi".into()), &draft.file)?;
        let after = fs::read_to_string(&draft.file)?;
        if after.trim() == before {
            return print("nothing changed\n");
        }
        let kept = self.keep(&item, &after).await;
        match kept {
            Ok(reply) => print(&format!(
                "kept {} {} at version {}: {}\n",
                self.kind,
                self.id,
                reply["item"]["version"],
                summary(&reply["item"])
            )),
            Err(error) => {
                draft.keep = true;
                // The fault first: its exit code counts.
                eprintln!("what you wrote is in {}", draft.file.display());
                Err(error)
            }
        }
    }

    async fn keep(&self, item: &Value, text: &str) -> anyhow::Result<Value> {
        let edited: Value = serde_json::from_str(text).context("what you wrote is not JSON")?;
        let mut body = json!({"kind": self.kind, "id": item["id"], "if_version": item["version"]});
        for (name, value) in edited.as_object().context("what you wrote is no object")? {
            if !["data", "meta", "tags"].contains(&name.as_str()) {
                bail!("{name}: only data, meta and tags can be edited");
            }
            body[name] = value.clone();
        }
        // A new connection and a new time: editing takes as long as it takes.
        self.connection
            .open()
            .await?
            .write(Operation::Put, &body, None)
            .await
    }
}

/// Runs the editor as the shell would, for it may have arguments.
fn edit(editor: &str, file: &Path) -> anyhow::Result<()> {
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(file)
        .status()?;
    if !status.success() {
        bail!("the editor ended with {status}: nothing was changed");
    }
    Ok(())
}

impl Draft {
    fn new(text: &str) -> anyhow::Result<Self> {
        let file = std::env::temp_dir().join(format!(
            "gofavorites-{}.json",
            uuid::Uuid::now_v7().simple()
        ));
        let mut made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)?;
        let draft = Self { file, keep: false };
        made.write_all(text.as_bytes())?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keep {
            // It may have been removed by the editor.
            let _ = fs::remove_file(&self.file);
        }
    }
}
