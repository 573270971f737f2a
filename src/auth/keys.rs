//! The public keys of the auth service, and the check of signatures by them.

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::de::DeserializeOwned;
use std::str::FromStr as _;

/// Keys (a JWK set, RFC 7517), each with the algorithm that the settings allow for it.
///
/// The algorithm in a token's header counts only if its key and the settings agree with it; `none`
/// is never allowed.
pub(super) struct KeySet {
    keys: Vec<(Option<String>, Algorithm, DecodingKey)>,
}

/// A key set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The text is not a JWK set.
    #[error("auth.{0} is not a JWK set (RFC 7517)")]
    NoSet(&'static str),
    /// No key of the set has an allowed algorithm.
    #[error("auth.{0} holds no key for any of auth.algorithms")]
    NoKey(&'static str),
    /// This service does not support the algorithm.
    #[error("auth.algorithms: {0} is not one of EdDSA, ES256, RS256")]
    Algorithm(String),
}

/// What a token must satisfy in addition to its signature.
pub(super) struct Demands<'a> {
    pub issuer: Option<&'a str>,
    pub audience: Option<&'a str>,
    pub typ: Option<&'a str>,
    /// Whether the token must have an `exp` in the future.
    pub expires: bool,
    pub leeway_s: u64,
}

impl KeySet {
    /// Parses the text of a JWK set, given the names of the allowed algorithms. `setting` is the
    /// field of the settings that errors name.
    pub(super) fn parse(
        setting: &'static str,
        text: &str,
        algorithms: &[String],
    ) -> Result<Self, KeySetError> {
        let allowed = algorithms
            .iter()
            .map(|name| algorithm(name))
            .collect::<Result<Vec<_>, _>>()?;

        let set: JwkSet = serde_json::from_str(text).map_err(|_| KeySetError::NoSet(setting))?;
        let keys: Vec<_> = set
            .keys
            .iter()
            .filter_map(|jwk| usable_key(jwk, &allowed))
            .collect();

        if keys.is_empty() {
            Err(KeySetError::NoKey(setting))
        } else {
            Ok(Self { keys })
        }
    }

    /// Returns the claims of a token that one of these keys signed and that satisfies the demands,
    /// `None` for any other token.
    pub(super) fn verify<T: DeserializeOwned>(
        &self,
        token: &str,
        demands: &Demands<'_>,
    ) -> Option<T> {
        let header = decode_header(token).ok()?;
        if demands
            .typ
            .is_some_and(|typ| header.typ.as_deref() != Some(typ))
            || header.crit.is_some()
        {
            return None;
        }

        let fits = |(kid, algorithm, _): &&(Option<String>, Algorithm, DecodingKey)| {
            *algorithm == header.alg
                && (header.kid.is_none() || kid.is_none() || *kid == header.kid)
        };

        self.keys
            .iter()
            .filter(fits)
            .find_map(|(_, algorithm, key)| {
                decode::<T>(token, key, &validation(*algorithm, demands))
                    .ok()
                    .map(|data| data.claims)
            })
    }
}

fn validation(algorithm: Algorithm, demands: &Demands<'_>) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = demands.leeway_s;
    validation.validate_nbf = true;
    validation.validate_exp = demands.expires;

    let mut required = Vec::new();
    if demands.expires {
        required.push("exp");
    }
    match demands.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        None => validation.validate_aud = false,
    }
    if let Some(issuer) = demands.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }

    validation.set_required_spec_claims(&required);
    validation
}

fn algorithm(name: &str) -> Result<Algorithm, KeySetError> {
    match Algorithm::from_str(name) {
        Ok(algorithm @ (Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256)) => Ok(algorithm),
        _ => Err(KeySetError::Algorithm(name.to_owned())),
    }
}

/// Returns a key with its id and its one algorithm: the algorithm that the key names, or else the
/// first allowed one of its family. `None` if the key has no allowed algorithm.
fn usable_key(
    jwk: &Jwk,
    allowed: &[Algorithm],
) -> Option<(Option<String>, Algorithm, DecodingKey)> {
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let named = match jwk.common.key_algorithm {
        Some(named) => Some(Algorithm::from_str(&named.to_string()).ok()?),
        None => None,
    };

    let algorithm = allowed.iter().copied().find(|algorithm| {
        algorithm.family() == key.family() && named.is_none_or(|named| named == *algorithm)
    })?;

    Some((jwk.common.key_id.clone(), algorithm, key))
}
