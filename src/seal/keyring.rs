//! The two long-lived secrets of the installation, and what is derived from them.

use super::{OwnerKey, UserId, derive, hmac_key, keyed_hash};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fmt;
use zeroize::Zeroizing;

/// The identity key and the key-encryption key, as the keys derived from them for each use.
///
/// Another identity key means other owner names: a second, empty universe. Another key-encryption key means that no
/// data key can be unwrapped. Both are therefore fixed for the life of a bucket, by [`Fingerprints`].
#[derive(Clone)]
pub struct Keyring {
    owner: hmac::Key,
    digest: hmac::Key,
    cursor: hmac::Key,
    pub(super) wrapping: Zeroizing<[u8; 32]>,
    fingerprints: Fingerprints,
}

/// What may be shown of the two keys: enough to tell another key from the right one, nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprints {
    /// Of the identity key: 22 characters of base64url.
    pub identity: String,
    /// Of the key-encryption key: 22 characters of base64url.
    pub encryption: String,
}

/// A key that cannot be used as given; says which, never what it holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys.{which} is not 32 bytes in base64")]
pub struct KeyringError {
    which: &'static str,
}

impl Keyring {
    /// Both keys are 32 bytes in standard base64 (RFC 4648 §4).
    pub fn from_base64(identity: &str, encryption: &str) -> Result<Self, KeyringError> {
        let identity = decode_key("identity", identity)?;
        let encryption = decode_key("encryption", encryption)?;
        let mark = |key: &[u8], label: &str| {
            URL_SAFE_NO_PAD.encode(keyed_hash(
                &hmac_key(key, "fingerprint"),
                &[label.as_bytes()],
            ))
        };
        Ok(Self {
            owner: hmac_key(&identity, "owner"),
            digest: hmac_key(&identity, "digest"),
            cursor: hmac_key(&identity, "cursor"),
            wrapping: Zeroizing::new(derive(&encryption, "wrap")),
            fingerprints: Fingerprints {
                identity: mark(&identity, "identity"),
                encryption: mark(&encryption, "encryption"),
            },
        })
    }

    /// The fingerprints that the bucket holds, so that a worker with another key refuses to start.
    pub fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// The owner's name: a keyed hash of who issued the identity and of whom it names.
    pub fn owner(&self, user: &UserId) -> OwnerKey {
        OwnerKey::from_bytes(keyed_hash(
            &self.owner,
            &[user.issuer().as_bytes(), user.subject().as_bytes()],
        ))
    }

    /// One record's contribution to the digest of its owner's set: 128 bits over owner, name and version.
    pub(super) fn digest_term(&self, owner: &OwnerKey, name: &str, version: u64) -> u128 {
        u128::from_be_bytes(keyed_hash(
            &self.digest,
            &[owner.as_bytes(), name.as_bytes(), &version.to_be_bytes()],
        ))
    }

    /// A seal on a list cursor, so that a made-up one, another owner's or another filter's is told apart.
    pub fn cursor_mac(&self, owner: &OwnerKey, filter: &[u8], place: u64) -> [u8; 16] {
        keyed_hash(
            &self.cursor,
            &[owner.as_bytes(), filter, &place.to_be_bytes()],
        )
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.fingerprints).finish()
    }
}

fn decode_key(which: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let bytes = Zeroizing::new(
        STANDARD
            .decode(text.trim())
            .map_err(|_| KeyringError { which })?,
    );
    if bytes.len() == 32 {
        Ok(bytes)
    } else {
        Err(KeyringError { which })
    }
}

#[cfg(test)]
pub(super) fn test_keyring() -> Keyring {
    Keyring::from_base64(&STANDARD.encode([1; 32]), &STANDARD.encode([2; 32]))
        .expect("the keys are well formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_form_is_refused_by_name() {
        let good = STANDARD.encode([1; 32]);
        let short = STANDARD.encode([1; 31]);
        let error = Keyring::from_base64(&short, &good).expect_err("31 bytes");
        assert_eq!(error.to_string(), "keys.identity is not 32 bytes in base64");
        let error = Keyring::from_base64(&good, "no base64").expect_err("no base64");
        assert_eq!(
            error.to_string(),
            "keys.encryption is not 32 bytes in base64"
        );
    }

    #[test]
    fn each_key_has_a_fingerprint_of_its_own() {
        let keys = |a: u8, b: u8| {
            Keyring::from_base64(&STANDARD.encode([a; 32]), &STANDARD.encode([b; 32]))
                .expect("well formed")
        };
        let first = keys(1, 1);
        assert_eq!(first.fingerprints(), keys(1, 1).fingerprints());
        assert_ne!(
            first.fingerprints().identity,
            first.fingerprints().encryption
        );
        assert_ne!(
            first.fingerprints().identity,
            keys(2, 1).fingerprints().identity
        );
        assert_eq!(
            first.fingerprints().encryption,
            keys(2, 1).fingerprints().encryption
        );
        assert!(!format!("{first:?}").contains("AQEB"), "no key is printed");
    }

    #[test]
    fn the_same_subject_of_another_issuer_is_another_owner() {
        let keys = test_keyring();
        let owner = |iss: &str, sub: &str| keys.owner(&UserId::new(iss, sub));
        assert_eq!(owner("a", "b"), owner("a", "b"));
        assert_ne!(owner("a", "b"), owner("b", "a"));
        assert_ne!(
            owner("ab", "c"),
            owner("a", "bc"),
            "the parts have their lengths"
        );
    }

    #[test]
    fn a_cursor_is_bound_to_owner_filter_and_place() {
        let keys = test_keyring();
        let (a, b) = (OwnerKey::from_bytes([1; 16]), OwnerKey::from_bytes([2; 16]));
        let mark = keys.cursor_mac(&a, b"f", 7);
        assert_eq!(mark, keys.cursor_mac(&a, b"f", 7));
        assert_ne!(mark, keys.cursor_mac(&b, b"f", 7));
        assert_ne!(mark, keys.cursor_mac(&a, b"g", 7));
        assert_ne!(mark, keys.cursor_mac(&a, b"f", 8));
    }

    #[test]
    fn an_item_has_another_name_for_another_owner() {
        let keys = test_keyring();
        let (one, two) = (keys.new_owner_keys(), keys.new_owner_keys());
        assert_eq!(one.item("text", "x"), one.item("text", "x"));
        assert_ne!(one.item("text", "x"), two.item("text", "x"));
        assert_ne!(one.item("text", "x"), one.item("otp", "x"));
    }
}
