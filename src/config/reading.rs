//! The settings as a running worker reads them again, with the files of secrets that they name.

use super::uptake::{differing, differing_names};
use super::{Role, Settings, SettingsError, Uptake, uptake};
use crate::seal::sha256;
use crate::secret_file::read_secret;
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The most bytes of a file of certificates or credentials.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a running worker reads its settings again: a file, if there is one, and the environment.
#[derive(Clone, Debug, Default)]
pub struct SettingsSource {
    /// The TOML file.
    pub file: Option<PathBuf>,
}

/// Settings, and what the files contain that they name and the connections to NATS read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The settings.
    pub settings: Settings,
    /// The SHA-256 of each such file, by the name of the setting that names it.
    files: BTreeMap<String, [u8; 32]>,
}

/// The names of the settings that differ between two readings. A setting that names a file counts
/// as different if the file has other content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeSet<String>);

impl SettingsSource {
    /// Reads the settings again, and checks them.
    ///
    /// # Errors
    /// All mistakes, each with what to do.
    pub fn read(&self) -> Result<Reading, SettingsError> {
        let settings = Settings::read(self.file.as_deref())?;
        let mut problems = match settings.check() {
            Err(SettingsError::Invalid(problems)) => problems,
            other => {
                other?;
                Vec::new()
            }
        };

        let (files, unreadable) = read_files(&settings);
        problems.extend(unreadable);
        if problems.is_empty() {
            Ok(Reading { settings, files })
        } else {
            Err(SettingsError::Invalid(problems))
        }
    }
}

impl Reading {
    /// Returns a reading of settings that were read before. A file that cannot be read now counts
    /// as missing.
    pub fn of(settings: Settings) -> Self {
        let (files, _) = read_files(&settings);

        Self { settings, files }
    }

    /// Returns what differs.
    pub fn changes_to(&self, other: &Self) -> Changes {
        let mut names = differing(&self.settings, &other.settings);
        names.extend(differing_names(&self.files, &other.files));

        Changes(names)
    }
}

impl Changes {
    /// Returns the names that `wanted` selects, in order.
    pub fn names(&self, wanted: impl Fn(&str, Uptake) -> bool) -> Vec<String> {
        // A name without a row is none of a setting. The tests see to it.
        let is_wanted = |name: &str| wanted(name, uptake(name).unwrap_or(Uptake::Restart));

        let names = self.0.iter().filter(|name| is_wanted(name));
        names.cloned().collect()
    }

    /// Returns whether there are any that `uptake` takes up.
    pub fn concern(&self, uptake: Uptake) -> bool {
        !self.names(|_, other| other == uptake).is_empty()
    }

    /// Returns whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the connection has to be opened again, with `new` settings instead of `old`
    /// ones.
    pub fn concern_connection(&self, role: Role, old: &Settings, new: &Settings) -> bool {
        let uses_shared_url = [old, new]
            .iter()
            .any(|settings| settings.nats.user(role).url.is_empty());

        self.concern(Uptake::Connection(role))
            || self.concern(Uptake::Connections)
            || uses_shared_url && self.concern(Uptake::Servers)
    }
}

/// Returns the digests of the files that the connections to NATS read, by the settings that name
/// them, and a line for each file that cannot be read.
fn read_files(settings: &Settings) -> (BTreeMap<String, [u8; 32]>, Vec<String>) {
    let mut files = BTreeMap::new();
    let mut problems = Vec::new();

    for (name, path, content) in files_of(settings) {
        if path.as_os_str().is_empty() {
            continue;
        }

        match content(path) {
            Ok(digest) => {
                files.insert(name, digest);
            }
            Err(error) => problems.push(format!("{name}: {error:#}")),
        }
    }

    (files, problems)
}

/// Returns the digest of a file.
type Content = fn(&Path) -> anyhow::Result<[u8; 32]>;

