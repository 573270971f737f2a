//! A one-time-password secret, as an authenticator app keeps it.

mod base32;
mod code;
mod uri;

use super::{Invalid, opaque_debug};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

/// The field that a refusal names.
const FIELD: &str = "uri";

/// The greatest counter: the greatest whole number that every JSON reader keeps exactly.
pub const COUNTER_MAX: u64 = (1 << 53) - 1;

/// The longest period, in seconds: a day.
const PERIOD_MAX_S: u64 = 86_400;
/// The period of a URI that names none, in seconds.
const PERIOD_DEFAULT_S: u64 = 30;
/// The longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 128;
/// The longest label, `issuer:account` or one of the two, in bytes.
const LABEL_BYTES_MAX: usize = 256;

/// The hash function of the MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// SHA-1, which nearly all issuers use.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How the codes follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moving {
    /// By time (RFC 6238): the length of a step, in seconds.
    Totp {
        /// The length of a step, in seconds.
        period_s: u64,
    },
    /// By use (RFC 4226).
    Hotp {
        /// The counter that is used next.
        counter: u64,
    },
    /// By time, with five characters of Steam's own alphabet.
    Steam,
}

/// The shared secret. It is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Secret(Vec<u8>);

/// A one-time-password secret with everything that is needed to make its codes.
///
/// The stored form is not checked against the rules when it is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Otp {
    moving: Moving,
    secret: Secret,
    algorithm: Algorithm,
    digits: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

opaque_debug!(Secret, Otp);

impl Algorithm {
    /// Returns the name on the wire and in URIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// Parses a name in any case, with a dash or without one.
    fn parse(text: &str) -> Option<Self> {
        let name = text.replace('-', "").to_ascii_uppercase();

        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|one| one.as_str() == name)
    }
}

impl Moving {
    /// Returns the name of the type on the wire and in URIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Totp { .. } => "totp",
            Self::Hotp { .. } => "hotp",
            Self::Steam => "steam",
        }
    }
}

impl TryFrom<String> for Secret {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = Zeroizing::new(text);
        let bytes = base32::decode(&text, FIELD).map_err(|invalid| invalid.reason)?;

        Ok(Self(bytes.to_vec()))
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        base32::encode(&secret.0).to_string()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Otp {
    /// Parses an `otpauth://` URI, as authenticator apps exchange it (the "Key URI Format").
    ///
    /// # Errors
    /// [`Invalid`] for `uri`. The reason names the part that is wrong, and never repeats it.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        uri::parse(text)
    }

    /// Returns the URI. Parsed, it gives the same value.
    pub fn uri(&self) -> Zeroizing<String> {
        uri::write(self)
    }

    /// Returns the secret in Base32, in upper case and without padding.
    pub fn secret(&self) -> Zeroizing<String> {
        base32::encode(&self.secret.0)
    }

    /// How the codes follow one another.
    pub fn moving(&self) -> Moving {
        self.moving
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The length of a code, in characters.
    pub fn digits(&self) -> u32 {
        self.digits
    }

    /// Who issued the secret.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The account that it is for.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Returns the length of a step in seconds, for codes that follow the time.
    pub fn period_s(&self) -> Option<u64> {
        match self.moving {
            Moving::Totp { period_s } => Some(period_s),
            Moving::Steam => Some(PERIOD_DEFAULT_S),
            Moving::Hotp { .. } => None,
        }
    }

    /// Returns whether both have the same secret and type, so that used codes of one are used codes
    /// of the other.
    pub fn is_same_secret(&self, other: &Self) -> bool {
        self.secret == other.secret && self.moving.as_str() == other.moving.as_str()
    }

    /// Returns the same secret with that counter next, if it has a counter.
    #[must_use]
    pub fn with_counter(&self, counter: u64) -> Self {
        let moving = match self.moving {
            Moving::Hotp { .. } => Moving::Hotp { counter },
            other => other,
        };

        Self {
            moving,
            ..self.clone()
        }
    }

    /// Returns the code of that counter, or of that step since the Unix epoch.
    pub fn code(&self, counter: u64) -> String {
        match self.moving {
            Moving::Steam => code::steam(&self.secret.0, counter),
            _ => code::decimal(&self.secret.0, self.algorithm, counter, self.digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "otpauth://hotp/Bank:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&counter=3";

    #[test]
    fn the_stored_form_reads_back() {
        let otp = Otp::parse(URI).expect("valid");
        let mut bytes = Vec::new();
        ciborium::into_writer(&otp, &mut bytes).expect("encodable");

        let read: Otp = ciborium::from_reader(bytes.as_slice()).expect("written here");

        assert!(read == otp);
    }

    #[test]
    fn a_code_is_that_of_its_counter() {
        let otp = Otp::parse(URI).expect("valid");

        assert_eq!(otp.code(3), "969429");
        assert_eq!(otp.with_counter(9).moving(), Moving::Hotp { counter: 9 });
    }

    #[test]
    fn debug_shows_no_secret() {
        let otp = Otp::parse(URI).expect("valid");

        assert_eq!(format!("{otp:?}"), "Otp");
    }

    #[test]
    fn another_period_is_the_same_secret_and_another_type_is_not() {
        let otp = |rest: &str| {
            let uri = format!("otpauth://{rest}&secret=GEZDGNBVGY3TQOJQ");
            Otp::parse(&uri).expect("valid")
        };
        let totp = otp("totp/a?period=30");

        assert!(totp.is_same_secret(&otp("totp/b?period=60")));
        assert!(!totp.is_same_secret(&otp("hotp/a?counter=1")));
    }
}
