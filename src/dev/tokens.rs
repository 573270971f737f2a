//! Access tokens of the stand-in auth service.

use super::secrets::Secrets;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// The issuer of development tokens and verdicts. A domain in `.invalid` never exists (RFC 2606).
pub const ISSUER: &str = "https://auth.dev.invalid";
/// The audience of development tokens and verdicts.
pub const AUDIENCE: &str = "gofavorites";
/// The longest time for which a token may be valid: ten years.
pub const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// All scopes of the service.
pub const ALL_SCOPES: &str = "favorites:read favorites:write favorites:secrets";

/// Returns an access token (a JWT, RFC 9068) for `subject` with `scope` that is valid for `ttl`.
pub fn token(
    secrets: &Secrets,
    subject: &str,
    scope: &str,
    ttl: Duration,
) -> anyhow::Result<String> {
    let now = unix_now();
    let header = Header {
        typ: Some("at+jwt".into()),
        kid: Some("token".into()),
        ..Header::new(Algorithm::EdDSA)
    };

    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "scope": scope, "client_id": "dev",
        "sid": Uuid::now_v7().to_string(), "jti": Uuid::now_v7().to_string(),
        "iat": now, "exp": now + ttl.as_secs(),
    });

    Ok(encode(
        &header,
        &claims,
        &EncodingKey::from_ed_der(&secrets.token_key()?),
    )?)
}

/// The current time, in seconds since the Unix epoch.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
