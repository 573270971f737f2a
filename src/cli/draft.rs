//! A file that an editor opens, in a directory of its own that only its user can read.

use anyhow::{Context as _, bail};
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// How the lines at the top of a draft begin that are not part of what was written.
const REMARK: &str = "# gofavorites: ";

/// A draft. Its directory, with what editors leave beside a file, is removed when this is dropped.
pub(super) struct Draft {
    directory: TempDir,
    file: PathBuf,
    /// What the editor was given.
    given: String,
}

impl Draft {
    /// Creates the directory of a file with this ending.
    pub fn create(ending: &str) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("gofavorites-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("a directory for the draft cannot be created")?;
        let file = directory.path().join(format!("draft.{ending}"));

        Ok(Self {
            directory,
            file,
            given: String::new(),
        })
    }

    /// Writes a text to the file with a remark on top, opens the editor, and returns the text that
    /// is there afterwards, without the remark.
    pub fn edit(&mut self, text: &str, remark: Option<&str>) -> anyhow::Result<String> {
        let remark: Vec<String> = remark
            .into_iter()
            .flat_map(str::lines)
            .map(|line| format!("{REMARK}{line}\n"))
            .collect();
        // Editors end the last line of a file, and complain if it has no end.
        let end = if text.ends_with('\n') || text.is_empty() {
            ""
        } else {
            "\n"
        };
        self.given = format!("{}{text}{end}", remark.concat());

        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.file)?;
        file.write_all(self.given.as_bytes())?;
        drop(file);
        run_editor(&self.file)?;
        let written = fs::read_to_string(&self.file).context("the draft cannot be read")?;

        let written = without_remark(&written, remark.len());
        Ok(match written.strip_suffix('\n') {
            Some(line) if !text.ends_with('\n') => line.to_owned(),
            _ => written.to_owned(),
        })
    }

    /// Keeps the file, and returns its path.
    pub fn keep(self) -> PathBuf {
        let _ = self.directory.keep();

        self.file
    }

    /// Keeps the file, and returns its path, if it is not as the editor was given it.
    pub fn keep_if_changed(self) -> Option<PathBuf> {
        let is_given = fs::read(&self.file).is_ok_and(|bytes| bytes == self.given.as_bytes());

        (!is_given && self.file.exists()).then(|| self.keep())
    }
}

/// Returns the text of a draft that was kept, without the remark.
pub(super) fn without_any_remark(text: &str) -> &str {
    without_remark(text, usize::MAX)
}

/// Returns the text below a remark of so many lines. A person may have changed or removed some of
/// them.
fn without_remark(text: &str, lines: usize) -> &str {
    let mut text = text;
    for _ in 0..lines {
        if !text.starts_with(REMARK) {
            break;
        }
        text = text.split_once('\n').map_or("", |(_, below)| below);
    }

    text
}

/// Runs the user's editor in a shell, because its command may have arguments.
fn run_editor(file: &Path) -> anyhow::Result<()> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_remarks_at_the_top_are_dropped() {
        let text = format!("{REMARK}one\n{REMARK}two\n# milk\n{REMARK}three\n");

        let below = format!("# milk\n{REMARK}three\n");
        assert_eq!(without_remark(&text, 2), below);
        assert_eq!(without_any_remark(&text), below);
        assert_eq!(
            without_remark(&text, 1),
            &text[text.find('\n').expect("a line") + 1..]
        );
        assert_eq!(without_remark(&text, 0), text);
        assert_eq!(without_any_remark(REMARK), "");
    }

    #[test]
    fn the_draft_is_private() {
        let draft = Draft::create("txt").expect("created");

        let mode = fs::metadata(draft.directory.path())
            .expect("there")
            .permissions();

        assert_eq!(mode.mode() & 0o777, 0o700);
    }
}
