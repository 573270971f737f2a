//! The file of the text, which readers never see half written.

use crate::cli::failed::CommandError;
use anyhow::Context as _;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Replaces the file in one step. Everybody may read it.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    // A device or a pipe would be replaced too.
    if fs::metadata(path).is_ok_and(|existing| !existing.is_file()) {
        let message = format!("--to: {} is not a regular file", path.display());
        return Err(CommandError::usage(message).into());
    }

    let failure = || format!("{} cannot be written", path.display());
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    // The ending keeps it out of what collectors read.
    let mut file = tempfile::Builder::new()
        .prefix(".gofavorites-metrics-")
        .suffix(".unfinished")
        .tempfile_in(directory.unwrap_or(Path::new(".")))
        .with_context(failure)?;
    file.write_all(text.as_bytes()).with_context(failure)?;
    // Whatever the umask is.
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))
        .with_context(failure)?;
    file.as_file().sync_all().with_context(failure)?;
    file.persist(path).with_context(failure)?;

    Ok(())
}
