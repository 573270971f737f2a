//! `gofavorites edit`: opens an item in an editor, and stores what was written.

use super::client::Connection;
use super::output::{kept, note, print};
use crate::wire::Operation;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Edit an item: its data, metadata and tags, as JSON in $VISUAL or $EDITOR. Of an otp or codes, it
/// opens the metadata and the tags only.
#[derive(Args)]
#[command(
    after_help = "What you wrote is stored, unless somebody changed the item meanwhile.
If it is refused, it stays in a file, and the name of that file is printed.

Examples:
  gofavorites edit instrument US0378331005
  EDITOR=nano gofavorites edit text shopping"
)]
pub(super) struct Edit {
    /// instrument, text, otp or codes
    kind: String,
    /// The item's id; an instrument's is its ISIN or MIC:TICKER
    id: String,
    #[command(flatten)]
    connection: Connection,
}

/// A file that only its owner may read. It is removed when this is dropped, unless `keep` is set.
struct DraftFile {
    path: PathBuf,
    keep: bool,
}

impl Edit {
    pub async fn run(self) -> anyhow::Result<()> {
        let key = json!({"kind": self.kind, "id": self.id});
        let item = self.connection.ask(Operation::Get, &key).await?["item"].take();
        if item["unknown"] == true {
            bail!("the service does not know this kind yet, so the item cannot be edited");
        }
        let fields: Map<String, Value> = self
            .editable()
            .iter()
            .map(|name| ((*name).to_owned(), item[*name].clone()))
            .collect();
        let before = serde_json::to_string_pretty(&fields)?;

        let mut draft = DraftFile::create(&before)?;
        let editor = ["VISUAL", "EDITOR"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        run_editor(&editor.unwrap_or_else(|| "vi".into()), &draft.path)?;
        let after = fs::read_to_string(&draft.path)?;
        if after.trim() == before {
            return print("nothing changed\n");
        }

        match self.store(&item, &after).await {
            Ok(reply) => print(&format!("{}\n", kept(&reply["item"]))),
            Err(error) => {
                draft.keep = true;
                // Not part of the error, because the error's type determines the exit code.
                note(&format!("what you wrote is in {}", draft.path.display()));
                Err(error)
            }
        }
    }

    /// Returns the fields that can be edited. Data that are left out stay as they are, so hidden
    /// data are not sent: what a reply shows of them is not what is stored.
    fn editable(&self) -> &'static [&'static str] {
        match self.kind.as_str() {
            "otp" | "codes" => &["meta", "tags"],
            _ => &["data", "meta", "tags"],
        }
    }

    async fn store(&self, item: &Value, text: &str) -> anyhow::Result<Value> {
        let edited: Value = serde_json::from_str(text).context("what you wrote is not JSON")?;
        let fields = edited
            .as_object()
            .context("what you wrote is not a JSON object")?;

        let mut body = json!({"kind": self.kind, "id": item["id"], "if_version": item["version"]});
        for (name, value) in fields {
            let editable = self.editable();
            if !editable.contains(&name.as_str()) {
                bail!("{name}: only {} can be edited", editable.join(", "));
            }
            body[name] = value.clone();
        }

        // A new connection with a new timeout, because editing may have taken long.
        self.connection.write(Operation::Put, &body, None).await
    }
}

/// Runs the editor in a shell, because its command may have arguments.
fn run_editor(editor: &str, file: &Path) -> anyhow::Result<()> {
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

impl DraftFile {
    fn create(text: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!(
            "gofavorites-{}.json",
            uuid::Uuid::now_v7().simple()
        ));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;

        // Before the write, so that the file is removed if that fails.
        let draft = Self { path, keep: false };
        file.write_all(text.as_bytes())?;

        Ok(draft)
    }
}

impl Drop for DraftFile {
    fn drop(&mut self) {
        if !self.keep {
            // The editor may have removed the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}
