//! The secrets of a development platform, generated once: passwords, the installation's keys, and
//! the signing keys.

use super::certificates::ServerCertificates;
use crate::seal::random;
use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The NATS users of `nats/accounts.conf`, and the user of a cluster's routes.
pub const NATS_USERS: [&str; 18] = [
    "worker",
    "front",
    "auth",
    "init",
    "maintain",
    "backup",
    "restore",
    "feed",
    "operator",
    "auth_service",
    "reference_service",
    "gateway",
    "gateway2",
    "direct",
    "leaf",
    "leaf_service",
    "leaf_auth",
    "route",
];

/// The prefix of the inboxes that `nats/accounts.conf` grants to a user.
pub fn inbox_prefix(user: &str) -> String {
    match user {
        "worker" | "front" | "auth" | "init" | "maintain" | "backup" | "restore" | "feed" => {
            format!("_INBOX_{user}")
        }
        // A calling service in the workers' account: its name is a part of its inbox.
        "direct" => "_INBOX.direct".into(),
        _ => "_INBOX".into(),
    }
}

/// The secrets of one development platform.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Passwords, by the names of [`NATS_USERS`].
    nats: BTreeMap<String, String>,
    /// The password of Postgres's superuser.
    pub postgres: String,
    /// The identity key, base64.
    pub identity: String,
    /// The key-encryption key, base64.
    pub encryption: String,
    /// The auth service's key for verdicts: PKCS #8, base64.
    verdict_key: String,
    /// Its key for tokens: PKCS #8, base64.
    token_key: String,
    /// The certificates of the NATS servers.
    #[serde(default)]
    pub certificates: ServerCertificates,
}

impl Secrets {
    /// Generates new secrets, for servers on this machine.
    pub fn generate() -> anyhow::Result<Self> {
        Self::generate_for(&[])
    }

    /// Generates new secrets, for servers on hosts of those names.
    pub(super) fn generate_for(hosts: &[String]) -> anyhow::Result<Self> {
        Ok(Self {
            nats: NATS_USERS
                .iter()
                .map(|user| ((*user).to_owned(), password()))
                .collect(),
            postgres: password(),
            identity: STANDARD.encode(random::<32>()),
            encryption: STANDARD.encode(random::<32>()),
            verdict_key: signing_key()?,
            token_key: signing_key()?,
            certificates: ServerCertificates::generate(hosts)?,
        })
    }

    /// Reads the secrets from a file, and creates the file if it does not exist. What an
    /// earlier version did not have is added.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let mut secrets = if file.exists() {
            let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            serde_json::from_str(&text).with_context(|| {
                format!("{} cannot be read; --fresh starts over", file.display())
            })?
        } else {
            Self::generate()?
        };

        let users = secrets.nats.len();
        for user in NATS_USERS {
            secrets.nats.entry(user.to_owned()).or_insert_with(password);
        }
        let has_certificates = !secrets.certificates.authority.is_empty();
        if !has_certificates {
            secrets.certificates = ServerCertificates::generate(&[])?;
        }
        if !file.exists() || secrets.nats.len() > users || !has_certificates {
            write_private(file, &serde_json::to_string_pretty(&secrets)?)?;
        }

        Ok(secrets)
    }

    /// The password of a NATS user; empty for a user that is not in [`NATS_USERS`].
    pub fn nats(&self, user: &str) -> &str {
        self.nats.get(user).map_or("", String::as_str)
    }

    /// The passwords, by the names of their variables in the files of `nats/`.
    pub fn nats_variables(&self) -> impl Iterator<Item = (String, &str)> {
        NATS_USERS
            .iter()
            .map(|user| (format!("{}_PASSWORD", user.to_uppercase()), self.nats(user)))
    }

    /// The key that signs verdicts: PKCS #8 (RFC 5958).
    pub fn verdict_key(&self) -> anyhow::Result<Vec<u8>> {
        Ok(STANDARD.decode(&self.verdict_key)?)
    }

    /// The key that signs tokens: PKCS #8 (RFC 5958).
    pub fn token_key(&self) -> anyhow::Result<Vec<u8>> {
        Ok(STANDARD.decode(&self.token_key)?)
    }

    /// The public key of verdicts, as a JWK set.
    pub fn verdict_jwks(&self) -> anyhow::Result<String> {
        Ok(json!({"keys": [self.verdict_jwk()?]}).to_string())
    }

    /// The public key of verdicts, as a JWK.
    pub fn verdict_jwk(&self) -> anyhow::Result<Value> {
        jwk(&self.verdict_kid()?, &self.verdict_key()?)
    }

    /// The id of the key of verdicts. Each key has another.
    pub fn verdict_kid(&self) -> anyhow::Result<String> {
        let public = public_key(&self.verdict_key()?)?;
        Ok(format!("verdict-{}", &public[..8]))
    }

    /// The public key of tokens, as a JWK set.
    pub fn token_jwks(&self) -> anyhow::Result<String> {
        Ok(json!({"keys": [jwk("token", &self.token_key()?)?]}).to_string())
    }

    /// Returns the same secrets with another key of verdicts.
    pub fn with_new_verdict_key(&self) -> anyhow::Result<Self> {
        Ok(Self {
            verdict_key: signing_key()?,
            ..self.clone()
        })
    }
}

/// Writes a file that only this user can read. No reader sees an incomplete file.
pub fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let unfinished = file.with_extension("unfinished");
    let mut out = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .with_context(|| unfinished.display().to_string())?;
    out.write_all(text.as_bytes())?;
    fs::rename(&unfinished, file).with_context(|| file.display().to_string())?;

    Ok(())
}

/// Returns a random password. It begins with a letter because the NATS server parses the text of a
/// variable like any value of its configuration.
fn password() -> String {
    let hex: String = random::<16>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("p{hex}")
}

fn signing_key() -> anyhow::Result<String> {
    let key = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("cannot generate a signing key"))?;

    Ok(STANDARD.encode(key.as_ref()))
}

/// Returns the public key of an Ed25519 key, in base64url.
fn public_key(pkcs8: &[u8]) -> anyhow::Result<String> {
    let pair =
        Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| anyhow::anyhow!("not a signing key"))?;

    Ok(URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()))
}

/// Returns the JWK (RFC 7517) of an Ed25519 key (RFC 8037).
fn jwk(kid: &str, pkcs8: &[u8]) -> anyhow::Result<Value> {
    let x = public_key(pkcs8)?;
    let key =
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x});

    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_generated_once_and_then_read_from_the_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secrets.json");

        let created = Secrets::load(&file).expect("created");
        let loaded = Secrets::load(&file).expect("loaded");

        assert_eq!(created.nats("gateway"), loaded.nats("gateway"));
        assert_eq!(created.nats("nobody"), "");
        assert_eq!(
            created.verdict_jwks().expect("public"),
            loaded.verdict_jwks().expect("public")
        );
        assert!(
            created
                .nats_variables()
                .all(|(name, value)| name.ends_with("_PASSWORD") && value.starts_with('p'))
        );
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_user_that_an_older_file_lacks_gets_a_password() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secrets.json");
        let mut older = Secrets::generate().expect("secrets");
        older.nats.remove("gateway2");
        write_private(&file, &serde_json::to_string(&older).expect("text")).expect("written");

        let loaded = Secrets::load(&file).expect("loaded");

        assert_eq!(loaded.nats("gateway"), older.nats("gateway"));
        assert!(
            !loaded.nats("gateway2").is_empty(),
            "no user has an empty password"
        );
    }
}
