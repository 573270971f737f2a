//! A text that an option gives: as it is, from the standard input with `-`, or from a file with
//! `@FILE`; `@@` stands for a text that begins with one `@`.

use super::failed::CommandError;
use super::output::note;
use anyhow::Context as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};

/// The longest text, in bytes: what a NATS server accepts as a request by default.
const BYTES_MAX: u64 = 1024 * 1024;

/// Returns the text that an option with this value gives, as it is, the end of the last line too.
///
/// # Errors
///
/// Fails if the input or the file cannot be read, is too long, or is no text.
pub(super) fn read_text(value: &str) -> anyhow::Result<String> {
    if value == "-" {
        let input = io::stdin();
        if input.is_terminal() {
            note("reading the text from the terminal; Ctrl-D ends it");
        }
        return read(input.lock()).context("the standard input cannot be read");
    }

    match value.strip_prefix('@') {
        Some(text) if text.starts_with('@') => Ok(text.to_owned()),
        Some(file) => {
            let opened = File::open(file).map_err(|error| {
                CommandError::usage(format!("--text: {file} cannot be read: {error}"))
            })?;
            read(opened).with_context(|| format!("{file} cannot be read"))
        }
        None => Ok(value.to_owned()),
    }
}

fn read(input: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    input.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;

    if bytes.len() as u64 > BYTES_MAX {
        let message = format!("the text has more than {BYTES_MAX} bytes");
        return Err(CommandError::usage(message).into());
    }
    let text = String::from_utf8(bytes);
    Ok(text.map_err(|_| CommandError::usage("the text is not UTF-8"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_text_is_given_as_it_is_or_in_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "milk\nbread\n").expect("written");
        let from_file = format!("@{}", file.path().display());

        assert_eq!(read_text("milk").expect("given"), "milk");
        assert_eq!(read_text(&from_file).expect("read"), "milk\nbread\n");
        assert_eq!(read_text("@@milk").expect("given"), "@milk");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let from_file = format!("@{}", file.path().display());

        for wrong in [vec![0xff], vec![b'x'; 1024 * 1024 + 1]] {
            fs::write(file.path(), wrong).expect("written");
            assert!(read_text(&from_file).is_err());
        }
        assert!(read_text("@/nowhere/at/all").is_err());
    }
}
