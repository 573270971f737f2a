//! The auth service's answer: a token introspection (RFC 7662) signed as a JWT (RFC 9701).

use super::Principal;
use super::claims::{Claims, Demands, JwtError};
use super::keys::KeySet;
use crate::seal::{UserId, sha256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const TYP: &str = "token-introspection+jwt";

/// What a verdict must satisfy, so that it is trusted.
pub(super) struct Terms {
    pub issuer: String,
    /// The issuers of tokens that a verdict may name, in addition to `issuer`.
    pub token_issuers: Vec<String>,
    pub audience: String,
    pub max_age_s: u64,
    pub leeway_s: u64,
}

/// A verdict about a valid token.
#[derive(Debug)]
pub(super) struct Verdict {
    pub principal: Principal,
    /// The time of the signature, in whole seconds since the Unix epoch, rounded down.
    pub issued_at: u64,
}

/// Why a verdict does not authenticate the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VerdictError {
    /// The verdict is signed, and the token is not valid.
    Inactive,
    /// The verdict cannot be trusted: it is unsigned, stale, for another audience, or about another
    /// token.
    Unbelievable(JwtError),
}

impl From<JwtError> for VerdictError {
    fn from(error: JwtError) -> Self {
        Self::Unbelievable(error)
    }
}

/// Checks and reads a verdict about `token`; `now` is in seconds since the Unix epoch.
///
/// The verdict's `iss` and the `sub` within the introspection name the owner. An `iss` within the
/// introspection is the issuer of the token. It only has to be an expected one, and is no part of
/// the owner's name. So an owner stays the same when an auth service begins to send it, and
/// revocations name the same `iss` and `sub`.
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
    let claims = keys.verify(answer, &demands, now)?;

    let issuer = claims.require_text("iss")?;
    let iat = claims.require_date("iat")?;
    let issued_at = iat.whole_seconds();
    let is_stale = issued_at.saturating_add(terms.max_age_s) < now;
    if is_stale || iat.is_future(now, terms.leeway_s) {
        return Err(claims.wrong("iat").into());
    }
    // A verdict about one token must not serve another.
    let hash = URL_SAFE_NO_PAD.encode(sha256(token.as_bytes()));
    if claims.require_text("token_sha256")? != hash {
        return Err(claims.wrong("token_sha256").into());
    }

    let principal = read_principal(&claims, issuer, terms, now)?;
    Ok(Verdict {
        principal,
        issued_at,
    })
}

/// Returns the caller that the token identifies.
fn read_principal(
    claims: &Claims,
    issuer: &str,
    terms: &Terms,
    now: u64,
) -> Result<Principal, VerdictError> {
    let introspection = claims.require_object("token_introspection", "token_introspection.")?;
    if !introspection.require_bool("active")? {
        return Err(VerdictError::Inactive);
    }
    if let Some(token_issuer) = introspection.text("iss")?
        && token_issuer != terms.issuer
        && !terms.token_issuers.iter().any(|one| one == token_issuer)
    {
        return Err(introspection.wrong("iss").into());
    }

    // Rounded down, so that no fraction of a second keeps an expired token alive.
    let expires_at = introspection.date("exp")?.map(|exp| exp.whole_seconds());
    if expires_at.is_some_and(|exp| exp <= now) {
        return Err(VerdictError::Inactive);
    }

    let subject = introspection.require_text("sub")?;
    if subject.is_empty() {
        return Err(introspection.wrong("sub").into());
    }

    Ok(Principal::new(
        UserId::new(issuer, subject),
        introspection.text("scope")?.unwrap_or_default(),
        expires_at,
        introspection.text("sid")?.map(str::to_owned),
    ))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
