//! Secrets in files: instead of a setting `x`, the setting `x_file` may name a file that holds it.

use super::Settings;
use crate::secret_file::read_secret;

/// All settings that may be given as a file.
const SECRETS: [&str; 12] = [
    "nats.front.password",
    "nats.front.token",
    "nats.front.nkey_seed",
    "nats.auth.password",
    "nats.auth.token",
    "nats.auth.nkey_seed",
    "nats.truth.password",
    "nats.truth.token",
    "nats.truth.nkey_seed",
    "postgres.url",
    "keys.identity",
    "keys.encryption",
];

/// Names each secret that is given both as text and as a file, because neither may silently take
/// precedence.
pub(super) fn given_twice(settings: &config::Config) -> Vec<String> {
    let is_given = |name: &str| {
        settings
            .get_string(name)
            .is_ok_and(|value| !value.is_empty())
    };

    SECRETS
        .iter()
        .filter(|secret| is_given(secret) && is_given(&format!("{secret}_file")))
        .map(|secret| format!("{secret} and {secret}_file: give one of the two"))
        .collect()
}

/// Reads the files of the secrets that are used once. The connections read the files of `nats`
/// each time that they connect. Names each file that cannot be read.
pub(super) fn read_files(settings: &mut Settings) -> Vec<String> {
    let Settings { postgres, keys, .. } = settings;
    let secrets = [
        ("postgres.url_file", &postgres.url_file, &mut postgres.url),
        (
            "keys.identity_file",
            &keys.identity_file,
            &mut keys.identity,
        ),
        (
            "keys.encryption_file",
            &keys.encryption_file,
            &mut keys.encryption,
        ),
    ];

    let mut problems = Vec::new();
    for (name, file, secret) in secrets {
        if file.as_os_str().is_empty() {
            continue;
        }

        match read_secret(file) {
            Ok(text) => *secret = text,
            Err(error) => {
                problems.push(format!("{name}: {:#}", anyhow::Error::new(error)));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingsError;
    use std::collections::BTreeSet;
    use std::fs;

    fn read(text: &str) -> Result<Settings, SettingsError> {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        fs::write(file.path(), text).expect("written");

        Settings::read(Some(file.path()))
    }

    #[test]
    fn a_file_may_hold_a_secret() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("identity");
        fs::write(&file, "hush\n").expect("written");

        let settings = read(&format!("keys.identity_file = {file:?}\n")).expect("well formed");

        let shown = settings.shown().expect("TOML");
        assert_eq!(settings.keys.identity, "hush");
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains(&file.display().to_string()), "{shown}");
    }

    #[test]
    fn a_secret_that_is_given_twice_is_refused() {
        for secret in SECRETS {
            let text = format!("{secret} = \"hush\"\n{secret}_file = \"/nowhere\"\n");

            let error = read(&text).expect_err("given twice").to_string();

            assert!(error.contains(&format!("{secret}_file")), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let text = "postgres.url_file = \"/nowhere/a\"\nkeys.identity_file = \"/nowhere/b\"\n";

        let error = read(text).expect_err("missing").to_string();

        for part in [
            "postgres.url_file",
            "/nowhere/a",
            "keys.identity_file",
            "/nowhere/b",
        ] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    /// Finds the names of all settings for which there is another one with the suffix `_file`.
    fn find_pairs(prefix: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
        for (name, value) in table {
            if let toml::Value::Table(section) = value {
                find_pairs(&format!("{prefix}{name}."), section, found);
            } else if table.contains_key(&format!("{name}_file")) {
                found.insert(format!("{prefix}{name}"));
            }
        }
    }

    #[test]
    fn the_list_names_every_secret_that_has_a_file() {
        let shown = Settings::default().shown().expect("TOML");
        let table: toml::Table = toml::from_str(&shown).expect("TOML");
        let mut found = BTreeSet::new();

        find_pairs("", &table, &mut found);

        // These are public keys. A worker reads their files again while it runs.
        for public in ["auth.verdict_keys", "auth.token_keys"] {
            assert!(found.remove(public), "{public}");
        }
        assert_eq!(found, SECRETS.map(str::to_owned).into());
    }
}
