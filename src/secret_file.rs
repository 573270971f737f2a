//! Secrets in files of their own, as container platforms mount them.

use std::io;
use std::path::{Path, PathBuf};

/// Why a secret cannot be read from a file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file cannot be read.
    #[error("the file {file} cannot be read", file = file.display())]
    Unreadable {
        /// Its path.
        file: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is empty.
    #[error("the file {file} is empty", file = .0.display())]
    Empty(PathBuf),
}

/// Returns the content of the file without the line break at its end.
pub fn read_secret(file: &Path) -> Result<String, SecretFileError> {
    let text = std::fs::read_to_string(file).map_err(|source| SecretFileError::Unreadable {
        file: file.to_owned(),
        source,
    })?;

    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(SecretFileError::Empty(file.to_owned()));
    }

    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_break_at_the_end_is_no_part_of_the_secret() {
        let file = tempfile::NamedTempFile::new().expect("a file");

        for (text, secret) in [
            ("hush", "hush"),
            ("hush\n", "hush"),
            (" hush \r\n", " hush "),
        ] {
            std::fs::write(file.path(), text).expect("written");
            let read = read_secret(file.path()).expect("readable");

            assert_eq!(read, secret);
        }
    }

    #[test]
    fn a_file_without_a_secret_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");

        let path = file.path().display().to_string();
        let nowhere = Path::new("/nowhere/secret");

        let empty = read_secret(file.path()).expect_err("empty").to_string();
        let missing = read_secret(nowhere).expect_err("missing").to_string();

        assert!(empty.contains(&path), "{empty}");
        assert!(missing.contains("/nowhere/secret"), "{missing}");
    }
}
