//! One owner's keys: the data key, the keys derived from it, and the wrapped form in which the
//! bucket stores it.

use super::envelope::{Class, Envelope};
use super::record::{Links, SealError, aad};
use super::{
    ItemKey, Keyring, OwnerKey, Record, RecordName, RequestHash, UserId, derive, hmac_key,
    keyed_hash, random,
};
use crate::domain::Version;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use std::fmt;
use zeroize::Zeroizing;

/// The length of the tag that sealing adds to a content, in bytes.
pub const TAG_BYTES: usize = 16;

/// The keys of one owner, each derived from the owner's data key under its own label.
#[derive(Clone)]
pub struct OwnerKeys {
    /// The data key.
    secret: Zeroizing<[u8; 32]>,
    cipher: std::sync::Arc<LessSafeKey>,
    key_id: u32,
    pub(super) naming: hmac::Key,
    request_id: hmac::Key,
    request: hmac::Key,
    secret_hash: hmac::Key,
}

impl Keyring {
    /// Returns new keys for an owner that has none yet.
    pub fn new_owner_keys(&self) -> OwnerKeys {
        OwnerKeys::from_secret(Zeroizing::new(random()))
    }
}

impl OwnerKeys {
    /// Returns the item's name under this owner's key: a keyed hash of kind and id.
    pub fn item(&self, kind: &str, id: &str) -> ItemKey {
        ItemKey::from_bytes(keyed_hash(&self.naming, &[kind.as_bytes(), id.as_bytes()]))
    }

    /// Returns the hash of an item's secret, keyed with a key of the owner. A deletion keeps it.
    pub fn secret_hash(&self, secret: &str) -> [u8; 16] {
        keyed_hash(&self.secret_hash, &[secret.as_bytes()])
    }

    pub(super) fn from_secret(secret: Zeroizing<[u8; 32]>) -> Self {
        let id = keyed_hash(&hmac_key(&*secret, "key-id"), &[]);

        Self {
            cipher: std::sync::Arc::new(cipher(&derive(&*secret, "record"))),
            key_id: u32::from_be_bytes([id[0], id[1], id[2], id[3]]),
            naming: hmac_key(&*secret, "item"),
            request_id: hmac_key(&*secret, "request-id"),
            request: hmac_key(&*secret, "request"),
            secret_hash: hmac_key(&*secret, "secret"),
            secret,
        }
    }

    /// Returns the hashes of the caller's request id and of the request itself, for the envelope.
    pub fn request_hashes(&self, request_id: &str, canonical: &[u8]) -> (RequestHash, RequestHash) {
        (
            RequestHash::from_bytes(keyed_hash(&self.request_id, &[request_id.as_bytes()])),
            RequestHash::from_bytes(keyed_hash(&self.request, &[canonical])),
        )
    }

    /// Seals an item's record. Returns its value for the bucket: envelope and ciphertext. The buffer
    /// of the content is encrypted in place if it has room for [`TAG_BYTES`] more.
    pub fn seal(
        &self,
        owner: &OwnerKey,
        name: RecordName,
        links: &Links,
        plain: Vec<u8>,
    ) -> Vec<u8> {
        let envelope = links.envelope(Class::Item, self.key_id);
        seal_with(&self.cipher, owner, name, &envelope, plain)
    }

    /// Opens an item's record and returns its content.
    ///
    /// # Errors
    ///
    /// Fails if the record is sealed with another key, or if any bit of its content, envelope or
    /// name differs from what was sealed.
    pub fn open(&self, owner: &OwnerKey, record: &Record) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if record.envelope.key_id != self.key_id || record.envelope.class != Class::Item {
            return Err(SealError::ForeignKey);
        }

