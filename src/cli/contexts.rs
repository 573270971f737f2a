//! The file of contexts: named addresses and credentials, so that callers need not type them.

use super::failed::CommandError;
use super::output::visible;
use crate::nats::{Credentials, Secret};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The fields with which one logs in at NATS: the user, the two forms of its password, and three
/// other ways.
pub(super) const CREDENTIALS: [&str; 6] = [
    "user",
    "password",
    "password_file",
    "nats_token_file",
    "nkey_file",
    "creds",
];

/// The fields of a context. The options of the same names give the same values.
pub(super) const FIELDS: [&str; 16] = [
    "url",
    "user",
    "password",
    "password_file",
    "nats_token_file",
    "nkey_file",
    "creds",
    "inbox_prefix",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "tls_required",
    "token",
    "token_file",
    "shard",
    "prefix",
];

/// Returns whether a field is a secret itself.
pub(super) fn is_secret(field: &str) -> bool {
    ["password", "token"].contains(&field)
}

/// Returns whether a field is the path of a file.
pub(super) fn is_path(field: &str) -> bool {
    field.ends_with("_file") || ["creds", "tls_ca", "tls_cert", "tls_key"].contains(&field)
}

/// Returns the URLs without users and passwords.
pub(super) fn without_user(urls: &str) -> String {
    let shown = urls.split(',').map(|url| match url.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://{host}"),
            None => host.to_owned(),
        },
        None => url.to_owned(),
    });

    visible(&shown.collect::<Vec<_>>().join(","))
}

/// The content of the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    /// The file that was read.
    #[serde(skip)]
    path: PathBuf,
    /// The name of the context to use if the caller names none.
    pub default: Option<String>,
    /// The contexts by name.
    #[serde(default, rename = "context")]
    pub all: BTreeMap<String, Place>,
}

/// The service's address and the caller's credentials. Only the URL and the user are ever printed.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub url: Option<String>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub password_file: Option<PathBuf>,
    pub nats_token_file: Option<PathBuf>,
    pub nkey_file: Option<PathBuf>,
    pub creds: Option<PathBuf>,
    pub inbox_prefix: Option<String>,
    pub tls_ca: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls_required: bool,
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub shard: Option<String>,
    pub prefix: Option<String>,
}

impl Contexts {
    /// Reads the file at `path`, else the default one, which need not exist.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        match (path, default_file()) {
            (Some(file), _) => Self::from(file),
            (None, Some(file)) if file.exists() => Self::from(&file),
            (None, _) => Ok(Self::default()),
        }
    }

    fn from(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?;

        let mut contexts: Self =
            toml::from_str(&text).map_err(|error| not_contexts(file, &text, &error))?;
        if contexts.all.values().any(Place::holds_secret) {
            check_private(file)?;
        }
        for place in contexts.all.values_mut() {
            place.expand_home();
        }

        contexts.path = file.to_owned();
        Ok(contexts)
    }

    /// The names of the contexts.
    pub fn names(self) -> Vec<String> {
        self.all.into_keys().collect()
    }

    /// Returns the context of that name, else the default one, else an empty one.
    pub fn find(&self, name: Option<&str>) -> anyhow::Result<Place> {
        let Some(name) = name.or(self.default.as_deref()) else {
            return Ok(Place::default());
        };
        let names: Vec<&str> = self.all.keys().map(String::as_str).collect();

        let place = self.all.get(name).cloned();
        Ok(place.ok_or_else(|| unknown(name, &names, &self.path))?)
    }
}

/// Returns the error for a context that is not in the file.
pub(super) fn unknown(name: &str, names: &[&str], file: &Path) -> CommandError {
    let others = match (file.as_os_str().is_empty(), names.is_empty()) {
        (true, _) => "there is no file of contexts yet: `context add` makes one".to_owned(),
        (_, true) => format!("{} has none", file.display()),
        (_, false) => format!("{} has {}", file.display(), names.join(", ")),
    };

    CommandError::usage(format!("there is no context {}: {others}", visible(name)))
}

