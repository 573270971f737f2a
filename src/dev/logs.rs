//! Prints what the processes of a development platform wrote.

use super::state::no_platform;
use anyhow::{Context as _, bail};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the files are read again.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How many of the last lines of each file are shown if no part is named.
const LINES_OF_EACH: usize = 10;

/// A process's file, and how much of it was printed.
struct Log {
    name: String,
    file: PathBuf,
    printed: u64,
}

/// Which output to print.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// The part; if there is none, all parts are printed, each line with the part's name.
    pub name: Option<String>,
    /// How many of the last lines; if this is none, all of a named part and a few of each other.
    pub lines: Option<usize>,
    /// Whether to print further lines until the reader goes away.
    pub follow: bool,
}

/// Prints the output of the platform's processes, also of one that has stopped.
///
/// # Errors
///
/// There is no such output, or it cannot be read.
pub fn print(state: &Path, options: &LogOptions, out: &mut impl Write) -> anyhow::Result<()> {
    let mut logs = find(state)?;
    if let Some(name) = &options.name {
        let names: Vec<String> = logs.iter().map(|log| log.name.clone()).collect();
        logs.retain(|log| log.name == *name);
        if logs.is_empty() {
            bail!(
                "there is no log of {name}; there are those of: {}",
                names.join(", ")
            );
        }
    }
    let has_prefix = options.name.is_none();
    let lines = options.lines.or(has_prefix.then_some(LINES_OF_EACH));

    for log in &mut logs {
        let text = log.read_further(!options.follow)?;
        let all: Vec<&str> = text.lines().collect();
        let first = lines.map_or(0, |lines| all.len().saturating_sub(lines));
        write_lines(out, log, all[first..].iter().copied(), has_prefix)?;
    }
    if !options.follow {
        return Ok(());
    }

    loop {
        out.flush()?;
        std::thread::sleep(POLL_INTERVAL);
        for log in &mut logs {
            let text = log.read_further(false)?;
            write_lines(out, log, text.lines(), has_prefix)?;
        }
    }
}

fn write_lines<'a>(
    out: &mut impl Write,
    log: &Log,
    lines: impl Iterator<Item = &'a str>,
    has_prefix: bool,
) -> anyhow::Result<()> {
    for line in lines {
        if has_prefix {
            write!(out, "{:<10} | ", log.name)?;
        }
        writeln!(out, "{line}")?;
    }

    Ok(())
}

/// Returns the files of output below `state`, in the order of their names.
///
/// Each NATS server writes into its own directory, all others into `log`.
fn find(state: &Path) -> anyhow::Result<Vec<Log>> {
    let mut found = Vec::new();
    for file in entries(&state.join("log")) {
        if file.extension().is_some_and(|extension| extension == "log") {
            found.extend(file.file_stem().map(|name| (name.to_owned(), file.clone())));
        }
    }
    let servers = entries(&state.join("leaf"))
        .into_iter()
        .chain([state.join("nats")]);
    for directory in servers {
        let file = directory.join("nats.log");
        if file.exists() {
            found.extend(directory.file_name().map(|name| (name.to_owned(), file)));
        }
    }
    if found.is_empty() {
        bail!(no_platform(state));
    }

    let mut logs: Vec<Log> = found
        .into_iter()
        .map(|(name, file)| Log {
            name: name.to_string_lossy().into_owned(),
            file,
            printed: 0,
        })
        .collect();
    logs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(logs)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();

    entries.map(|entry| entry.path()).collect()
}

impl Log {
    /// Returns what was written since the last call: only complete lines, unless it is the end.
    fn read_further(&mut self, is_end: bool) -> anyhow::Result<String> {
        let path = || self.file.display().to_string();
        let mut file = File::open(&self.file).with_context(path)?;
        // A new platform may have begun the file again.
        if file.metadata().with_context(path)?.len() < self.printed {
            self.printed = 0;
        }

        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.printed))
            .with_context(path)?;
        file.read_to_end(&mut bytes).with_context(path)?;
        if !is_end {
            let complete = bytes.iter().rposition(|byte| *byte == b'\n');
            bytes.truncate(complete.map_or(0, |end| end + 1));
        }
        self.printed += bytes.len() as u64;

        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(state: &Path, options: &LogOptions) -> String {
        let mut out = Vec::new();
        print(state, options, &mut out).expect("printed");

        String::from_utf8(out).expect("a text")
    }

    #[test]
    fn the_output_of_one_part_or_of_all_is_printed() {
        let state = tempfile::tempdir().expect("a directory");
        let state = state.path();
        fs::create_dir_all(state.join("log")).expect("made");
        fs::create_dir_all(state.join("nats")).expect("made");
        let lines: String = (0..20).map(|number| format!("line {number}\n")).collect();
        fs::write(state.join("log/auth.log"), lines).expect("written");
        fs::write(state.join("nats/nats.log"), "listening").expect("written");

        let all = printed(state, &LogOptions::default());
        assert_eq!(all.lines().count(), 11, "{all}");
        assert!(all.starts_with("auth       | line 10\n"), "{all}");
        assert!(all.ends_with("nats       | listening\n"), "{all}");

        let mut auth = LogOptions {
            name: Some("auth".into()),
            ..LogOptions::default()
        };
        assert_eq!(printed(state, &auth).lines().count(), 20);
        auth.lines = Some(1);
        assert_eq!(printed(state, &auth), "line 19\n");

        auth.name = Some("nobody".into());
        let error = print(state, &auth, &mut Vec::new()).expect_err("no such part");
        assert!(error.to_string().ends_with("auth, nats"), "{error}");
    }

    #[test]
    fn further_output_is_read_in_complete_lines() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = Log {
            name: "x".into(),
            file: directory.path().join("x.log"),
            printed: 0,
        };

        fs::write(&log.file, "one\ntw").expect("written");
        assert_eq!(log.read_further(false).expect("read"), "one\n");
        fs::write(&log.file, "one\ntwo\n").expect("written");
        assert_eq!(log.read_further(false).expect("read"), "two\n");
        fs::write(&log.file, "a\n").expect("written");
        assert_eq!(log.read_further(false).expect("read"), "a\n");
    }
}
