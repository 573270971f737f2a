//! The context file: named places and people, so that nobody types them.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The file as a whole.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    /// The one that counts where none is named.
    pub default: Option<String>,
    /// Each by its name.
    #[serde(default, rename = "context")]
    pub all: BTreeMap<String, Place>,
}

/// Where the service is and who asks. Nothing of it is ever printed but the URL and the user.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub url: Option<String>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub shard: Option<String>,
    pub prefix: Option<String>,
}

impl Contexts {
    /// The file that is named, else the usual one, which need not be there.
    pub fn read(named: Option<&Path>) -> anyhow::Result<Self> {
        match (named, usual_file()) {
            (Some(file), _) => Self::from(file),
            (None, Some(file)) if file.exists() => Self::from(&file),
            (None, _) => Ok(Self::default()),
        }
    }

    fn from(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        // Without the place in the text, which could show a secret.
        let contexts: Self = toml::from_str(&text).map_err(|error| {
            anyhow::anyhow!(
                "{} is not a file of contexts: {}",
                file.display(),
                error.message()
            )
        })?;
        if contexts.all.values().any(Place::holds_secret) {
            is_only_ours(file)?;
        }
        Ok(contexts)
    }

    /// The context of that name, else the default one, else an empty one.
    pub fn find(&self, name: Option<&str>) -> anyhow::Result<Place> {
        let Some(name) = name.or(self.default.as_deref()) else {
            return Ok(Place::default());
        };
        let known = || {
            self.all
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        self.all
            .get(name)
            .cloned()
            .with_context(|| format!("there is no context {name}; there are: {}", known()))
    }
}

/// A file with a secret has to be one that others cannot read.
fn is_only_ours(file: &Path) -> anyhow::Result<()> {
    if fs::metadata(file)?.permissions().mode() & 0o077 != 0 {
        bail!(
            "{} holds a secret, and others may read it: chmod 600 it",
            file.display()
        );
    }
    Ok(())
}

impl Place {
    fn holds_secret(&self) -> bool {
        let in_url = self.url.as_ref().is_some_and(|url| url.contains('@'));
        self.password.is_some() || self.token.is_some() || in_url
    }

    /// The token, wherever it is kept.
    pub fn token(&self) -> anyhow::Result<Option<String>> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(file)) => {
                let text = fs::read_to_string(file);
                let text = text
                    .with_context(|| format!("the token file {} cannot be read", file.display()))?;
                is_only_ours(file)?;
                Ok(Some(text.trim().to_owned()))
            }
            (None, None) => Ok(None),
        }
    }
}

/// `$XDG_CONFIG_HOME/gofavorites/contexts.toml`, by default below `~/.config` (XDG Base Directory Specification).
fn usual_file() -> Option<PathBuf> {
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
    fn a_context_is_found_by_name_or_by_default() {
        let text = "default = \"b\"\n[context.a]\nurl = \"nats://a\"\n[context.b]\nurl = \"nats://b\"\ntoken = \"t\"\n";
        let contexts = read(text, 0o600).expect("well formed");
        assert_eq!(
            contexts.find(None).expect("there").url.as_deref(),
            Some("nats://b")
        );
        assert_eq!(
            contexts.find(Some("a")).expect("there").url.as_deref(),
            Some("nats://a")
        );
        let error = contexts
            .find(Some("c"))
            .err()
            .expect("not there")
            .to_string();
        assert!(error.contains("a, b"), "{error}");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_and_none_is_shown() {
        let error = read("[context.a]\ntoken = \"hush\"\n", 0o644)
            .err()
            .expect("readable by all")
            .to_string();
        assert!(
            error.contains("chmod 600") && !error.contains("hush"),
            "{error}"
        );
        assert!(
            read("[context.a]\nurl = \"nats://a\"\n", 0o644).is_ok(),
            "it holds no secret"
        );
        assert!(
            read("[context.a]\nurl = \"nats://u:hush@a\"\n", 0o644).is_err(),
            "a password in a URL is one"
        );
        let error = read("[context.a]\ntoken = \"hush\n", 0o600)
            .err()
            .expect("not TOML")
            .to_string();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn a_token_may_lie_in_a_file_of_its_own() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "hush\n").expect("written");
        let place = Place {
            token_file: Some(file.path().to_owned()),
            ..Place::default()
        };
        assert_eq!(place.token().expect("there").as_deref(), Some("hush"));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).expect("set");
        let error = place.token().expect_err("readable by others").to_string();
        assert!(
            error.contains("chmod 600") && !error.contains("hush"),
            "{error}"
        );
    }
}
