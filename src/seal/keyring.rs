//! The two long-lived secrets of the installation, and the keys derived from them.

use super::digest::{Digest, SetCheck};
use super::{Format, OwnerKey, UserId, derive, hmac_key, keyed_hash};
use crate::domain::Version;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fmt;
use zeroize::Zeroizing;

/// The keys derived from the identity key and the key-encryption key, one for each use.
///
/// With another identity key all owners have other names, so the bucket seems empty. With another
/// key-encryption key no data key can be unwrapped. So both are fixed for the life of a bucket, by
/// [`Fingerprints`].
#[derive(Clone)]
pub struct Keyring {
    owner: hmac::Key,
    digest: hmac::Key,
    set_check: hmac::Key,
    cursor: hmac::Key,
    pub(super) wrapping: Zeroizing<[u8; 32]>,
    fingerprints: Fingerprints,
}

/// The public fingerprints of the two keys: they show whether a key is the right one, and nothing
/// more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprints {
    /// The fingerprint of the identity key: 22 characters of base64url.
    pub identity: String,
    /// The fingerprint of the key-encryption key: 22 characters of base64url.
    pub encryption: String,
}

/// A key that cannot be used. The message names the setting, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys.{which} is not 32 bytes in base64")]
pub struct KeyringError {
    which: &'static str,
}

impl Keyring {
    /// Returns the keyring of two keys, each 32 bytes in standard base64 (RFC 4648 §4).
    pub fn from_base64(identity: &str, encryption: &str) -> Result<Self, KeyringError> {
        let identity = decode_key("identity", identity)?;
        let encryption = decode_key("encryption", encryption)?;
        let fingerprint = |key: &[u8], label: &str| {
            URL_SAFE_NO_PAD.encode(keyed_hash(
                &hmac_key(key, "fingerprint"),
                &[label.as_bytes()],
            ))
        };

        Ok(Self {
            owner: hmac_key(&identity, "owner"),
            digest: hmac_key(&identity, "digest"),
            set_check: hmac_key(&identity, "set-check"),
            cursor: hmac_key(&identity, "cursor"),
            wrapping: Zeroizing::new(derive(&encryption, "wrap")),
            fingerprints: Fingerprints {
                identity: fingerprint(&identity, "identity"),
                encryption: fingerprint(&encryption, "encryption"),
            },
        })
    }

    /// Returns whether the text is a key: 32 bytes in standard base64.
    pub fn is_key(text: &str) -> bool {
        decode_key("", text).is_ok()
    }

    /// The fingerprints. The bucket stores them too, so that a worker with another key refuses to
    /// start.
    pub fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// Returns the owner's name: a keyed hash of the identity's issuer and subject.
    pub fn owner(&self, user: &UserId) -> OwnerKey {
        OwnerKey::from_bytes(keyed_hash(
            &self.owner,
            &[user.issuer().as_bytes(), user.subject().as_bytes()],
        ))
    }

    /// Returns one record's contribution to the digest of its owner's set: a keyed 128-bit hash of
    /// owner, name and version.
    pub(super) fn digest_term(&self, owner: &OwnerKey, name: &str, version: u64) -> u128 {
        u128::from_be_bytes(keyed_hash(
            &self.digest,
            &[owner.as_bytes(), name.as_bytes(), &version.to_be_bytes()],
        ))
    }

    /// Returns what a record of that format has of the set that it is based on.
    pub(super) fn set_check(
        &self,
        format: Format,
        owner: &OwnerKey,
        prev: Version,
        digest: Digest,
    ) -> SetCheck {
        let digest = digest.to_bytes();
        SetCheck::from_bytes(match format {
            Format::One => digest,
            Format::Two => keyed_hash(
                &self.set_check,
                &[owner.as_bytes(), &prev.get().to_be_bytes(), &digest],
            ),
        })
    }

    /// Returns the MAC of a list cursor. It exposes a forged cursor, and a cursor of another owner
    /// or another filter.
    pub fn cursor_mac(&self, owner: &OwnerKey, filter: &[u8], place: &[u8]) -> [u8; 16] {
        keyed_hash(&self.cursor, &[owner.as_bytes(), filter, place])
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

        let too_short = Keyring::from_base64(&short, &good).expect_err("31 bytes");
        let not_base64 = Keyring::from_base64(&good, "no base64").expect_err("no base64");

        assert_eq!(
            too_short.to_string(),
            "keys.identity is not 32 bytes in base64"
        );
        assert_eq!(
            not_base64.to_string(),
            "keys.encryption is not 32 bytes in base64"
        );
    }

    #[test]
    fn each_key_has_a_fingerprint_of_its_own() {
        let keyring = |identity: u8, encryption: u8| {
            let identity = STANDARD.encode([identity; 32]);
            let encryption = STANDARD.encode([encryption; 32]);
            Keyring::from_base64(&identity, &encryption).expect("well formed")
        };
        let first = keyring(1, 1);
        let same = keyring(1, 1);
        let other_identity = keyring(2, 1);

        let first_print = first.fingerprints();
        let other_print = other_identity.fingerprints();

        assert_eq!(first_print, same.fingerprints());
        assert_ne!(first_print.identity, first_print.encryption);
        assert_ne!(first_print.identity, other_print.identity);
        assert_eq!(first_print.encryption, other_print.encryption);
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
            "each part is hashed with its length"
        );
    }

    #[test]
    fn a_cursor_is_bound_to_owner_filter_and_place() {
        let keys = test_keyring();
        let a = OwnerKey::from_bytes([1; 16]);
        let b = OwnerKey::from_bytes([2; 16]);

        let mac = keys.cursor_mac(&a, b"f", b"7");

        assert_eq!(mac, keys.cursor_mac(&a, b"f", b"7"));
        assert_ne!(mac, keys.cursor_mac(&b, b"f", b"7"));
        assert_ne!(mac, keys.cursor_mac(&a, b"g", b"7"));
        assert_ne!(mac, keys.cursor_mac(&a, b"f", b"8"));
    }

    #[test]
    fn an_item_has_another_name_for_another_owner() {
        let keys = test_keyring();
        let one = keys.new_owner_keys();
        let two = keys.new_owner_keys();

        assert_eq!(one.item("text", "x"), one.item("text", "x"));
        assert_ne!(one.item("text", "x"), two.item("text", "x"));
        assert_ne!(one.item("text", "x"), one.item("otp", "x"));
    }
}
