//! Secrets that a command reads: from the standard input or from a file, never from its arguments,
//! which everybody on the machine may see.
//!
//! What was read is overwritten when it is dropped. The copies in the buffer of the standard input
//! and in the request are not. No error repeats a part of the input.

use super::contexts::check_private;
use super::failed::CommandError;
use super::nats_options::path;
use anyhow::Context as _;
use clap::Args;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;
use zeroize::Zeroizing;

/// The longest input, in bytes: what a NATS server accepts as a request by default.
const INPUT_BYTES_MAX: usize = 1024 * 1024;
/// How much of an input is read: one byte more shows that it is too long.
const READ_BYTES_MAX: u64 = INPUT_BYTES_MAX as u64 + 1;

/// Where a command reads a secret.
#[derive(Args)]
pub(super) struct SecretInput {
    /// Read from this file, which only you may read, and not from the standard input
    #[arg(long, value_name = "FILE")]
    file: Option<OsString>,
    /// Arguments in the place of the input. They are refused without being repeated.
    #[arg(hide = true)]
    misplaced: Vec<String>,
}

/// How much a command reads from a terminal. From a file or a pipe it reads everything.
#[derive(Clone, Copy)]
enum Extent {
    Line,
    Lines,
}

impl SecretInput {
    /// Returns the only line of the input, without the spaces around it. `what` says in prompts and
    /// errors what to give.
    ///
    /// # Errors
    ///
    /// Fails if the input cannot be read, is too long, or is not one line of text.
    pub fn read_line(&self, what: &str) -> anyhow::Result<Zeroizing<String>> {
        let text = self.read(what, Extent::Line)?;

        let mut lines = lines_of(&text);
        let line = lines.next().ok_or_else(|| empty(what))?;
        if lines.next().is_some() {
            let message = format!("the input has several lines: give {what} alone");
            return Err(CommandError::usage(message).into());
        }

        Ok(Zeroizing::new(line.to_owned()))
    }

    /// Returns the lines of the input, without empty ones and without the spaces around each.
    ///
    /// # Errors
    ///
    /// Fails if the input cannot be read, is too long, is not text, or has no line.
    pub fn read_lines(&self, what: &str) -> anyhow::Result<Zeroizing<Vec<String>>> {
        let text = self.read(what, Extent::Lines)?;

        let lines: Vec<String> = lines_of(&text).map(str::to_owned).collect();
        if lines.is_empty() {
            return Err(empty(what).into());
        }

        Ok(Zeroizing::new(lines))
    }

    fn read(&self, what: &str, extent: Extent) -> anyhow::Result<Zeroizing<String>> {
        if !self.misplaced.is_empty() {
            return Err(misplaced(what).into());
        }

        // As large as the longest input: a buffer that grows leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_BYTES_MAX + 1));
        match path(self.file.as_ref()) {
            Some(file) if file.as_os_str() != "-" => read_file(&file, &mut bytes)?,
            _ => read_standard_input(what, extent, &mut bytes)?,
        }
        if bytes.len() > INPUT_BYTES_MAX {
            let message = format!("the input has more than {INPUT_BYTES_MAX} bytes");
            return Err(CommandError::usage(message).into());
        }

        let text = std::str::from_utf8(&bytes)
            .map_err(|_| CommandError::usage("the input is not UTF-8 text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// Returns the error for a secret among the arguments.
pub(super) fn misplaced(what: &str) -> CommandError {
    CommandError::usage(format!(
        "give {what} on the standard input or in a --file, never as an argument, because everybody \
         on the machine may see a command line"
    ))
}

fn empty(what: &str) -> CommandError {
    CommandError::usage(format!(
        "the input is empty: give {what} on the standard input or in a --file"
    ))
}

fn read_file(file: &Path, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    check_private(file)?;
    let unreadable = || format!("{} cannot be read", file.display());

    let opened = File::open(file).with_context(unreadable)?;
    opened
        .take(READ_BYTES_MAX)
        .read_to_end(bytes)
        .with_context(unreadable)?;

    Ok(())
}

fn read_standard_input(what: &str, extent: Extent, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let input = io::stdin();
    let on_terminal = input.is_terminal();
    let mut input = input.lock().take(READ_BYTES_MAX);

    let read = match extent {
        Extent::Line if on_terminal => {
            eprintln!("reading {what} from the terminal; Enter ends it");
            input.read_until(b'\n', bytes)
        }
        Extent::Lines if on_terminal => {
            eprintln!("reading {what} from the terminal, one on each line; Ctrl-D ends them");
            input.read_to_end(bytes)
        }
        Extent::Line | Extent::Lines => input.read_to_end(bytes),
    };
    read.context("the standard input cannot be read")?;

    Ok(())
}

/// Returns the lines that are not empty, without the spaces around them. A byte order mark, with
/// which some editors begin a file, is not part of the first one.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
}

/// Returns whether an id is really the URI, which belongs on the standard input.
pub(in crate::cli) fn is_uri(id: &str) -> bool {
    id.trim_start().to_ascii_lowercase().starts_with("otpauth:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::Write as _;

    #[derive(Parser)]
    struct Command {
        id: Option<String>,
        #[command(flatten)]
        input: SecretInput,
    }

    /// Returns a file that only its user may read, with that content.
    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(content).expect("written");

        file
    }

    fn input_of(file: &tempfile::NamedTempFile) -> SecretInput {
        let path = file.path().to_str().expect("UTF-8");

        Command::parse_from(["command", "id", "--file", path]).input
    }

    #[test]
    fn spaces_and_empty_lines_are_dropped() {
        let file = file("\u{feff}one\r\n\n  two words \n\t\n".as_bytes());

        let lines = input_of(&file).read_lines("the codes").expect("lines");

        assert_eq!(*lines, ["one", "two words"]);
    }

    #[test]
    fn one_line_is_one_line() {
        let one = input_of(&file(b"\n hush \n")).read_line("it");

        assert_eq!(*one.expect("a line"), "hush");
        for wrong in [&b""[..], b" \n\n", b"hush\nhush\n", b"hush\xff"] {
            let file = file(wrong);
            let error = input_of(&file).read_line("it").expect_err("refused");

            let failed = error.downcast_ref::<CommandError>().expect("wrong usage");
            assert_eq!(failed.exit_code(), 2);
            assert!(!failed.to_string().contains("hush"), "{failed}");
        }
    }

    #[test]
    fn an_input_has_a_limit() {
        let longest = file(&[b'x'; INPUT_BYTES_MAX]);
        let longer = file(&[b'x'; INPUT_BYTES_MAX + 1]);

        let read = input_of(&longest).read_line("it").expect("not too long");
        let error = input_of(&longer).read_line("it").expect_err("too long");

        assert_eq!(read.len(), INPUT_BYTES_MAX);
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = file(b"hush");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(file.path(), open).expect("set");

        let error = input_of(&file).read_line("it").expect_err("refused");

        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_secret_among_the_arguments_is_refused_and_not_repeated() {
        let command = Command::parse_from(["command", "id", "hush", "hush"]);

        let error = command.input.read_line("it").expect_err("refused");

        assert_eq!(command.id.as_deref(), Some("id"));
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
