//! The public keys of the auth service, and the verification of signatures with them.

use super::claims::{Claims, Demands, JwtError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::io;

/// The length of an Ed25519 public key, in bytes.
const ED25519_BYTES: usize = 32;

/// Keys (a JWK set, RFC 7517), each with the algorithm that the settings allow for it.
///
/// The algorithm in a token's header counts only if its key and the settings agree with it; `none`
/// is never allowed.
pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    jwk: Jwk,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// A key of a set, with the members that matter here.
#[derive(PartialEq, Eq, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The header of a JWT, with the fields that matter here.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The file cannot be read.
    #[error("auth.{0}: the file cannot be read: {1}")]
    Unreadable(&'static str, #[source] io::Error),
    /// The text is not a JWK set.
    #[error("auth.{0} is not a JWK set (RFC 7517)")]
    NoSet(&'static str),
    /// No key of the set has an allowed algorithm.
    #[error("auth.{0} holds no key for any of auth.algorithms")]
    NoKey(&'static str),
    /// This service does not support the algorithm.
    #[error("auth.algorithms: {0} is not one of EdDSA, Ed25519, ES256, RS256")]
    Algorithm(String),
}

/// Reads a field of any value, `null` included. Returns `true`, because the field is present.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer)?;

    Ok(true)
}

impl KeySet {
    /// Parses the text of a JWK set, given the names of the allowed algorithms. `setting` is the
    /// field of the settings that errors name.
    ///
    /// Keys for other purposes, of other types or for other algorithms are skipped.
    pub(super) fn parse(
        setting: &'static str,
        text: &str,
        algorithms: &[String],
    ) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct JwkSet {
            keys: Vec<Value>,
        }

        let allowed = algorithms
            .iter()
            .map(|name| algorithm(name).ok_or_else(|| KeySetError::Algorithm(name.clone())))
            .collect::<Result<Vec<_>, _>>()?;

        let set: JwkSet = serde_json::from_str(text).map_err(|_| KeySetError::NoSet(setting))?;
        let keys: Vec<Key> = set
            .keys
            .into_iter()
            .filter_map(|key| Key::usable(serde_json::from_value(key).ok()?, &allowed))
            .collect();

        if keys.is_empty() {
            Err(KeySetError::NoKey(setting))
        } else {
            Ok(Self { keys })
        }
    }

    /// Returns the number of usable keys.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether it holds each key of `other`.
    pub(super) fn holds_all_of(&self, other: &Self) -> bool {
        let holds = |jwk: &Jwk| self.keys.iter().any(|key| key.jwk == *jwk);
        other.keys.iter().all(|key| holds(&key.jwk))
    }

    /// Returns the claims of a token that one of these keys signed and that satisfies the demands;
    /// `now` is in seconds since the Unix epoch.
    pub(super) fn verify(
        &self,
        token: &str,
        demands: &Demands<'_>,
        now: u64,
    ) -> Result<Claims, JwtError> {
        let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(JwtError::Malformed)?;
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| JwtError::Malformed)?;
        let payload = decode(payload)?;

        if demands.typ.is_some() && header.typ.as_deref() != demands.typ {
            return Err(JwtError::Header("typ"));
        }
        if header.crit {
            return Err(JwtError::Header("crit"));
        }
        let named = algorithm(&header.alg).ok_or(JwtError::Header("alg"))?;

        let has_signed = |key: &Key| {
            crypto::verify(signature, message.as_bytes(), &key.decoding, key.algorithm)
                .unwrap_or(false)
        };
        let is_signed = self
            .keys
            .iter()
            .filter(|key| key.fits(named, header.kid.as_deref()))
            .any(has_signed);
        if !is_signed {
            return Err(JwtError::Signature);
        }

        let claims = Claims::parse(&payload)?;
        claims.check(demands, now)?;

        Ok(claims)
    }
}

impl Key {
    /// Returns a key with its one algorithm: the algorithm that the key names, or else the first
    /// allowed one of its type. Returns `None` if the key is for another purpose or for an
    /// algorithm that is not allowed.
    fn usable(jwk: Jwk, allowed: &[Algorithm]) -> Option<Self> {
        let is_for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !is_for_signatures {
            return None;
        }

        let decoding = jwk.decoding_key()?;
        let named = match &jwk.alg {
            Some(name) => Some(algorithm(name)?),
            None => None,
        };
        let algorithm = allowed.iter().copied().find(|algorithm| {
            algorithm.family() == decoding.family() && named.is_none_or(|named| named == *algorithm)
        })?;

        Some(Self {
            jwk,
            algorithm,
            decoding,
        })
    }

    /// Returns whether the header of a JWT can mean this key.
    fn fits(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        let own_kid = self.jwk.kid.as_deref();

        self.algorithm == algorithm && (kid.is_none() || own_kid.is_none() || own_kid == kid)
    }
}

impl Jwk {
    fn decoding_key(&self) -> Option<DecodingKey> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => {
                let x = decode(self.x.as_deref()?).ok()?;
                (x.len() == ED25519_BYTES).then(|| DecodingKey::from_ed_der(&x))
            }
            ("EC", Some("P-256")) => {
                DecodingKey::from_ec_components(self.x.as_deref()?, self.y.as_deref()?).ok()
            }
            ("RSA", _) => {
                DecodingKey::from_rsa_components(self.n.as_deref()?, self.e.as_deref()?).ok()
            }
            _ => None,
        }
    }
}

/// Returns the algorithm of that name, if this service supports it.
///
/// `Ed25519` (RFC 9864) is a newer name of `EdDSA` with a key of that curve, which is the only
/// supported curve.
fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "EdDSA" | "Ed25519" => Some(Algorithm::EdDSA),
        "ES256" => Some(Algorithm::ES256),
        "RS256" => Some(Algorithm::RS256),
        _ => None,
    }
}

/// Decodes a part of a JWT.
fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtError::Malformed)
}
