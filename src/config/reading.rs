//! The settings as they are at a moment, and how they differ from those of another moment.

use super::{Settings, SettingsError};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The settings, and the content of the files that they name for the connections to NATS.
///
/// The files of the auth service's keys are not among them, because workers read those again by
/// themselves.
#[derive(Clone, PartialEq, Eq)]
pub struct Reading {
    /// The settings.
    pub settings: Settings,
    /// By setting. Nothing if the file cannot be read.
    files: BTreeMap<String, Option<Vec<u8>>>,
}

impl Reading {
    /// Reads the file, if one is given, the environment, and the files that both name.
    pub fn take(file: Option<&Path>) -> Result<Self, SettingsError> {
        let settings = Settings::read(file)?;
        let is_file = |name: &str| name.starts_with("nats.") && name.ends_with("_file");
        let files = shown_values(&settings)
            .into_iter()
            .filter_map(|(name, value)| match value {
                toml::Value::String(path) if is_file(&name) && !path.is_empty() => {
                    Some((name, fs::read(path).ok()))
                }
                _ => None,
            })
            .collect();

        Ok(Self { settings, files })
    }

    /// Returns whether this one and `other` differ in the log at most.
    pub fn is_same_but_for_the_log(&self, other: &Self) -> bool {
        let mut here = self.clone();
        here.settings.log = other.settings.log.clone();

        here == *other
    }

    /// Returns the names of the settings that differ, for the log, as in `limits.items, log.filter`.
    /// A secret that stands in the settings has no name here, because their text hides it.
    pub fn differences(&self, other: &Self) -> String {
        let values = [self, other].map(|reading| shown_values(&reading.settings));
        let mut names = different_keys(&values[0], &values[1]);
        names.extend(different_keys(&self.files, &other.files));
        names.sort();
        names.dedup();

        if names.is_empty() && self != other {
            names.push("a secret");
        }
        names.join(", ")
    }
}

/// Returns the settings by name, with the secrets hidden.
fn shown_values(settings: &Settings) -> BTreeMap<String, toml::Value> {
    let mut values = BTreeMap::new();
    // All settings can be written as TOML; a test prints them.
    if let Ok(table) = toml::Table::try_from(settings) {
        flatten("", table, &mut values);
    }

    values
}

fn flatten(prefix: &str, table: toml::Table, values: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(section) => flatten(&format!("{name}."), section, values),
            value => {
                values.insert(name, value);
            }
        }
    }
}

/// Returns the keys whose values differ, and those that only one of the two has.
fn different_keys<'a, V: PartialEq>(
    one: &'a BTreeMap<String, V>,
    other: &'a BTreeMap<String, V>,
) -> Vec<&'a str> {
    let keys = one.keys().chain(other.keys());

    keys.filter(|key| one.get(*key) != other.get(*key))
        .map(String::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a settings file with this text.
    fn read(text: &str) -> Reading {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        fs::write(file.path(), text).expect("written");

        Reading::take(Some(file.path())).expect("well formed")
    }

    #[test]
    fn differences_are_named_without_their_values() {
        let before = read("keys.identity = \"one\"\nlimits.items = 3\n");
        let after = read("keys.identity = \"one\"\nlimits.items = 4\nlog.filter = \"warn\"\n");
        let secret = read("keys.identity = \"two\"\nlimits.items = 3\n");

        assert_eq!(before.differences(&after), "limits.items, log.filter");
        assert_eq!(before.differences(&secret), "a secret");
        assert_eq!(before.differences(&before), "");
    }

    #[test]
    fn the_content_of_files_counts() {
        let password = tempfile::NamedTempFile::new().expect("a file");
        let path = password.path();
        let text = format!("nats.truth.password_file = {path:?}\n");
        let contents = ["one", "two"].map(|content| {
            fs::write(path, content).expect("written");
            read(&text)
        });
        fs::remove_file(path).expect("removed");

        let [one, two] = &contents;
        assert_eq!(one.differences(two), "nats.truth.password_file");
        assert!(one != two && *two != read(&text));
    }

    #[test]
    fn the_log_is_told_from_the_rest() {
        let before = read("limits.items = 3\n");
        let log = read("limits.items = 3\nlog.filter = \"warn\"\n");
        let both = read("limits.items = 4\nlog.filter = \"warn\"\n");

        assert!(before != log && before.is_same_but_for_the_log(&log));
        assert!(!before.is_same_but_for_the_log(&both));
    }
}
