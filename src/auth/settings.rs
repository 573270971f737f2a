//! The settings of authentication, and their defaults.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How callers are verified.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The subject on which workers ask about tokens; `nats/accounts.conf` has it too.
    pub verify_subject: String,
    /// The subject on which the auth service publishes revocations; `nats/accounts.conf` has it
    /// too.
    pub revoked_subject: String,
    /// The `iss` of verdicts.
    pub issuer: String,
    /// The `aud` of verdicts.
    pub audience: String,
    /// The issuers, in addition to `auth.issuer`, that a verdict may name as the issuer of the
    /// token (`token_introspection.iss`). They do not name the owner: no two users of these issuers
    /// may have the same `sub`.
    pub token_issuers: Vec<String>,
    /// The public keys that verify verdicts: the text of a JWK set (RFC 7517). Give this or
    /// `auth.verdict_keys_file`.
    pub verdict_keys: String,
    /// A file that holds `auth.verdict_keys`. The worker reads it again every second.
    pub verdict_keys_file: PathBuf,
    /// The public keys that verify callers' tokens, as a JWK set, if the tokens are JWTs. The
    /// worker then refuses a token that is not signed by one of them, or has no `exp` in the
    /// future, without asking. Empty, and without `auth.token_keys_file`: it asks about every
    /// token.
    pub token_keys: String,
    /// A file that holds `auth.token_keys`, read again like `auth.verdict_keys_file`.
    pub token_keys_file: PathBuf,
    /// The allowed signature algorithms, out of these three. `Ed25519` (RFC 9864) is the same as
    /// `EdDSA`.
    pub algorithms: Vec<String>,
    /// How long a good verdict is cached, never beyond the token's end; 0 caches none. If a worker
    /// misses a revocation, it admits the token until then. A bad verdict is cached for as long,
    /// but at most one second.
    pub cache_ttl_ms: u64,
    /// The most good verdicts in the cache.
    #[cfg_attr(test, schemars(extend("x-unit" = "verdicts")))]
    pub cache_entries: usize,
    /// How old a verdict may be when it arrives, rounded up to seconds.
    pub verdict_max_age_ms: u64,
    /// How far clocks may differ, rounded up to seconds.
    pub leeway_ms: u64,
    /// How long to wait for the auth service.
    pub timeout_ms: u64,
    /// The most questions to the auth service under way. A caller who needs one more is answered
    /// `overloaded` at once. A question goes on after its caller has given up.
    #[cfg_attr(test, schemars(extend("x-unit" = "questions")))]
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
