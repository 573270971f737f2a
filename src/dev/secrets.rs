//! What a development platform keeps secret, made once: passwords, the installation's keys, the signing keys.

use crate::seal::random;
use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The NATS users of `nats/accounts.conf`, and the one of a cluster's routes.
pub const NATS_USERS: [&str; 10] = [
    "worker",
    "init",
    "maintain",
    "operator",
    "auth",
    "gateway",
    "gateway2",
    "leaf",
    "leaf_auth",
    "route",
];

/// The secrets of one development platform.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Passwords, by the names of [`NATS_USERS`].
    nats: BTreeMap<String, String>,
    /// Of Postgres's superuser.
    pub postgres: String,
    /// The identity key, base64.
    pub identity: String,
    /// The key-encryption key, base64.
    pub encryption: String,
    /// The auth service's key for verdicts: PKCS #8, base64.
    verdict_key: String,
    /// Its key for tokens: PKCS #8, base64.
    token_key: String,
}

impl Secrets {
    /// New ones.
    pub fn generate() -> anyhow::Result<Self> {
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
        })
    }

    /// Those of the file, made now if there is none. A user who is not in it yet gets a password.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let mut secrets = if file.exists() {
            serde_json::from_str(&fs::read_to_string(file)?).with_context(|| {
                format!("{} cannot be read; --fresh starts over", file.display())
            })?
        } else {
            Self::generate()?
        };
        let known = secrets.nats.len();
        for user in NATS_USERS {
            secrets.nats.entry(user.to_owned()).or_insert_with(password);
        }
        if !file.exists() || secrets.nats.len() > known {
            write_private(file, &serde_json::to_string_pretty(&secrets)?)?;
        }
        Ok(secrets)
    }

    /// The password of a NATS user; empty for one that is not of [`NATS_USERS`].
    pub fn nats(&self, user: &str) -> &str {
        self.nats.get(user).map_or("", String::as_str)
    }

    /// The passwords, under the names by which the files of `nats/` ask for them.
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
        jwks("verdict", &self.verdict_key()?)
    }

    /// The public key of tokens, as a JWK set.
    pub fn token_jwks(&self) -> anyhow::Result<String> {
        jwks("token", &self.token_key()?)
    }
}

/// A file that only we can read.
pub fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let unfinished = file.with_extension("unfinished");
    let mut out = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    out.write_all(text.as_bytes())?;
    fs::rename(&unfinished, file)?;
    Ok(())
}

/// Begins with a letter: the NATS server parses a variable's text like any value of its configuration.
fn password() -> String {
    let hex: String = random::<16>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("p{hex}")
}

fn signing_key() -> anyhow::Result<String> {
    let key = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("no signing key could be made"))?;
    Ok(STANDARD.encode(key.as_ref()))
}

/// RFC 7517, with an Ed25519 key as of RFC 8037.
fn jwks(kid: &str, pkcs8: &[u8]) -> anyhow::Result<String> {
    let pair =
        Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| anyhow::anyhow!("not a signing key"))?;
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let key =
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x});
    Ok(json!({ "keys": [key] }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once_and_found_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secrets.json");
        let made = Secrets::load(&file).expect("made");
        let found = Secrets::load(&file).expect("found");
        assert_eq!(made.nats("gateway"), found.nats("gateway"));
        assert_eq!(made.nats("nobody"), "");
        assert_eq!(
            made.verdict_jwks().expect("public"),
            found.verdict_jwks().expect("public")
        );
        assert_eq!(
            fs::metadata(&file).expect("there").permissions().mode() & 0o777,
            0o600
        );
        let mut older = made.clone();
        older.nats.remove("gateway2");
        write_private(&file, &serde_json::to_string(&older).expect("text")).expect("written");
        let found = Secrets::load(&file).expect("found");
        assert_eq!(found.nats("gateway"), made.nats("gateway"));
        assert!(
            !found.nats("gateway2").is_empty(),
            "no user has an empty password"
        );
        assert!(
            made.nats_variables()
                .all(|(name, value)| name.ends_with("_PASSWORD") && value.starts_with('p'))
        );
    }
}
