//! Says why settings cannot be read, without their values. The error of the library quotes the line
//! or the value, which may be a secret.

use config::ConfigError;

/// Returns what is wrong, and where.
pub(super) fn describe(error: &ConfigError) -> String {
    match error {
        ConfigError::FileParse { uri, cause } => {
            let file = uri.as_deref().unwrap_or("the file");
            format!("{file}: {}", without_quotation(&cause.to_string()))
        }
        ConfigError::Type { expected, key, .. } => {
            let key = key.as_deref().unwrap_or("a setting");
            format!("{key}: has to be {expected}")
        }
        ConfigError::At { error, key, .. } => match key {
            Some(key) => format!("{key}: {}", describe(error)),
            None => describe(error),
        },
        ConfigError::Message(message) => without_value(message),
        // Neither has a value: a name, and an operation that this program does not use.
        ConfigError::NotFound(_) | ConfigError::Frozen => error.to_string(),
        _ => "a setting cannot be read".to_owned(),
    }
}

/// Returns what is wrong with the one value that was read, without its name.
pub(super) fn reason(error: &ConfigError) -> String {
    match error {
        ConfigError::Type { expected, .. } => format!("has to be {expected}"),
        ConfigError::At { error, .. } => reason(error),
        other => describe(other),
    }
}

/// Leaves out the lines that quote the file. They have the number of the line, or nothing, before a
/// bar.
fn without_quotation(message: &str) -> String {
    let quotes = |line: &str| {
        let line = line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
        line.starts_with('|')
    };
    let kept: Vec<&str> = message
        .lines()
        .filter(|line| !quotes(line) && !line.is_empty())
        .collect();

    kept.join(": ")
}

/// Leaves out the value, as in `invalid type: string "…", expected u64`.
fn without_value(message: &str) -> String {
    if message.contains("does not have variant constructor") {
        return "there is no such value, see docs/settings.md".to_owned();
    }

    let is_about_value = ["invalid type:", "invalid value:"]
        .into_iter()
        .find(|start| message.starts_with(start));

    match (is_about_value, message.rsplit_once(", expected ")) {
        (Some(start), Some((_, expected))) => {
            format!("{} expected {expected}", start.replace(':', ","))
        }
        (Some(start), None) => start.trim_end_matches(':').to_owned(),
        (None, _) => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Settings;
    use std::error::Error;
    use std::fs;

    #[test]
    fn no_value_of_an_unreadable_file_is_quoted() {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");

        for (text, place) in [
            ("[keys]\nidentity = \"hushKEY\n", ".toml:2: "),
            ("[nats.truth]\npassword = hush\n", ".toml:2: "),
            (
                "[nats.truth]\npassword = \"hush\"\npassword = \"hush\"\n",
                ".toml:3: ",
            ),
            ("[nats.truth]\npassword = \"a\" hush\n", ".toml:2: "),
            ("postgres = \"postgres://u:hush@h/db\"\n", "postgres"),
            ("[nats]\nfront = \"nats://u:hush@h\"\n", "front"),
            ("[postgres]\nconnections = \"hush\"\n", "connections"),
            ("[worker]\nreply_prefixes = \"hush\"\n", "reply_prefixes"),
            ("[limits]\nitems = [\"hush\"]\n", "items"),
            ("[log]\nformat = [\"hush\"]\n", "log"),
            (
                "[log]\nformat = \"hush\"\n",
                "log.format: there is no such value",
            ),
        ] {
            fs::write(file.path(), text).expect("written");
            let error = Settings::read(Some(file.path())).expect_err("unreadable");

            let mut printed = format!("{error} {error:?}");
            let mut cause = error.source();
            while let Some(error) = cause {
                printed += &format!(" {error} {error:?}");
                cause = error.source();
            }
            assert!(!printed.contains("hush"), "{printed}");
            assert!(printed.contains(place), "{place}: {printed}");
        }
    }
}
