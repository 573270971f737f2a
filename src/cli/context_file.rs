//! Changes to the file of contexts. What a person wrote there, comments too, stays as it is.

use super::client::Connection;
use super::contexts::Contexts;
use super::failed::CommandError;
use anyhow::{Context as _, bail};
use std::fs::{self, DirBuilder, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, value};

/// The file, and what will be in it.
pub(super) struct ContextFile {
    path: PathBuf,
    document: DocumentMut,
}

impl ContextFile {
    /// Reads the file of contexts, which need not exist. It has to be one that commands can read.
    pub fn open(connection: &Connection) -> anyhow::Result<Self> {
        let path = connection.contexts_path()?;
        // A link stays a link.
        let path = path.canonicalize().unwrap_or(path);
        let text = match path.exists() {
            true => {
                Contexts::read(Some(&path))?;
                fs::read_to_string(&path)?
            }
            false => String::new(),
        };

        // Contexts could be read, so this cannot fail, and no part of the file is in an error.
        let document = text
            .parse()
            .ok()
            .context("the file of contexts is not TOML")?;
        Ok(Self { path, document })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a context the one that is used where none is named.
    pub fn set_default(&mut self, name: &str) -> anyhow::Result<()> {
        self.require(name)?;
        self.document["default"] = value(name);

        Ok(())
    }

    /// Adds a context with these values. The first one is used where none is named.
    pub fn add(
        &mut self,
        name: &str,
        values: &[(&str, String)],
        replaces: bool,
    ) -> anyhow::Result<()> {
        let is_word = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if name.is_empty() || !is_word {
            bail!(CommandError::usage(
                "a context's name has letters, digits, - and _"
            ));
        }
        if self.names().any(|own| own == name) && !replaces {
            bail!(CommandError::usage(format!(
                "there is a context {name} already: --replace replaces it"
            )));
        }

        let mut table = Table::new();
        for (field, text) in values {
            table[field] = match *field {
                "tls_required" => value(text == "true"),
                _ => value(text),
            };
        }
        let is_first = self.names().next().is_none();
        let contexts = self.document.entry("context").or_insert_with(|| {
            let mut contexts = Table::new();
            contexts.set_implicit(true);
            Item::Table(contexts)
        });
        contexts[name] = Item::Table(table);
        if is_first {
            self.document["default"] = value(name);
        }

        Ok(())
    }

    /// Removes a context. The one that is used where none is named goes last.
    pub fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.require(name)?;
        let is_default = self.document.get("default").and_then(Item::as_str) == Some(name);
        if is_default && self.names().count() > 1 {
            bail!(CommandError::usage(format!(
                "{name} is the default context: `context use` another one first"
            )));
        }

        if is_default {
            self.document.remove("default");
        }
        let contexts = self.document.get_mut("context");
        if let Some(contexts) = contexts.and_then(Item::as_table_like_mut) {
            contexts.remove(name);
        }
        Ok(())
    }

    /// Writes the file, in one step, so that only its user can read it.
    pub fn save(&self) -> anyhow::Result<()> {
        let directory = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("{} cannot be created", directory.display()))?;

        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(directory)
            .with_context(|| format!("{} cannot be written", self.path.display()))?;
        file.write_all(self.document.to_string().as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)
            .with_context(|| format!("{} cannot be written", self.path.display()))?;

        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let contexts = self.document.get("context").and_then(Item::as_table_like);

        contexts
            .into_iter()
            .flat_map(|contexts| contexts.iter().map(|(name, _)| name))
    }

    fn require(&self, name: &str) -> anyhow::Result<()> {
        if self.names().any(|own| own == name) {
            return Ok(());
        }

        let names: Vec<&str> = self.names().collect();
        Err(super::contexts::unknown(name, &names, &self.path).into())
    }
}
