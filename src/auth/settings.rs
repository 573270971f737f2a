//! How callers are verified: what is set, and what holds unless it is.

use serde::{Deserialize, Serialize};

/// How callers are verified.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The subject on which the auth service is asked.
    pub verify_subject: String,
    /// The subject on which it tells what it takes back.
    pub revoked_subject: String,
    /// Who signs verdicts: their `iss`.
    pub issuer: String,
    /// For whom verdicts are: their `aud`.
    pub audience: String,
    /// The public keys of verdicts: the text of a JWK set (RFC 7517).
    pub verdict_keys: String,
    /// The public keys of callers' tokens, as a JWK set, where those are JWTs: a token that they do not fit is refused
    /// without asking. Empty: every token is asked about.
    pub token_keys: String,
    /// The allowed signature algorithms, of EdDSA, ES256 and RS256.
    pub algorithms: Vec<String>,
    /// How long a verdict is kept, in milliseconds; 0 keeps none.
    pub cache_ttl_ms: u64,
    /// How many verdicts are kept at most.
    pub cache_entries: usize,
    /// How old a verdict may be when it arrives, in milliseconds.
    pub verdict_max_age_ms: u64,
    /// How far clocks may differ, in milliseconds.
    pub leeway_ms: u64,
    /// How long to wait for the auth service, in milliseconds.
    pub timeout_ms: u64,
    /// How many questions to it may be under way: one goes on after its caller has given up.
    pub in_flight: usize,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            verify_subject: "auth.v1.verify".into(),
            revoked_subject: "auth.v1.revoked".into(),
            issuer: String::new(),
            audience: "gofavorites".into(),
            verdict_keys: String::new(),
            token_keys: String::new(),
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
