//! Where the value of each setting comes from: a line of the file, a variable, or the default. And
//! messages about settings with these places.

use super::SettingsError;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// A line of the settings file.
    Line(usize),
    /// A variable of the environment.
    Variable(String),
}

/// Where the values of the settings come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    file: Option<PathBuf>,
    /// By setting. Those that are not here have their defaults.
    given: BTreeMap<String, Source>,
}

impl Sources {
    /// Finds the lines of a file that give settings. Returns its text too.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML.
    pub(super) fn of_file(path: &Path) -> Result<(Self, String), SettingsError> {
        let unreadable = |at: String, why: &str| SettingsError::Unreadable(format!("{at}: {why}"));
        let text = fs::read_to_string(path).map_err(|error| {
            let why = match error.raw_os_error() {
                Some(_) if error.kind() == ErrorKind::NotFound => "there is no such file".into(),
                Some(_) => error.kind().to_string(),
                None => error.to_string(),
            };
            unreadable(path.display().to_string(), &why)
        })?;

        let table = DeTable::parse(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            unreadable(format!("{}:{line}", path.display()), error.message())
        })?;
        let mut given = BTreeMap::new();
        find_lines("", table.get_ref(), &text, &mut given);

        let sources = Self {
            file: Some(path.to_owned()),
            given,
        };
        Ok((sources, text))
    }

    /// Adds the variables of the environment among these settings.
    pub(super) fn add_variables<'a>(&mut self, settings: impl Iterator<Item = &'a String>) {
        for setting in settings {
            let variable = variable(setting);
            if std::env::var_os(&variable).is_some_and(|value| !value.is_empty()) {
                let source = Source::Variable(variable);
                self.given.insert(setting.clone(), source);
            }
        }
    }

    /// Returns whether neither a file nor the environment gives a setting.
    pub(super) fn is_empty(&self) -> bool {
        self.file.is_none() && self.given.is_empty()
    }

    /// Returns whether there is a settings file.
    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Returns where the value of a setting comes from: `shard-a.toml:3`, the variable's name, or
    /// nothing if it is the default. A secret may come from the file that `x_file` names.
    pub fn place(&self, setting: &str) -> Option<String> {
        let own_file = || self.given.get(&format!("{setting}_file"));

        match self.given.get(setting).or_else(own_file)? {
            Source::Variable(variable) => Some(variable.clone()),
            Source::Line(line) => {
                let file = self.file.as_deref().unwrap_or(Path::new(""));
                Some(format!("{}:{line}", file.display()))
            }
        }
    }

    fn place_or_default(&self, setting: &str) -> String {
        self.place(setting).unwrap_or_else(|| "default".to_owned())
    }

    /// Returns the message with the places of the settings that it names, as in `limits.page: from 1
    /// to limits.page_max`.
    pub(super) fn with_places(&self, message: &str) -> String {
        let mut places: Vec<String> = Vec::new();
        for name in names_in(message) {
            let section = format!("{name}.");
            let given = self.given.keys();
            for setting in given.filter(|one| *one == name || one.starts_with(&section)) {
                places.extend(self.place(setting));
            }
        }
        places.dedup();

        if places.is_empty() {
            format!("{message} (not set)")
        } else {
            format!("{message} ({})", places.join(", "))
        }
    }
}

/// Returns the names of the settings that a message begins with.
pub(super) fn settings_of(message: &str) -> impl Iterator<Item = &str> {
    names_in(message.split(": ").next().unwrap_or_default())
}

/// Returns the words of a text that may be names of settings.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', ':', ';'])
        .filter(|name| name.contains('.'))
}

/// Returns the variable that gives a setting.
pub(super) fn variable(setting: &str) -> String {
    format!("GOFAVORITES__{}", setting.replace('.', "__").to_uppercase())
}

/// A value of a TOML text.
struct Leaf {
    setting: String,
    /// The value as it is written.
    value: String,
    /// The line on which it ends.
    line: usize,
}

/// Returns the settings as TOML, each with where its value comes from.
pub(super) fn annotated(text: &str, sources: &Sources) -> anyhow::Result<String> {
    let places: BTreeMap<usize, String> = leaves_of(text)?
        .into_iter()
        .map(|leaf| (leaf.line, sources.place_or_default(&leaf.setting)))
        .collect();

    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| match places.get(&(index + 1)) {
            Some(place) => with_comment(line, place),
            None => format!("{line}\n"),
        });
    Ok(lines.collect())
}