/// Returns the error for a file that cannot be read as contexts, with the line, and without what is
/// in it, which could be a secret.
fn not_contexts(file: &Path, text: &str, error: &toml::de::Error) -> CommandError {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    // These messages repeat the value.
    let message = match error.message() {
        repeats if repeats.starts_with("invalid type") || repeats.starts_with("invalid value") => {
            "this value has another type than the field needs"
        }
        message => message,
    };

    CommandError::usage(format!(
        "{} is not a file of contexts: line {line}: {message}",
        file.display()
    ))
}

/// Refuses a file that other users may read.
pub(super) fn check_private(file: &Path) -> anyhow::Result<()> {
    let metadata =
        fs::metadata(file).with_context(|| format!("{} cannot be read", file.display()))?;
    if !is_private(metadata.permissions().mode(), metadata.uid()) {
        bail!(
            "{} holds a secret, and others may read it: chmod 600 it",
            file.display()
        );
    }

    Ok(())
}

/// Returns whether a file of this mode and user is private: only its user may read it. A group may
/// read a file of root, because Kubernetes and systemd hand a secret to another user in that way.
fn is_private(mode: u32, user: u32) -> bool {
    let others = if user == 0 { 0o037 } else { 0o077 };

    mode & others == 0
}

/// Returns the token in a file that only its user may read.
pub(super) fn read_private(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("the token file {} cannot be read", file.display()))?;
    check_private(file)?;

    Ok(text.trim().to_owned())
}

impl Place {
    /// Returns the values as text, by the fields' names.
    pub fn values(&self) -> BTreeMap<String, String> {
        let table = toml::Table::try_from(self).unwrap_or_default();
        let text = |value: toml::Value| match value {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };

        table
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect()
    }

    /// Lets the paths that begin with `~/` begin with the user's home.
    fn expand_home(&mut self) {
        let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
            return;
        };

        for path in [
            &mut self.password_file,
            &mut self.nats_token_file,
            &mut self.nkey_file,
            &mut self.creds,
            &mut self.tls_ca,
            &mut self.tls_cert,
            &mut self.tls_key,
            &mut self.token_file,
        ] {
            if let Some(below) = path.as_ref().and_then(|path| path.strip_prefix("~").ok()) {
                *path = Some(home.join(below));
            }
        }
    }

    fn holds_secret(&self) -> bool {
        let in_url = self.url.as_ref().is_some_and(|url| url.contains('@'));

        self.password.is_some() || self.token.is_some() || in_url
    }

    /// Returns the context that has these credentials, and nothing else.
    pub fn of(credentials: Credentials) -> Self {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let file = |file: PathBuf| Some(file).filter(|file| !file.as_os_str().is_empty());

        Self {
            user: text(credentials.user),
            password: text(credentials.password.text),
            password_file: file(credentials.password.file),
            nats_token_file: file(credentials.token.file),
            nkey_file: file(credentials.nkey_seed.file),
            creds: file(credentials.creds_file),
            ..Self::default()
        }
    }

    /// The credentials for NATS.
    pub fn credentials(&self) -> Credentials {
        let file = |file: &Option<PathBuf>| file.clone().unwrap_or_default();
        let secret = |file: PathBuf| Secret {
            file,
            ..Secret::default()
        };

        Credentials {
            user: self.user.clone().unwrap_or_default(),
            password: Secret {
                text: self.password.clone().unwrap_or_default(),
                file: file(&self.password_file),
            },
            token: secret(file(&self.nats_token_file)),
            nkey_seed: secret(file(&self.nkey_file)),
            creds_file: file(&self.creds),
        }
    }

    /// Returns the token: the context's own, else the content of its token file.
    pub fn token(&self) -> anyhow::Result<Option<String>> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(file)) => read_private(file).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// `$XDG_CONFIG_HOME/gofavorites/contexts.toml`, by default below `~/.config` (XDG Base Directory
