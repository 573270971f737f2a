//! The settings that a development platform passes to `serve`, `init` and `maintain`.

use super::auth_service::VERIFY_SUBJECT;
use super::secrets::{Secrets, inbox_prefix};
use super::tokens::{AUDIENCE, ISSUER};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// What distinguishes the settings of one process from those of another.
pub(super) struct SettingsFor<'a> {
    pub shard: &'a str,
    /// The NATS user of the connection to the bucket: `worker`, `init` or `maintain`.
    pub user: &'a str,
    /// The worker's id in discovery; empty: each start makes a new one.
    pub worker_id: &'a str,
    /// The file that the worker writes when it is ready; empty: none.
    pub ready_file: &'a Path,
    pub nats_url: &'a str,
    /// The file of the authority that signed the NATS servers' certificates; empty: no TLS.
    pub ca_file: &'a Path,
    /// The JetStream domain of the bucket; empty: the server's own.
    pub domain: &'a str,
    pub postgres_url: &'a str,
    /// The subject of the reference service; empty: none runs.
    pub reference_subject: &'a str,
}

impl SettingsFor<'_> {
    /// Returns the settings as TOML.
    pub(super) fn to_toml(&self, secrets: &Secrets) -> anyhow::Result<String> {
        let inbox = inbox_prefix(self.user);
        let ready_file = self.ready_file.display().to_string();
        let verdict_keys = secrets.verdict_jwks()?;
        let token_keys = secrets.token_jwks()?;

        // Only a worker uses the first two.
        let front = [("user", "front"), ("password", secrets.nats("front"))];
        let auth = [("user", "auth"), ("password", secrets.nats("auth"))];
        let truth = [
            ("user", self.user),
            ("password", secrets.nats(self.user)),
            ("inbox_prefix", &inbox),
        ];

        let ca_file = self.ca_file.display().to_string();
        let sections: [(&str, &[(&str, &str)]); 12] = [
            ("nats", &[("url", self.nats_url)]),
            ("nats.tls", &[("ca_file", &ca_file)]),
            ("nats.front", &front),
            ("nats.auth", &auth),
            ("nats.truth", &truth),
            (
                "worker",
                &[("id", self.worker_id), ("ready_file", &ready_file)],
            ),
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
            ("reference", &[("subject", self.reference_subject)]),
        ];

        let mut toml = String::new();
        for (section, fields) in sections {
            writeln!(toml, "[{section}]")?;
            for (field, value) in fields {
                // A JSON string is a valid TOML basic string.
                writeln!(toml, "{field} = {}", Value::from(*value))?;
            }
        }

        // One person at a keyboard tries everything out as fast as it goes.
        toml.push_str("[limits]\nrate_per_s = 0\n");
        Ok(toml)
    }
}
