//! An operator with one account and its users, as `nsc` would make them: NATS in operator mode.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator, its system account, and an account with JetStream.
pub struct Operator {
    key: KeyPair,
    system: KeyPair,
    account: KeyPair,
}

impl Operator {
    pub fn new() -> Self {
        Self {
            key: KeyPair::new_operator(),
            system: KeyPair::new_account(),
            account: KeyPair::new_account(),
        }
    }

    /// Returns the server's configuration: it trusts this operator and knows its accounts.
    pub fn configuration(&self) -> String {
        let operator = sign(
            &self.key,
            &self.key.public_key(),
            json!({"type": "operator"}),
        );
        let [system, account] = [&self.system, &self.account].map(|account| {
            let all = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1,
                "leaf": -1, "wildcards": true,
                "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
            });
            let none = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1,
                "leaf": -1, "wildcards": true,
            });
            let is_system = account.public_key() == self.system.public_key();
            let limits = if is_system { none } else { all };
            let name = account.public_key();
            let claims = json!({"type": "account", "limits": limits});

            format!("  {name}: {}", sign(&self.key, &name, claims))
        });

        format!(
            "operator: {operator}\nsystem_account: {}\nresolver: MEMORY\n\
             resolver_preload: {{\n{system}\n{account}\n}}\n",
            self.system.public_key()
        )
    }

    /// Returns the credentials file of a new user of the account, who may do anything there.
    pub fn credentials(&self) -> String {
        let user = KeyPair::new_user();
        let claims = json!({
            "type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
        });
        let jwt = sign(&self.account, &user.public_key(), claims);
        let seed = user.seed().expect("a seed");

        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// Returns a JWT about `subject`, with these claims of NATS, signed by `issuer`.
fn sign(issuer: &KeyPair, subject: &str, mut claims: Value) -> String {
    claims["version"] = 2.into();
    let claims = json!({
        "jti": subject, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject,
        "name": subject, "nats": claims,
    });

    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let signature = issuer.sign(signed.as_bytes()).expect("a private key");

    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
