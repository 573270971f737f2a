//! One owner's keys: the data key that seals their records, and the wrapped form in which it is kept.

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

/// The keys of one owner, each drawn from their data key under a label of its own.
#[derive(Clone)]
pub struct OwnerKeys {
    secret: Zeroizing<[u8; 32]>,
    cipher: std::sync::Arc<LessSafeKey>,
    key_id: u32,
    pub(super) naming: hmac::Key,
    request_id: hmac::Key,
    request: hmac::Key,
}

impl Keyring {
    /// Fresh keys for an owner who has none yet.
    pub fn new_owner_keys(&self) -> OwnerKeys {
        OwnerKeys::from_secret(Zeroizing::new(random()))
    }
}

impl OwnerKeys {
    /// The item's name under this owner's key: a keyed hash of kind and id.
    pub fn item(&self, kind: &str, id: &str) -> ItemKey {
        ItemKey::from_bytes(keyed_hash(&self.naming, &[kind.as_bytes(), id.as_bytes()]))
    }

    pub(super) fn from_secret(secret: Zeroizing<[u8; 32]>) -> Self {
        let id = keyed_hash(&hmac_key(&*secret, "key-id"), &[]);
        Self {
            cipher: std::sync::Arc::new(cipher(&derive(&*secret, "record"))),
            key_id: u32::from_be_bytes([id[0], id[1], id[2], id[3]]),
            naming: hmac_key(&*secret, "item"),
            request_id: hmac_key(&*secret, "request-id"),
            request: hmac_key(&*secret, "request"),
            secret,
        }
    }

    /// What stands in an envelope for the caller's request id and for the request itself.
    pub fn request_hashes(&self, request_id: &str, canonical: &[u8]) -> (RequestHash, RequestHash) {
        (
            RequestHash::from_bytes(keyed_hash(&self.request_id, &[request_id.as_bytes()])),
            RequestHash::from_bytes(keyed_hash(&self.request, &[canonical])),
        )
    }

    /// Seals an item's record: envelope and ciphertext, ready for the bucket.
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

    /// Opens an item's record; fails when a bit of it, its key or its envelope is not as sealed.
    pub fn open(&self, owner: &OwnerKey, record: &Record) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if record.envelope.key_id != self.key_id || record.envelope.class != Class::Item {
            return Err(SealError::ForeignKey);
        }
        open_with(&self.cipher, owner, record)
    }

    /// A floor: says that the owner's deletions up to that version are forgotten.
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

    /// Fails when a floor is not as it was sealed.
    pub fn check_floor(&self, owner: &OwnerKey, record: &Record) -> Result<(), SealError> {
        if record.envelope.key_id != self.key_id || record.floor().is_none() {
            return Err(SealError::ForeignKey);
        }
        open_with(&self.cipher, owner, record).map(drop)
    }

    /// The owner's key record: data key and user id, the latter sealed with the former, wrapped by the
    /// key-encryption key.
    pub fn wrap(
        &self,
        keyring: &Keyring,
        owner: &OwnerKey,
        user: &UserId,
        links: &Links,
    ) -> Vec<u8> {
        let nonce: [u8; 12] = random();
        let mut sealed = [user.issuer().as_bytes(), b"\0", user.subject().as_bytes()].concat();
        seal_in_place(
            &cipher(&derive(&*self.secret, "user-id")),
            nonce,
            owner.as_bytes(),
            &mut sealed,
        );
        let plain = [&self.secret[..], &nonce, &sealed].concat();
        let envelope = links.envelope(Class::Key, wrapping_id(keyring));
        seal_with(
            &cipher(&keyring.wrapping),
            owner,
            RecordName::Key,
            &envelope,
            plain,
        )
    }

    /// The keys from the owner's key record.
    pub fn unwrap_record(
        keyring: &Keyring,
        owner: &OwnerKey,
        record: &Record,
    ) -> Result<Self, SealError> {
        if record.envelope.class != Class::Key || record.envelope.key_id != wrapping_id(keyring) {
            return Err(SealError::ForeignKey);
        }
        let plain = open_with(&cipher(&keyring.wrapping), owner, record)?;
        let secret = plain.first_chunk().ok_or(SealError::Malformed)?;
        Ok(Self::from_secret(Zeroizing::new(*secret)))
    }
}

impl fmt::Debug for OwnerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerKeys")
    }
}

fn wrapping_id(keyring: &Keyring) -> u32 {
    let id = keyed_hash(&hmac_key(&*keyring.wrapping, "key-id"), &[]);
    u32::from_be_bytes([id[0], id[1], id[2], id[3]])
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    #[expect(
        clippy::expect_used,
        reason = "an AES-256 key has 32 bytes, and this one has by its type"
    )]
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has 32 bytes"))
}

fn seal_in_place(cipher: &LessSafeKey, nonce: [u8; 12], aad: &[u8], plain: &mut Vec<u8>) {
    #[expect(clippy::expect_used, reason = "AES-GCM fails only above 64 GiB")]
    cipher
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), plain)
        .expect("the record is far below the cipher's bound");
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
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(record.envelope.nonce);
    let opened = cipher
        .open_in_place(
            nonce,
            Aad::from(aad(head, owner, record.name)),
            sealed.as_mut_slice(),
        )
        .map_err(|_| SealError::Tampered)?
        .len();
    sealed.truncate(opened);
    Ok(sealed)
}