/// Returns those of the settings that differ from the defaults.
pub(super) fn changed(text: &str, defaults: &str, sources: &Sources) -> anyhow::Result<String> {
    let defaults: BTreeMap<String, String> = leaves_of(defaults)?
        .into_iter()
        .map(|leaf| (leaf.setting, leaf.value))
        .collect();

    let differing = leaves_of(text)?
        .into_iter()
        .filter(|leaf| defaults.get(&leaf.setting) != Some(&leaf.value));
    let lines = differing.map(|Leaf { setting, value, .. }| {
        let place = sources.place_or_default(&setting);
        with_comment(&format!("{setting} = {value}"), &place)
    });
    Ok(lines.collect())
}

fn with_comment(line: &str, place: &str) -> String {
    format!("{line:<44} # {place}\n")
}

/// Returns the settings of a TOML text with their values as they are written, in its order.
#[cfg(test)]
pub(super) fn values_of(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let leaves = leaves_of(text)?.into_iter();

    Ok(leaves.map(|leaf| (leaf.setting, leaf.value)).collect())
}

/// Returns the values of a TOML text, in its order.
fn leaves_of(text: &str) -> anyhow::Result<Vec<Leaf>> {
    let table = DeTable::parse(text)?;
    let mut leaves = Vec::new();
    collect_leaves("", table.get_ref(), text, &mut leaves);

    leaves.sort_by_key(|leaf| leaf.line);
    Ok(leaves)
}

fn collect_leaves(prefix: &str, table: &DeTable<'_>, text: &str, leaves: &mut Vec<Leaf>) {
    for (name, value) in table {
        let setting = format!("{prefix}{}", name.get_ref());
        if let DeValue::Table(section) = value.get_ref() {
            collect_leaves(&format!("{setting}."), section, text, leaves);
            continue;
        }

        let span = value.span();
        leaves.push(Leaf {
            setting,
            line: line_of(text, span.end.saturating_sub(1)),
            value: text.get(span).unwrap_or_default().to_owned(),
        });
    }
}

fn find_lines(prefix: &str, table: &DeTable<'_>, text: &str, lines: &mut BTreeMap<String, Source>) {
    for (name, value) in table {
        let setting = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(section) => find_lines(&format!("{setting}."), section, text, lines),
            _ => {
                let line = line_of(text, name.span().start);
                lines.insert(setting, Source::Line(line));
            }
        }
    }
}

/// Returns the number of the line that has this byte.
fn line_of(text: &str, byte: usize) -> usize {
    let before = text.as_bytes().iter().take(byte);

    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn sources(text: &str) -> (tempfile::NamedTempFile, Sources) {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        fs::write(file.path(), text).expect("written");
        let (sources, _) = Sources::of_file(file.path()).expect("TOML");

        (file, sources)
    }

    #[test]
    fn a_setting_has_the_line_that_gives_it() {
        let text = "[shard]\nid = \"a\"\n\n[limits.item]\ntags = 3\n[limits]\npage = 7\n";
        let (file, sources) = sources(text);

        let at = |setting: &str| sources.place(setting);
        let line = |line| Some(format!("{}:{line}", file.path().display()));
        assert_eq!(at("shard.id"), line(2));
        assert_eq!(at("limits.item.tags"), line(5));
        assert_eq!(at("limits.page"), line(7));
        assert_eq!(at("limits.items"), None);
    }

    #[test]
    fn a_secret_in_a_file_has_the_line_that_names_the_file() {
        let (file, sources) = sources("[keys]\nidentity_file = \"/run/identity\"\n");

        let line = format!("{}:2", file.path().display());
        assert_eq!(sources.place("keys.identity"), Some(line));
        assert_eq!(sources.place("keys.encryption"), None);
    }

    #[test]
    fn a_message_has_the_places_of_its_settings() {
        let (file, sources) = sources("auth.issuer = \"i\"\n[nats.front]\nuser = \"u\"\n");
        let file = file.path().display();

        for (message, place) in [
            ("auth.issuer: no", format!("({file}:1)")),
            ("nats.front: give one", format!("({file}:3)")),
            ("limits.page: at most auth.issuer", format!("({file}:1)")),
            ("worker.prefix and shard.id: no", "(not set)".to_owned()),
        ] {
            assert_eq!(sources.with_places(message), format!("{message} {place}"));
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_line() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        let text = "[shard]\nidd = \"hush\"\n[limits]\nitems = \"hush\"\npage = 0\n[nope]\nx = 1\n";
        fs::write(file.path(), text).expect("written");

        let error = Settings::read(Some(file.path()))
            .expect_err("wrong")
            .to_string();

        for (setting, line) in [
            ("shard.idd: ", 2),
            ("limits.items: ", 4),
            ("limits.page: ", 5),
            ("nope.x: ", 7),
        ] {
            let place = format!("{}:{line})", file.path().display());
            let told = error
                .lines()
                .any(|told| told.trim_start().starts_with(setting) && told.ends_with(&place));
            assert!(told, "{setting}: {error}");
        }
        assert!(error.contains("postgres.url: name"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}
