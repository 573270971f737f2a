//! A one-time-password secret, as an authenticator app keeps it.

mod base32;
mod check;
mod code;
mod uri;

pub use check::CodeCheck;

use super::{Invalid, opaque_debug};
use serde::{Deserialize, Serialize, Serializer};
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
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Secret(Vec<u8>);

/// What a reply may show of a one-time-password secret.
///
/// The stored form is not checked against the rules when it is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtpFacts {
    moving: Moving,
    algorithm: Algorithm,
    digits: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

/// What no reply shows unless it is asked to: the secret, and which codes were accepted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtpSecret {
    secret: Secret,
    /// The end of the last accepted step, in seconds since the Unix epoch; 0 if none was accepted.
    accepted_to_s: u64,
}

/// A one-time-password secret with everything that is needed to make its codes.
#[derive(Clone, PartialEq, Eq)]
pub struct Otp {
    facts: OtpFacts,
    hidden: OtpSecret,
}

/// What the deletion of a one-time-password secret keeps, so that no code is used again if the item
/// is restored. It does not contain the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtpRemains {
    /// The keyed hash of type and secret.
    fingerprint: [u8; 16],
    /// The counter that is used next; 0 for codes that follow the time.
    counter: u64,
    accepted_to_s: u64,
}

opaque_debug!(Secret, OtpFacts, OtpSecret, Otp, OtpRemains);

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

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base32::encode(&self.0))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl OtpFacts {
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

    /// Returns the counter that is used next, for codes that follow a counter.
    pub fn counter(&self) -> Option<u64> {
        match self.moving {
            Moving::Hotp { counter } => Some(counter),
            Moving::Totp { .. } | Moving::Steam => None,
        }
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

    /// Returns the bytes of a secret in Base32, as a URI has them.
    pub fn encode_secret(bytes: &[u8]) -> Zeroizing<String> {
        base32::encode(bytes)
    }

    /// Joins the two parts in which it is stored.
    pub fn new(facts: OtpFacts, hidden: OtpSecret) -> Self {
        Self { facts, hidden }
    }

    /// What a reply may show.
    pub fn facts(&self) -> &OtpFacts {
        &self.facts
    }

    /// What no reply shows unless it is asked to.
    pub fn hidden(&self) -> &OtpSecret {
        &self.hidden
    }

    /// Returns the URI. Parsed, it gives the same value.
    pub fn uri(&self) -> Zeroizing<String> {
        uri::write(self)
    }

    /// Returns the secret in Base32, in upper case and without padding.
    pub fn secret(&self) -> Zeroizing<String> {
        base32::encode(&self.hidden.secret.0)
    }

    /// Returns the code of that counter, or of that step since the Unix epoch.
    pub fn code(&self, counter: u64) -> Zeroizing<String> {
        let secret = &self.hidden.secret.0;
        let facts = &self.facts;

        Zeroizing::new(match facts.moving {
            Moving::Steam => code::steam(secret, counter),
            _ => code::decimal(secret, facts.algorithm, counter, facts.digits),
        })
    }

    /// Returns whether both have the same secret and type, so that used codes of one are used codes
    /// of the other.
    pub fn is_same_secret(&self, other: &Self) -> bool {
        self.hidden.secret == other.hidden.secret
            && self.facts.moving.as_str() == other.facts.moving.as_str()
    }

    /// Returns `new` in the place of this one. With the same secret it keeps what was used: the
    /// counter never goes back, and no accepted step is accepted again.
    #[must_use]
    pub fn replaced_by(&self, new: Self) -> Self {
        if self.is_same_secret(&new) {
            new.used(
                self.facts.counter().unwrap_or_default(),
                self.hidden.accepted_to_s,
            )
        } else {
            new
        }
    }

    /// Returns this one with issuer and account of `earlier`, if that has the same secret.
    #[must_use]
    pub fn relabelled(mut self, earlier: &Self) -> Self {
        if self.is_same_secret(earlier) {
            self.facts.issuer = earlier.facts.issuer.clone();
            self.facts.account = earlier.facts.account.clone();
        }
        self
    }

    /// Returns what a deletion keeps. `hash` is a keyed hash.
    pub fn remains(&self, hash: impl Fn(&str) -> [u8; 16]) -> OtpRemains {
        OtpRemains {
            fingerprint: self.fingerprint(hash),
            counter: self.facts.counter().unwrap_or_default(),
            accepted_to_s: self.hidden.accepted_to_s,
        }
    }

    /// Returns this one as it goes on after a deletion; `None` if the deleted one had another
    /// secret.
    pub fn resumed(self, remains: &OtpRemains, hash: impl Fn(&str) -> [u8; 16]) -> Option<Self> {
        if self.fingerprint(hash) == remains.fingerprint {
            Some(self.used(remains.counter, remains.accepted_to_s))
        } else {
            None
        }
    }

    fn fingerprint(&self, hash: impl Fn(&str) -> [u8; 16]) -> [u8; 16] {
        let secret = self.secret();
        let text = Zeroizing::new([self.facts.moving.as_str(), " ", &secret].concat());
        hash(&text)
    }

    /// Returns this one after at least that much use.
    fn used(mut self, counter: u64, accepted_to_s: u64) -> Self {
        if let Moving::Hotp { counter: own } = &mut self.facts.moving {
            *own = counter.max(*own);
        }
        self.hidden.accepted_to_s = accepted_to_s.max(self.hidden.accepted_to_s);
        self
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
        ciborium::into_writer(&(otp.facts(), otp.hidden()), &mut bytes).expect("encodable");

        let (facts, hidden) = ciborium::from_reader(bytes.as_slice()).expect("written here");

        assert!(Otp::new(facts, hidden) == otp);
    }

    #[test]
    fn a_code_is_that_of_its_counter() {
        let otp = Otp::parse(URI).expect("valid");

        assert_eq!(*otp.code(3), "969429");
        assert_eq!(otp.facts().counter(), Some(3));
    }

    #[test]
    fn debug_shows_no_secret() {
        let otp = Otp::parse(URI).expect("valid");

        assert_eq!(format!("{otp:?}"), "Otp");
    }

    #[test]
    fn the_same_secret_keeps_what_was_used() {
        let hotp = |counter| {
            let uri = format!("otpauth://hotp/a?secret=GEZDGNBVGY3TQOJQ&counter={counter}");
            Otp::parse(&uri).expect("valid")
        };
        let other = Otp::parse("otpauth://hotp/a?secret=MZXW6YTB").expect("valid");

        assert_eq!(hotp(5).replaced_by(hotp(3)).facts().counter(), Some(5));
        assert_eq!(hotp(5).replaced_by(hotp(8)).facts().counter(), Some(8));
        assert_eq!(hotp(5).replaced_by(other).facts().counter(), Some(0));
    }

    #[test]
    fn a_deletion_keeps_what_was_used_and_not_the_secret() {
        let hash = |text: &str| [text.len() as u8 + text.as_bytes()[0]; 16];
        let used = Otp::parse(URI).expect("valid").used(9, 0);
        let first = Otp::parse(URI).expect("valid");
        let other = Otp::parse("otpauth://hotp/a?secret=MZXW6YTB").expect("valid");

        let remains = used.remains(hash);

        let resumed = first.resumed(&remains, hash).expect("the same secret");
        assert_eq!(resumed.facts().counter(), Some(9));
        assert!(other.resumed(&remains, hash).is_none());
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
