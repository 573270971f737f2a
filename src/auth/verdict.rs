//! The auth service's answer: a token introspection (RFC 7662) signed as a JWT (RFC 9701).

use super::Principal;
use super::keys::{Demands, KeySet};
use crate::seal::{UserId, sha256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

const TYP: &str = "token-introspection+jwt";

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: u64,
    token_introspection: Introspection,
    token_sha256: String,
}

#[derive(Deserialize)]
struct Introspection {
    active: bool,
    sub: Option<String>,
    scope: Option<String>,
    exp: Option<u64>,
    sid: Option<String>,
}

/// What a verdict must satisfy before it is trusted.
pub(super) struct Terms {
    pub issuer: String,
    pub audience: String,
    pub max_age_s: u64,
    pub leeway_s: u64,
}

/// A verdict about a valid token.
#[derive(Debug)]
pub(super) struct Verdict {
    pub principal: Principal,
    /// The time of the signature, in seconds since the Unix epoch.
    pub issued_at: u64,
}

/// Why a verdict does not authenticate the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VerdictError {
    /// The verdict is signed, and the token is not valid.
    Inactive,
    /// The verdict cannot be trusted: it is unsigned, stale, for another audience, or about another
    /// token.
    Unbelievable,
}

/// Checks and reads a verdict about `token`; `now` is in seconds since the Unix epoch.
pub(super) fn read(
    keys: &KeySet,
    terms: &Terms,
    answer: &str,
    token: &str,
    now: u64,
) -> Result<Verdict, VerdictError> {
    let demands = Demands {
        issuer: Some(&terms.issuer),
        audience: Some(&terms.audience),
        typ: Some(TYP),
        expires: false,
        leeway_s: terms.leeway_s,
    };
    let claims: Claims = keys
        .verify(answer, &demands)
        .ok_or(VerdictError::Unbelievable)?;

    let stale = claims.iat.saturating_add(terms.max_age_s) < now
        || claims.iat > now.saturating_add(terms.leeway_s);
    // A verdict about one token must not serve another.
    if stale || claims.token_sha256 != URL_SAFE_NO_PAD.encode(sha256(token.as_bytes())) {
        return Err(VerdictError::Unbelievable);
    }

    let introspection = claims.token_introspection;
    if !introspection.active || introspection.exp.is_some_and(|exp| exp <= now) {
        return Err(VerdictError::Inactive);
    }

    let subject = introspection
        .sub
        .filter(|sub| !sub.is_empty())
        .ok_or(VerdictError::Unbelievable)?;
    let principal = Principal::new(
        UserId::new(claims.iss, subject),
        introspection.scope.as_deref().unwrap_or_default(),
        introspection.exp,
        introspection.sid,
    );

    Ok(Verdict {
        principal,
        issued_at: claims.iat,
    })
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
