//! Who a worker is to the server: what CONNECT carries for it.

use super::nkey::{InvalidSeed, UserKey};
use crate::domain::opaque_debug;
use serde::Serialize;
use std::io;
use std::sync::Arc;

/// What shows a server who connects. A client certificate is part of TLS, and not here.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: a server without users, or one that goes by the client certificate.
    #[default]
    None,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// Its password.
        password: String,
    },
    /// A token.
    Token(String),
    /// The seed of an nkey.
    Nkey(String),
    /// The text of a `.creds` file: a JWT and the seed of its user's nkey.
    Creds(String),
}

/// Where the credential comes from. It is asked at each connect, so that one that has changed in a file is taken up without
/// a restart.
#[derive(Clone)]
pub struct Credentials(Arc<dyn Fn() -> io::Result<Credential> + Send + Sync>);

/// What CONNECT carries of a credential: the secret itself, or a signature that shows that the client has it.
#[derive(Default, Serialize)]
pub(super) struct Proof {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

opaque_debug!(Credential, Credentials, Proof);

/// A credential that nothing can be made of.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It could not be read.
    #[error("the credentials cannot be read")]
    Source(#[from] io::Error),
    /// Its seed is none.
    #[error(transparent)]
    Seed(#[from] InvalidSeed),
    /// It is no `.creds` file.
    #[error("the credentials file does not have a JWT and a seed, each between lines of dashes")]
    Creds,
}

impl Credentials {
    /// Always the same.
    pub fn fixed(credential: Credential) -> Self {
        Self::from_source(move || Ok(credential.clone()))
    }

    /// What the source returns, which may read files.
    pub fn from_source(
        source: impl Fn() -> io::Result<Credential> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(source))
    }

    /// The credential as it is now.
    pub(super) async fn read(&self) -> Result<Credential, CredentialError> {
        let source = self.0.clone();
        let read = tokio::task::spawn_blocking(move || source()).await;
        Ok(read.map_err(io::Error::other)??)
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self::fixed(Credential::None)
    }
}

impl Credential {
    /// What CONNECT carries; `nonce` is what the server wants signed.
    pub(super) fn prove(&self, nonce: &str) -> Result<Proof, CredentialError> {
        let mut proof = Proof::default();
        match self {
            Self::None => {}
            Self::Password { user, password } => {
                proof.user = Some(user.clone());
                proof.pass = Some(password.clone());
            }
            Self::Token(token) => proof.auth_token = Some(token.clone()),
            Self::Nkey(seed) => {
                let key = UserKey::from_seed(seed)?;
                proof.nkey = Some(key.public());
                proof.sig = Some(key.sign(nonce));
            }
            Self::Creds(text) => {
                let (jwt, seed) = split_creds(text).ok_or(CredentialError::Creds)?;
                let key = UserKey::from_seed(seed)?;
                proof.jwt = Some(jwt.to_owned());
                proof.sig = Some(key.sign(nonce));
            }
        }
        Ok(proof)
    }
}

/// The JWT and the seed of a `.creds` file: the first two lines that stand between lines of dashes.
fn split_creds(text: &str) -> Option<(&str, &str)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_rule = |line: &str| line.starts_with("---") && line.ends_with("---");
    let is_value = |line: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
        !line.is_empty() && line.bytes().all(is_allowed)
    };

    let mut values = lines
        .windows(3)
        .filter(|three| is_rule(three[0]) && is_rule(three[2]))
        .map(|three| three[1])
        .filter(|line| is_value(line) && !is_rule(line));
    Some((values.next()?, values.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

    fn proof(credential: &Credential) -> Value {
        let proof = credential.prove("nonce").expect("a proof");
        serde_json::to_value(proof).expect("JSON")
    }

    fn creds(end: &str) -> String {
        [
            "-----BEGIN NATS USER JWT-----",
            "eyJ0.eyJq-_.c2ln",
            "------END NATS USER JWT------",
            "",
            "************************* IMPORTANT *************************",
            "NKEY Seed printed below can be used to sign and prove identity.",
            "",
            "-----BEGIN USER NKEY SEED-----",
            SEED,
            "------END USER NKEY SEED------",
            "",
        ]
        .join(end)
    }

    #[test]
    fn each_credential_has_its_fields_and_no_others() {
        let password = Credential::Password {
            user: "u".into(),
            password: "p".into(),
        };
        assert_eq!(proof(&Credential::None), json!({}));
        assert_eq!(proof(&password), json!({"user": "u", "pass": "p"}));
        assert_eq!(
            proof(&Credential::Token("t".into())),
            json!({"auth_token": "t"})
        );

        let key = UserKey::from_seed(SEED).expect("a seed");
        assert_eq!(
            proof(&Credential::Nkey(SEED.into())),
            json!({"nkey": key.public(), "sig": key.sign("nonce")})
        );
        for end in ["\n", "\r\n"] {
            assert_eq!(
                proof(&Credential::Creds(creds(end))),
                json!({"jwt": "eyJ0.eyJq-_.c2ln", "sig": key.sign("nonce")})
            );
        }
    }

    #[test]
    fn what_nothing_can_be_made_of_is_refused() {
        let creds_without_seed = creds("\n").replace(SEED, "");
        for credential in [
            Credential::Nkey("SU".into()),
            Credential::Creds(String::new()),
            Credential::Creds(creds_without_seed),
            Credential::Creds(creds("\n").replace("SUAC", "SUAD")),
        ] {
            assert!(credential.prove("nonce").is_err());
        }
    }

    #[tokio::test]
    async fn the_source_is_asked_each_time() {
        let count = std::sync::atomic::AtomicU64::new(0);
        let credentials = Credentials::from_source(move || {
            let next = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Credential::Token(next.to_string()))
        });

        for expected in ["0", "1"] {
            let read = credentials.read().await.expect("a credential");
            assert!(read == Credential::Token(expected.into()));
        }
    }
}
