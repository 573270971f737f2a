//! A file to import: its content, and its format.

use super::format::Format;
use crate::cli::contexts::check_private;
use crate::cli::failed::CommandError;
use crate::cli::output::visible;
use anyhow::Context as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use zeroize::Zeroizing;

/// The largest file, in bytes. The exports of some apps hold icons.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How much of a file is read: one byte more shows that it is too large.
const READ_BYTES_MAX: u64 = FILE_BYTES_MAX as u64 + 1;

/// A file to import. Its content is overwritten when it is dropped.
pub(super) struct Source {
    /// What messages call it.
    pub name: String,
    pub format: Format,
    pub content: Zeroizing<Vec<u8>>,
}

impl Source {
    /// Reads a file; `-` is the standard input. Without a format, recognises it.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, is too large, or is of no known format, and if it holds
    /// secrets and other users may read it.
    pub fn read(path: &Path, format: Option<Format>) -> anyhow::Result<Self> {
        let is_file = path.as_os_str() != "-";
        let name = if is_file {
            visible(&path.display().to_string())
        } else {
            "the standard input".to_owned()
        };

        let unreadable = || format!("{name} cannot be read");
        let content = if is_file {
            read_all(File::open(path).with_context(unreadable)?)
        } else {
            read_all(io::stdin().lock())
        };
        let content = content.with_context(unreadable)?;
        if content.len() > FILE_BYTES_MAX {
            let message = format!("{name} has more than {FILE_BYTES_MAX} bytes");
            return Err(CommandError::usage(message).into());
        }

        let format = format
            .or_else(|| Format::recognise(&content))
            .ok_or_else(|| {
                let why = match std::str::from_utf8(&content) {
                    Ok(_) => "the format is not recognised: give --format",
                    Err(_) => "neither a picture nor UTF-8 text",
                };
                CommandError::usage(format!("{name}: {why}"))
            })?;
        if is_file && format.holds_secrets() {
            check_private(path)?;
        }

        Ok(Self {
            name,
            format,
            content,
        })
    }

    /// Returns the content as text, without a byte order mark.
    pub fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.content)
            .map(|text| text.trim_start_matches('\u{feff}'))
            .map_err(|_| "the file is not UTF-8 text".to_owned())
    }
}

fn read_all(input: impl io::Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    input.take(READ_BYTES_MAX).read_to_end(&mut content)?;

    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    /// Returns a file with that content, which everybody may read.
    fn open_file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(content).expect("written");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), open).expect("set");

        file
    }

    fn refusal(content: &[u8], format: Option<Format>) -> String {
        let file = open_file(content);
        let error = Source::read(file.path(), format).err().expect("refused");

        error.to_string()
    }

    #[test]
    fn a_file_with_secrets_has_to_be_private() {
        let refusal = refusal(b"otpauth://totp/a?secret=HUSH", None);
        let instruments = open_file(b"isin,name\n");

        let source = Source::read(instruments.path(), None).expect("no secrets");

        assert!(refusal.contains("chmod 600"), "{refusal}");
        assert!(!refusal.contains("HUSH"), "{refusal}");
        assert_eq!(source.format, Format::Csv);
    }

    #[test]
    fn a_file_has_to_be_of_a_known_format_and_has_a_limit() {
        assert!(refusal(b"hello", None).contains("give --format"));
        let too_large = vec![b'x'; FILE_BYTES_MAX + 1];
        assert!(refusal(&too_large, Some(Format::Csv)).contains("more than"));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let marked = open_file(b"\xef\xbb\xbfisin\n");
        let latin = open_file(b"isin\n\xe9");
        let read = |file: &tempfile::NamedTempFile| {
            Source::read(file.path(), Some(Format::Csv)).expect("read")
        };

        assert_eq!(read(&marked).text(), Ok("isin\n"));
        assert!(read(&latin).text().is_err());
    }
}