/// Specification).
pub(super) fn default_file() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };

    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("gofavorites/contexts.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, mode: u32) -> anyhow::Result<Contexts> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("set");

        Contexts::read(Some(file.path()))
    }

    #[test]
    fn only_a_file_of_root_may_be_readable_to_a_group() {
        let (root, alice) = (0, 1_000);

        for (mode, user) in [(0o100_600, alice), (0o100_600, root), (0o100_440, root)] {
            assert!(is_private(mode, user), "{mode:o} of {user}");
        }
        for (mode, user) in [
            (0o100_640, alice),
            (0o100_604, root),
            (0o100_660, root),
            (0o100_444, root),
        ] {
            assert!(!is_private(mode, user), "{mode:o} of {user}");
        }
    }

    #[test]
    fn a_context_is_found_by_name_or_by_default() {
        let text = "default = \"b\"\n\
                    [context.a]\nurl = \"nats://a\"\n\
                    [context.b]\nurl = \"nats://b\"\ntoken = \"t\"\n";
        let contexts = read(text, 0o600).expect("well formed");

        let default = contexts.find(None).expect("there");
        let named = contexts.find(Some("a")).expect("there");

        assert_eq!(default.url.as_deref(), Some("nats://b"));
        assert_eq!(named.url.as_deref(), Some("nats://a"));
    }

    #[test]
    fn an_unknown_context_is_answered_with_the_names_of_the_others() {
        let text = "[context.a]\nurl = \"nats://a\"\n[context.b]\nurl = \"nats://b\"\n";
        let contexts = read(text, 0o600).expect("well formed");

        let error = contexts.find(Some("c")).err().expect("not there");

        assert!(error.to_string().contains("a, b"), "{error}");
    }

    #[test]
    fn a_file_with_a_secret_must_be_private() {
        let token = "[context.a]\ntoken = \"hush\"\n";
        let no_secret = "[context.a]\nurl = \"nats://a\"\n";
        let password_in_url = "[context.a]\nurl = \"nats://u:hush@a\"\n";

        let error = read(token, 0o644).err().expect("refused").to_string();

        assert!(error.contains("chmod 600"), "{error}");
        assert!(!error.contains("hush"), "{error}");
        assert!(read(no_secret, 0o644).is_ok());
        assert!(read(password_in_url, 0o644).is_err());
    }

    #[test]
    fn an_error_of_the_parser_shows_no_secret() {
        let not_toml = "[context.a]\ntoken = \"hush\n";

        let error = read(not_toml, 0o600).err().expect("not TOML").to_string();

        assert!(!error.contains("hush"), "{error}");
        assert!(error.contains("line 2"), "{error}");

        let wrong_type = "[context.a]\ntls_required = \"hush\"\n";
        let error = read(wrong_type, 0o600).err().expect("no bool").to_string();
        assert!(
            !error.contains("hush") && error.contains("line 2"),
            "{error}"
        );
    }

    #[test]
    fn every_field_has_its_name_in_the_list() {
        let text: String = FIELDS
            .into_iter()
            .filter(|field| *field != "tls_required")
            .map(|field| format!("{field} = \"x\"\n"))
            .collect();
        let contexts = read(&format!("[context.a]\ntls_required = true\n{text}"), 0o600);

        let values = contexts.expect("well formed").all["a"].values();

        let mut fields = FIELDS.to_vec();
        fields.sort_unstable();
        assert_eq!(values.keys().collect::<Vec<_>>(), fields);
    }

    #[test]
    fn no_user_is_shown_in_a_url() {
        for (url, shown) in [
            ("nats://u:p@a:1,tls://b", "nats://a:1,tls://b"),
            ("u@a", "a"),
        ] {
            assert_eq!(without_user(url), shown);
        }
    }

    #[test]
    fn a_token_may_be_in_a_file_of_its_own() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "hush\n").expect("written");
        let place = Place {
            token_file: Some(file.path().to_owned()),
            ..Place::default()
        };

        let token = place.token().expect("there");

        assert_eq!(token.as_deref(), Some("hush"));
    }

    #[test]
    fn a_token_file_must_be_private() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "hush\n").expect("written");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).expect("set");
        let place = Place {
            token_file: Some(file.path().to_owned()),
            ..Place::default()
        };

        let error = place.token().expect_err("readable by others").to_string();

        assert!(error.contains("chmod 600"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}