        open_with(&self.cipher, owner, record)
    }

    /// Seals a floor: the owner's deletions up to that version are forgotten.
    pub fn seal_floor(&self, owner: &OwnerKey, links: &Links, floor: Version) -> Vec<u8> {
        let envelope = links.envelope(Class::Floor(floor), self.key_id);
        seal_with(
            &self.cipher,
            owner,
            RecordName::Floor,
            &envelope,
            Vec::new(),
        )
    }

    /// Seals the record that the made-up next release adds to each write. This release keeps and
    /// counts it, and never opens it.
    #[cfg(feature = "next")]
    pub fn seal_hint(&self, owner: &OwnerKey, name: RecordName, links: &Links) -> Vec<u8> {
        let class = Class::Unknown(crate::domain::next::RECORD_CLASS);
        let envelope = links.envelope(class, self.key_id);
        let plain = b"what only the next release can read".to_vec();

        seal_with(&self.cipher, owner, name, &envelope, plain)
    }

    /// Verifies the seal of a floor.
    ///
    /// # Errors
    ///
    /// Fails if the record is not a floor, is sealed with another key, or differs from what was
    /// sealed.
    pub fn check_floor(&self, owner: &OwnerKey, record: &Record) -> Result<(), SealError> {
        if record.envelope.key_id != self.key_id || record.floor().is_none() {
            return Err(SealError::ForeignKey);
        }

        open_with(&self.cipher, owner, record).map(drop)
    }

    /// Returns the value of the owner's key record: the data key and the user id, wrapped by the
    /// key-encryption key. The user id is also sealed with a key derived from the data key.
    pub fn wrap(
        &self,
        keyring: &Keyring,
        owner: &OwnerKey,
        user: &UserId,
        links: &Links,
    ) -> Vec<u8> {
        let nonce: [u8; 12] = random();
        let mut sealed_user_id =
            with_room_for_tag(&[user.issuer().as_bytes(), b"\0", user.subject().as_bytes()]);
        seal_in_place(
            &cipher(&derive(&*self.secret, "user-id")),
            nonce,
            owner.as_bytes(),
            &mut sealed_user_id,
        );

        let plain = with_room_for_tag(&[&self.secret[..], &nonce, &sealed_user_id]);
        let envelope = links.envelope(Class::Key, wrapping_id(keyring));
        seal_with(
            &cipher(&keyring.wrapping),
            owner,
            RecordName::Key,
            &envelope,
            plain,
        )
    }

    /// Unwraps the keys from the owner's key record.
    ///
    /// # Errors
    ///
    /// Fails if the record is not a key record of this owner, is wrapped by another key-encryption
    /// key, or differs from what was sealed.
    pub fn unwrap_record(
        keyring: &Keyring,
        owner: &OwnerKey,
        record: &Record,
    ) -> Result<Self, SealError> {
        let plain = unwrap(keyring, owner, record)?;
        let secret = plain.first_chunk().ok_or(SealError::Malformed)?;
        Ok(Self::from_secret(Zeroizing::new(*secret)))
    }

    /// Opens the user id in the owner's key record.
    ///
    /// # Errors
    ///
    /// As [`unwrap_record`](Self::unwrap_record).
    pub fn unwrap_user(
        keyring: &Keyring,
        owner: &OwnerKey,
        record: &Record,
    ) -> Result<UserId, SealError> {
        let plain = unwrap(keyring, owner, record)?;
        let (secret, rest) = plain.split_at_checked(32).ok_or(SealError::Malformed)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(SealError::Malformed)?;
        let secret = secret.first_chunk::<32>().ok_or(SealError::Malformed)?;

        let mut buffer = Zeroizing::new(sealed.to_vec());
        let opened = cipher(&derive(secret, "user-id"))
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(owner.as_bytes()),
                buffer.as_mut_slice(),
            )
            .map_err(|_| SealError::Tampered)?;
        let text = std::str::from_utf8(opened).map_err(|_| SealError::Malformed)?;
        let (issuer, subject) = text.split_once('\0').ok_or(SealError::Malformed)?;
        Ok(UserId::new(issuer, subject))
    }
}

impl fmt::Debug for OwnerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerKeys")
    }
}

/// Opens the owner's key record: the data key, a nonce, and the sealed user id.
fn unwrap(
    keyring: &Keyring,
    owner: &OwnerKey,
    record: &Record,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    if record.envelope.class != Class::Key || record.envelope.key_id != wrapping_id(keyring) {
        return Err(SealError::ForeignKey);
    }

    open_with(&cipher(&keyring.wrapping), owner, record)
}

/// The id of the key-encryption key.
fn wrapping_id(keyring: &Keyring) -> u32 {
    let id = keyed_hash(&hmac_key(&*keyring.wrapping, "key-id"), &[]);
    u32::from_be_bytes([id[0], id[1], id[2], id[3]])
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    #[expect(
        clippy::expect_used,
        reason = "an AES-256 key has 32 bytes, and so has this type"
    )]
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has 32 bytes"))
}

fn seal_in_place(cipher: &LessSafeKey, nonce: [u8; 12], aad: &[u8], plain: &mut Vec<u8>) {
    #[expect(clippy::expect_used, reason = "AES-GCM fails only above 64 GiB")]
    cipher
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), plain)
        .expect("the record is far below the cipher's bound");
}

/// Returns these bytes in a buffer that is encrypted in place, so that no copy of them is left
/// behind.
fn with_room_for_tag(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut buffer = Vec::with_capacity(length + TAG_BYTES);
    for part in parts {
        buffer.extend_from_slice(part);
    }

    buffer
}

fn seal_with(
    cipher: &LessSafeKey,
    owner: &OwnerKey,
    name: RecordName,
    envelope: &Envelope,
    mut plain: Vec<u8>,
) -> Vec<u8> {
    let head = envelope.encode();
    seal_in_place(cipher, envelope.nonce, &aad(&head, owner, name), &mut plain);

    [head, plain].concat()
}

fn open_with(
    cipher: &LessSafeKey,
    owner: &OwnerKey,
    record: &Record,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (head, sealed) = record
        .value
        .split_at_checked(record.envelope.class.head_bytes())
        .ok_or(SealError::Malformed)?;

    let mut buffer = Zeroizing::new(sealed.to_vec());
    let plain_bytes = cipher
        .open_in_place(
            Nonce::assume_unique_for_key(record.envelope.nonce),
            Aad::from(aad(head, owner, record.name)),
            buffer.as_mut_slice(),
        )
        .map_err(|_| SealError::Tampered)?
        .len();

    buffer.truncate(plain_bytes);
    Ok(buffer)
}
