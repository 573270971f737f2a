//! The credentials with which a connection logs in to a NATS server.

use crate::secret_file::{SecretFileError, read_secret};
use async_nats::Auth;
use nkeys::KeyPair;
use std::fmt;
use std::path::PathBuf;

/// The credentials of one connection. At most one kind is given: user and password, a token, an
/// nkey, or a credentials file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// A token.
    pub token: Secret,
    /// The seed of the user's nkey.
    pub nkey_seed: Secret,
    /// A file with the user's JWT and the seed of the user's nkey, as `nsc` writes it.
    pub creds_file: PathBuf,
}

/// A secret, or the file that holds it. The file is read each time that the secret is needed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// The secret itself.
    pub text: String,
    /// The file.
    pub file: PathBuf,
}

/// Why the credentials cannot be used. No message repeats a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file with a secret cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The seed of the nkey is malformed.
    #[error("the seed of the nkey is malformed: a user's seed begins with SU")]
    Seed,
    /// The credentials file lacks the JWT or the seed.
    #[error(
        "{0} is not a credentials file: it needs the user's JWT and the seed of the user's nkey"
    )]
    CredsFile(String),
}

impl Secret {
    /// Returns whether neither the secret nor a file is given.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.file.as_os_str().is_empty()
    }

    fn is_given_twice(&self) -> bool {
        !self.text.is_empty() && !self.file.as_os_str().is_empty()
    }

    fn read(&self) -> Result<String, SecretFileError> {
        if self.file.as_os_str().is_empty() {
            return Ok(self.text.clone());
        }

        read_secret(&self.file)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self {
            text,
            file: PathBuf::new(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Returns whether no credentials are given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether the credentials are unambiguous: at most one kind is given, a password has a
    /// user, and no secret is given both as text and as a file.
    pub fn is_consistent(&self) -> bool {
        let kinds = [
            !self.user.is_empty(),
            !self.token.is_empty(),
            !self.nkey_seed.is_empty(),
            !self.creds_file.as_os_str().is_empty(),
        ];
        let kinds_count = kinds.into_iter().filter(|is_given| *is_given).count();
        let has_user = !self.user.is_empty() || self.password.is_empty();
        let secrets = [&self.password, &self.token, &self.nkey_seed];

        kinds_count <= 1 && has_user && !secrets.into_iter().any(Secret::is_given_twice)
    }

    /// Returns what the client sends to the server. `nonce` is what the server asks to be signed.
    ///
    /// It reads the files each time, so replaced credentials are used from the next connection on.
    pub fn login(&self, nonce: &[u8]) -> Result<Auth, CredentialsError> {
        let mut auth = Auth::new();

        if !self.creds_file.as_os_str().is_empty() {
            let (jwt, key) = self.read_creds_file()?;
            auth.jwt = Some(jwt);
            auth.signature = Some(sign(&key, nonce)?);
        } else if !self.nkey_seed.is_empty() {
            let key = read_seed(&self.nkey_seed.read()?)?;
            auth.nkey = Some(key.public_key());
            auth.signature = Some(sign(&key, nonce)?);
        } else if !self.token.is_empty() {
            auth.token = Some(self.token.read()?);
        } else if !self.user.is_empty() {
            auth.username = Some(self.user.clone());
            auth.password = Some(self.password.read()?);
        }

        Ok(auth)
    }

    fn read_creds_file(&self) -> Result<(String, KeyPair), CredentialsError> {
        let text = read_secret(&self.creds_file)?;
        let malformed = || CredentialsError::CredsFile(self.creds_file.display().to_string());

        let jwt = block(&text, "NATS USER JWT").ok_or_else(malformed)?;
        let seed = block(&text, "USER NKEY SEED").ok_or_else(malformed)?;

        Ok((jwt.to_owned(), read_seed(seed)?))
    }
}

fn read_seed(seed: &str) -> Result<KeyPair, CredentialsError> {
    KeyPair::from_seed(seed.trim()).map_err(|_| CredentialsError::Seed)
}

fn sign(key: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, CredentialsError> {
    key.sign(nonce).map_err(|_| CredentialsError::Seed)
}

/// Returns the line below `-----BEGIN {name}-----`.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("BEGIN {name}");
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains(&begin))?;

    lines
        .find(|line| !line.is_empty())
        .filter(|line| !line.starts_with("---"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tempfile::NamedTempFile;

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");

        file
    }

    fn creds(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn a_password_file_is_read_again_at_each_login() {
        let file = file("first\n");
        let credentials = Credentials {
            user: "u".into(),
            password: Secret {
                file: file.path().into(),
                ..Secret::default()
            },
            ..Credentials::default()
        };

        let first = credentials.login(b"").expect("readable").password;
        std::fs::write(file.path(), "second").expect("written");
        let second = credentials.login(b"").expect("readable").password;

        assert_eq!(first.as_deref(), Some("first"));
        assert_eq!(second.as_deref(), Some("second"));
    }

    #[test]
    fn an_nkey_signs_the_nonce() {
        let key = KeyPair::new_user();
        let credentials = Credentials {
            nkey_seed: Secret::from(key.seed().expect("a seed")),
            ..Credentials::default()
        };

        let auth = credentials.login(b"nonce").expect("a seed");

        let signature = auth.signature.expect("signed");
        assert_eq!(auth.nkey, Some(key.public_key()));
        assert!(key.verify(b"nonce", &signature).is_ok());
    }

    #[test]
    fn a_credentials_file_has_the_jwt_and_signs_the_nonce() {
        let key = KeyPair::new_user();
        let seed = key.seed().expect("a seed");
        let file = file(&creds("header.claims.signature", &seed));
        let credentials = Credentials {
            creds_file: file.path().into(),
            ..Credentials::default()
        };

        let auth = credentials.login(b"nonce").expect("complete");

        let signature = auth.signature.expect("signed");
        assert_eq!(auth.jwt.as_deref(), Some("header.claims.signature"));
        assert!(key.verify(b"nonce", &signature).is_ok());
    }

    #[test]
    fn an_unusable_file_is_named_without_its_content() {
        let cases = [
            file("hush"),
            file(&creds("", "hush")),
            file("-----BEGIN NATS USER JWT-----\nhush\n"),
        ];

        for file in cases {
            let credentials = Credentials {
                creds_file: file.path().into(),
                ..Credentials::default()
            };

            let error = credentials.login(b"").err().expect("unusable").to_string();

            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn at_most_one_kind_of_credentials_may_be_given() {
        let user = Credentials {
            user: "u".into(),
            password: Secret::from("p".to_owned()),
            ..Credentials::default()
        };
        let both = Credentials {
            token: Secret::from("t".to_owned()),
            ..user.clone()
        };
        let password_only = Credentials {
            user: String::new(),
            ..user.clone()
        };

        assert!(Credentials::default().is_consistent());
        assert!(user.is_consistent());
        assert!(!both.is_consistent());
        assert!(!password_only.is_consistent());
    }

    #[test]
    fn no_secret_is_printed() {
        let credentials = Credentials {
            user: "u".into(),
            password: Secret::from("hush".to_owned()),
            token: Secret::from("hush".to_owned()),
            nkey_seed: Secret::from("hush".to_owned()),
            ..Credentials::default()
        };

        assert!(!format!("{credentials:?}").contains("hush"));
    }
}
