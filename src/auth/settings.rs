//! The settings of authentication, and their defaults.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How callers are verified.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The subject on which workers ask the auth service.
    pub verify_subject: String,
    /// The subject on which the auth service publishes revocations.
    pub revoked_subject: String,
    /// The issuer of verdicts: their `iss`.
    pub issuer: String,
    /// The audience of verdicts: their `aud`.
    pub audience: String,
    /// The issuers of tokens that a verdict may name as `token_introspection.iss`, in addition to
    /// [`issuer`](Self::issuer). They do not change the owner, which is named by the verdict's `iss`
    /// and the `sub`.
    pub token_issuers: Vec<String>,
    /// The public keys of verdicts: the text of a JWK set (RFC 7517).
    pub verdict_keys: String,
    /// A file that holds `verdict_keys` in place of that setting. The worker reads it again when it
    /// changes.
    pub verdict_keys_file: PathBuf,
    /// The public keys of callers' tokens, as a JWK set, if the tokens are JWTs: a token that fails
    /// this check is refused without asking the auth service. If empty, the worker asks about every
    /// token.
    pub token_keys: String,
    /// A file that holds `token_keys` in place of that setting. The worker reads it again when it
    /// changes.
    pub token_keys_file: PathBuf,
    /// The allowed signature algorithms, out of EdDSA (also called Ed25519), ES256 and RS256.
    pub algorithms: Vec<String>,
    /// How long a verdict is cached, in milliseconds; 0 disables the cache.
    pub cache_ttl_ms: u64,
    /// The maximum number of cached verdicts.
    pub cache_entries: usize,
    /// The maximum age of a verdict when it arrives, in milliseconds.
    pub verdict_max_age_ms: u64,
    /// The maximum difference between clocks, in milliseconds.
    pub leeway_ms: u64,
    /// The time limit for an answer of the auth service, in milliseconds.
    pub timeout_ms: u64,
    /// The maximum number of questions to the auth service under way. A question continues after
    /// its caller has given up.
    pub in_flight: usize,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            verify_subject: "auth.v1.verify".into(),
            revoked_subject: "auth.v1.revoked".into(),
            issuer: String::new(),
            audience: "gofavorites".into(),
            token_issuers: Vec::new(),
            verdict_keys: String::new(),
            verdict_keys_file: PathBuf::new(),
            token_keys: String::new(),
            token_keys_file: PathBuf::new(),
            algorithms: vec!["EdDSA".into(), "ES256".into(), "RS256".into()],
            cache_ttl_ms: 30_000,
            cache_entries: 100_000,
            verdict_max_age_ms: 30_000,
            leeway_ms: 5_000,
            timeout_ms: 2_000,
            in_flight: 1_024,
        }
    }
}