fn files_of(settings: &Settings) -> Vec<(String, &Path, Content)> {
    let tls = &settings.nats.tls;
    let mut files = Vec::new();
    for (field, path) in [
        ("ca_file", &tls.ca_file),
        ("cert_file", &tls.cert_file),
        ("key_file", &tls.key_file),
    ] {
        files.push((
            format!("nats.tls.{field}"),
            path.as_path(),
            digest_of_file as Content,
        ));
    }

    for role in Role::ALL {
        let user = settings.nats.user(role);
        for (field, path, content) in [
            (
                "password_file",
                &user.password_file,
                digest_of_secret as Content,
            ),
            ("token_file", &user.token_file, digest_of_secret),
            ("nkey_seed_file", &user.nkey_seed_file, digest_of_secret),
            ("creds_file", &user.creds_file, digest_of_file),
        ] {
            files.push((
                format!("nats.{}.{field}", role.name()),
                path.as_path(),
                content,
            ));
        }
    }

    files
}

fn digest_of_secret(path: &Path) -> anyhow::Result<[u8; 32]> {
    Ok(sha256(read_secret(path)?.as_bytes()))
}

fn digest_of_file(path: &Path) -> anyhow::Result<[u8; 32]> {
    let content =
        read_file(path).with_context(|| format!("the file {} cannot be read", path.display()))?;

    Ok(sha256(&content))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)?;

    if read as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Settings that a worker can start with, in TOML.
    fn usable(more: &str) -> String {
        format!(
            "{more}\n[shard]\nid = \"a\"\n[postgres]\nurl = \"postgres://h/d\"\n\
             [keys]\nidentity = \"a\"\nencryption = \"b\"\n\
             [auth]\nissuer = \"i\"\nverdict_keys = \"k\"\n"
        )
    }

    struct Place {
        directory: tempfile::TempDir,
        source: SettingsSource,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let source = SettingsSource {
                file: Some(directory.path().join("settings.toml")),
            };

            Self { directory, source }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.directory.path().join(name);
            fs::write(&path, text).expect("written");
            path
        }

        fn read(&self, text: &str) -> Result<Reading, SettingsError> {
            self.write("settings.toml", &usable(text));
            self.source.read()
        }
    }

    fn all(changes: &Changes) -> Vec<String> {
        changes.names(|_, _| true)
    }

    #[test]
    fn a_file_with_other_content_is_a_change_of_the_setting_that_names_it() {
        let place = Place::new();
        let password = place.write("password", "hush one\n");
        let ca = place.write("ca.pem", "one");
        let text = format!(
            "nats.front.user = \"f\"\nnats.front.password_file = {password:?}\n\
             nats.tls.ca_file = {ca:?}\n"
        );
        let before = place.read(&text).expect("usable");
        assert!(
            before
                .changes_to(&place.read(&text).expect("usable"))
                .is_empty()
        );

        place.write("password", "hush one");
        let same = place.read(&text).expect("usable");
        assert!(before.changes_to(&same).is_empty(), "only a line break");

        place.write("password", "hush two\n");
        let other = place.read(&text).expect("usable");
        let changes = before.changes_to(&other);

        assert_eq!(all(&changes), ["nats.front.password_file"]);
        let concerned = Role::ALL
            .map(|role| changes.concern_connection(role, &before.settings, &other.settings));
        assert_eq!(concerned, [true, false, false]);
        assert!(!format!("{other:?}").contains("hush"));

        place.write("ca.pem", "two");
        let both = other.changes_to(&place.read(&text).expect("usable"));
        assert!(both.concern(Uptake::Connections));
    }

    #[test]
    fn a_connection_with_a_server_of_its_own_does_not_care_about_the_shared_one() {
        let place = Place::new();
        let text = |url: &str| format!("nats.url = {url:?}\nnats.auth.url = \"nats://own\"\n");
        let one = place.read(&text("nats://one")).expect("usable");
        let two = place.read(&text("nats://two")).expect("usable");

        let changes = one.changes_to(&two);

        let concerned =
            Role::ALL.map(|role| changes.concern_connection(role, &one.settings, &two.settings));
        assert_eq!(concerned, [true, false, true]);
    }

    #[test]
    fn all_mistakes_are_named_together() {
        let place = Place::new();

        let error = place.read(
            "nats.auth.user = \"a\"\nnats.auth.password_file = \"/nowhere/p\"\n\
             nats.tls.ca_file = \"/nowhere/ca\"\nlimits.keys = 2_000\n",
        );

        let error = error.expect_err("wrong").to_string();
        for part in [
            "nats.auth.password_file",
            "/nowhere/p",
            "nats.tls.ca_file",
            "limits.keys",
        ] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }
}
