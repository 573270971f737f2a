//! Where a key set comes from: a setting, or a file that is read again when it changes.

use super::keys::{KeySet, KeySetError};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The maximum size of a file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A key set that may be replaced while the worker runs.
pub(super) struct KeySource {
    /// The field of the settings that errors name.
    setting: &'static str,
    algorithms: Vec<String>,
    file: Option<WatchedFile>,
    current: RwLock<Arc<KeySet>>,
}

struct WatchedFile {
    path: PathBuf,
    state: Mutex<FileState>,
}

struct FileState {
    /// The text of the keys in force.
    text: String,
    /// Why the file is unusable now. `None` if it is usable.
    error: Option<String>,
}

/// The result of reading the file again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reload {
    /// The keys are the same as before.
    Unchanged,
    /// Other keys are in force. `removed` is true if a former key is missing among them.
    Replaced { keys: usize, removed: bool },
    /// The file became unusable, with this error. The former keys stay in force.
    Failed(String),
}

impl KeySource {
    /// Takes the keys from the text of a JWK set.
    pub(super) fn inline(
        setting: &'static str,
        text: &str,
        algorithms: &[String],
    ) -> Result<Self, KeySetError> {
        let keys = KeySet::parse(setting, text, algorithms)?;

        Ok(Self {
            setting,
            algorithms: algorithms.to_vec(),
            file: None,
            current: RwLock::new(Arc::new(keys)),
        })
    }

    /// Reads the keys from a file.
    pub(super) fn file(
        setting: &'static str,
        path: &Path,
        algorithms: &[String],
    ) -> Result<Self, KeySetError> {
        let text = read(path).map_err(|error| KeySetError::Unreadable(setting, error))?;
        let file = WatchedFile {
            path: path.to_owned(),
            state: Mutex::new(FileState {
                text: text.clone(),
                error: None,
            }),
        };

        Ok(Self {
            file: Some(file),
            ..Self::inline(setting, &text, algorithms)?
        })
    }

    /// Returns the keys in force.
    pub(super) fn current(&self) -> Arc<KeySet> {
        let keys = self.current.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// Returns the field of the settings that errors name.
    pub(super) fn setting(&self) -> &'static str {
        self.setting
    }

    /// Returns why the file is unusable now, or `None` if it is usable.
    pub(super) fn error(&self) -> Option<String> {
        self.file.as_ref()?.state().error.clone()
    }

    /// Reads the file again, if there is one, and puts its keys in force if they have changed.
    ///
    /// It compares the file's text, not its times. If a file is written twice within the
    /// resolution of its times, the times would not show the second change.
    pub(super) fn reload(&self) -> Reload {
        let Some(file) = &self.file else {
            return Reload::Unchanged;
        };

        let text = read(&file.path).map_err(|error| KeySetError::Unreadable(self.setting, error));
        let mut state = file.state();
        if let Ok(text) = &text
            && *text == state.text
        {
            state.error = None;
            return Reload::Unchanged;
        }

        let loaded = text.and_then(|text| {
            let keys = KeySet::parse(self.setting, &text, &self.algorithms)?;
            Ok((text, keys))
        });

        match loaded {
            Ok((text, keys)) => {
                *state = FileState { text, error: None };
                self.replace(keys)
            }
            Err(error) => {
                let error = error.to_string();
                let is_new = state.error.as_ref() != Some(&error);
                state.error = Some(error.clone());
                if is_new {
                    Reload::Failed(error)
                } else {
                    Reload::Unchanged
                }
            }
        }
    }

    fn replace(&self, keys: KeySet) -> Reload {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = Reload::Replaced {
            keys: keys.count(),
            removed: !keys.holds_all_of(&current),
        };

        *current = Arc::new(keys);

        replaced
    }
}

impl WatchedFile {
    fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file that is not longer than [`FILE_BYTES_MAX`].
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;

    if read as u64 > FILE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }

    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::fs;

    fn jwk(number: u8) -> Value {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;

        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([number; 32])})
    }

    fn set(keys: &[Value]) -> String {
        json!({ "keys": keys }).to_string()
    }

    #[test]
    fn a_file_is_read_again_and_bad_content_keeps_the_keys() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys.json");
        let write = |text: &str| fs::write(&path, text).expect("written");

        write(&set(&[jwk(1)]));
        let source =
            KeySource::file("verdict_keys_file", &path, &["EdDSA".into()]).expect("a key set");

        assert_eq!(source.reload(), Reload::Unchanged);

        write(&set(&[jwk(1), jwk(2)]));
        let added = Reload::Replaced {
            keys: 2,
            removed: false,
        };
        assert_eq!(source.reload(), added);
        assert_eq!(source.reload(), Reload::Unchanged);

        write("{");
        let failed = "auth.verdict_keys_file is not a JWK set (RFC 7517)".to_owned();
        assert_eq!(source.reload(), Reload::Failed(failed.clone()));
        assert_eq!(source.reload(), Reload::Unchanged, "reported once");
        assert_eq!(source.error(), Some(failed));
        assert_eq!(source.current().count(), 2);

        fs::remove_file(&path).expect("removed");
        assert!(matches!(source.reload(), Reload::Failed(_)));

        write(&set(&[jwk(1), jwk(2)]));
        assert_eq!(source.reload(), Reload::Unchanged);
        assert_eq!(source.error(), None);

        write(&set(&[jwk(2)]));
        let removed = Reload::Replaced {
            keys: 1,
            removed: true,
        };
        assert_eq!(source.reload(), removed);
    }

    #[test]
    fn a_file_that_is_missing_or_endless_is_refused_at_start() {
        let refused = |path: &str| {
            KeySource::file("token_keys_file", Path::new(path), &["EdDSA".into()])
                .err()
                .expect("refused")
                .to_string()
        };

        for path in ["/nonexistent/keys.json", "/dev/zero"] {
            let error = refused(path);
            assert!(error.starts_with("auth.token_keys_file: "), "{error}");
        }
    }
}
