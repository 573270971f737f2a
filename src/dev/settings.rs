//! The settings that a development platform gives to `serve` and `init`.

use super::auth_service::VERIFY_SUBJECT;
use super::secrets::Secrets;
use super::tokens::{AUDIENCE, ISSUER};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// Whose settings they are.
pub(super) struct SettingsFor<'a> {
    pub shard: &'a str,
    /// The NATS user: `worker` or `init`. Each has an inbox of its own name.
    pub user: &'a str,
    /// What the worker writes when it is ready; empty: nothing.
    pub ready_file: &'a Path,
    pub nats_url: &'a str,
    /// The JetStream domain of the bucket; empty: the server's own.
    pub domain: &'a str,
    pub postgres_url: &'a str,
}

impl SettingsFor<'_> {
    /// As TOML.
    pub(super) fn to_toml(&self, secrets: &Secrets) -> anyhow::Result<String> {
        let (inbox, ready_file) = (
            format!("_INBOX_{}", self.user),
            self.ready_file.display().to_string(),
        );
        let (verdict_keys, token_keys) = (secrets.verdict_jwks()?, secrets.token_jwks()?);
        let sections: [(&str, &[(&str, &str)]); 7] = [
            (
                "nats",
                &[
                    ("url", self.nats_url),
                    ("user", self.user),
                    ("password", secrets.nats(self.user)),
                    ("inbox_prefix", &inbox),
                ],
            ),
            ("worker", &[("ready_file", &ready_file)]),
            ("shard", &[("id", self.shard)]),
            ("truth", &[("domain", self.domain)]),
            ("postgres", &[("url", self.postgres_url)]),
            (
                "keys",
                &[
                    ("identity", &secrets.identity),
                    ("encryption", &secrets.encryption),
                ],
            ),
            (
                "auth",
                &[
                    ("verify_subject", VERIFY_SUBJECT),
                    ("issuer", ISSUER),
                    ("audience", AUDIENCE),
                    ("verdict_keys", &verdict_keys),
                    ("token_keys", &token_keys),
                ],
            ),
        ];
        let mut toml = String::new();
        for (section, fields) in sections {
            writeln!(toml, "[{section}]")?;
            for (field, value) in fields {
                // A TOML basic string is written as a JSON one.
                writeln!(toml, "{field} = {}", Value::from(*value))?;
            }
        }
        Ok(toml)
    }
}
