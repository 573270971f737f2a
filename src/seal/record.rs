//! A record as the bucket holds it: name, version, time, clear envelope and sealed rest.

use super::envelope::{Class, Envelope};
use super::{OwnerKey, RecordName, RequestHash, random};
use crate::domain::{Timestamp, Version};
use crate::seal::digest::Digest;
use bytes::Bytes;
use std::fmt;

/// One record of an owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Which of the owner's records it is.
    pub name: RecordName,
    /// The bucket's sequence under which it was stored.
    pub version: Version,
    /// When the bucket stored it.
    pub at: Timestamp,
    /// Its clear part.
    pub envelope: Envelope,
    /// Envelope and ciphertext, as stored.
    pub value: Bytes,
}

impl Record {
    /// From what the bucket or the projection holds.
    pub fn parse(
        name: RecordName,
        version: Version,
        at: Timestamp,
        value: Bytes,
    ) -> Result<Self, SealError> {
        let envelope = Envelope::decode(&value).ok_or(SealError::Malformed)?;
        let fits = match name {
            RecordName::Key => envelope.class == Class::Key,
            RecordName::Floor => {
                matches!(envelope.class, Class::Floor(floor) if floor <= envelope.prev)
            }
            RecordName::Item(_) => envelope.class == Class::Item,
        };
        if !fits || envelope.prev >= version || envelope.item_prev > envelope.prev {
            return Err(SealError::Malformed);
        }
        Ok(Self {
            name,
            version,
            at,
            envelope,
            value,
        })
    }

    /// The version up to which it says that the owner's deletions are forgotten; `None` for what is no floor.
    pub fn floor(&self) -> Option<Version> {
        match self.envelope.class {
            Class::Floor(floor) => Some(floor),
            Class::Item | Class::Key => None,
        }
    }

    /// Whether it says that an item is deleted.
    pub fn is_deletion(&self) -> bool {
        self.envelope.class == Class::Item && self.envelope.deleted
    }

    /// Whether it is an item that lives.
    pub fn is_live_item(&self) -> bool {
        self.envelope.class == Class::Item && !self.envelope.deleted
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} at {})", self.name, self.version)
    }
}

/// What a new record says of the state that it was made upon.
#[derive(Clone, Debug)]
pub struct Links {
    /// The owner's version.
    pub prev: Version,
    /// This key's last version, none if it is the first.
    pub item_prev: Version,
    /// The digest of the owner's set.
    pub before: Digest,
    /// The caller's request, when it has an id.
    pub request: Option<(RequestHash, RequestHash)>,
    /// Whether the record deletes its item.
    pub deleted: bool,
}

impl Links {
    pub(super) fn envelope(&self, class: Class, key_id: u32) -> Envelope {
        Envelope {
            class,
            deleted: self.deleted,
            key_id,
            prev: self.prev,
            item_prev: self.item_prev,
            before: self.before,
            request: self.request,
            nonce: random(),
        }
    }
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not a record of a format that this version knows.
    #[error("not a record of a known format")]
    Malformed,
    /// Sealed with a key that is not at hand.
    #[error("sealed with another key")]
    ForeignKey,
    /// Changed after it was sealed, or moved from another key.
    #[error("altered, or moved from another key")]
    Tampered,
}

/// What the seal vouches for beside the content: the envelope, and the key under which the record is kept.
pub(super) fn aad(head: &[u8], owner: &OwnerKey, name: RecordName) -> Vec<u8> {
    [
        head,
        owner.to_string().as_bytes(),
        b".",
        name.to_string().as_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::super::keyring::test_keyring;
    use super::super::{ItemKey, OwnerKeys, UserId};
    use super::*;
    use proptest::prelude::*;

    const OWNER: OwnerKey = OwnerKey::from_bytes([7; 16]);
    const ITEM: RecordName = RecordName::Item(ItemKey::from_bytes([3; 16]));

    fn version(n: u64) -> Version {
        Version::new(n).expect("in range")
    }

    fn links(prev: u64) -> Links {
        Links {
            prev: version(prev),
            item_prev: Version::NONE,
            before: Digest::EMPTY,
            request: None,
            deleted: false,
        }
    }

    fn record(name: RecordName, value: Vec<u8>) -> Record {
        Record::parse(name, version(9), Timestamp::from_millis(0), value.into())
            .expect("well formed")
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(plain in any::<Vec<u8>>()) {
            let keys = test_keyring().new_owner_keys();
            let sealed = record(ITEM, keys.seal(&OWNER, ITEM, &links(1), plain.clone()));
            prop_assert_eq!(&*keys.open(&OWNER, &sealed).expect("untouched"), &plain);
        }

        #[test]
        fn any_changed_bit_is_noticed(plain in proptest::collection::vec(any::<u8>(), 1..64), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let keys = test_keyring().new_owner_keys();
            let mut value = keys.seal(&OWNER, ITEM, &links(1), plain);
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            let opened = Record::parse(ITEM, version(9), Timestamp::from_millis(0), value.into())
                .and_then(|record| keys.open(&OWNER, &record).map(|_| ()));
            prop_assert!(opened.is_err());
        }
    }

    #[test]
    fn a_record_moved_to_another_key_or_owner_is_noticed() {
        let keys = test_keyring().new_owner_keys();
        let value = keys.seal(&OWNER, ITEM, &links(1), b"x".to_vec());
        let moved = record(
            RecordName::Item(ItemKey::from_bytes([4; 16])),
            value.clone(),
        );
        assert_eq!(
            keys.open(&OWNER, &moved).expect_err("moved"),
            SealError::Tampered
        );
        let foreign = OwnerKey::from_bytes([8; 16]);
        assert_eq!(
            keys.open(&foreign, &record(ITEM, value))
                .expect_err("moved"),
            SealError::Tampered
        );
    }

    #[test]
    fn another_owners_keys_open_nothing() {
        let keyring = test_keyring();
        let sealed = record(
            ITEM,
            keyring
                .new_owner_keys()
                .seal(&OWNER, ITEM, &links(1), b"x".to_vec()),
        );
        assert_eq!(
            keyring
                .new_owner_keys()
                .open(&OWNER, &sealed)
                .expect_err("foreign"),
            SealError::ForeignKey
        );
    }

    #[test]
    fn the_key_record_gives_the_same_keys_back_and_hides_the_user() {
        let keyring = test_keyring();
        let keys = keyring.new_owner_keys();
        let value = keys.wrap(
            &keyring,
            &OWNER,
            &UserId::new("issuer", "somebody"),
            &links(0),
        );
        assert!(
            !value.windows(8).any(|w| w == b"somebody"),
            "the user id is sealed"
        );
        let wrapped = record(RecordName::Key, value);
        let again = OwnerKeys::unwrap_record(&keyring, &OWNER, &wrapped)
            .expect("the same key-encryption key");
        let sealed = record(ITEM, keys.seal(&OWNER, ITEM, &links(1), b"x".to_vec()));
        assert_eq!(
            &**again.open(&OWNER, &sealed).expect("the same data key"),
            b"x"
        );
        let stranger = OwnerKey::from_bytes([8; 16]);
        assert_eq!(
            OwnerKeys::unwrap_record(&keyring, &stranger, &wrapped).expect_err("moved"),
            SealError::Tampered
        );
        assert_eq!(
            OwnerKeys::unwrap_record(&keyring, &OWNER, &sealed).expect_err("no key"),
            SealError::ForeignKey
        );
    }

    #[test]
    fn a_floor_is_believed_only_as_it_was_sealed() {
        let keys = test_keyring().new_owner_keys();
        let value = keys.seal_floor(&OWNER, &links(8), version(5));
        let floor = record(RecordName::Floor, value.clone());
        assert_eq!(
            (floor.floor(), floor.is_live_item(), floor.is_deletion()),
            (Some(version(5)), false, false)
        );
        assert_eq!(keys.check_floor(&OWNER, &floor), Ok(()));
        let mut altered = value.clone();
        altered[89] = 4;
        assert_eq!(
            keys.check_floor(&OWNER, &record(RecordName::Floor, altered)),
            Err(SealError::Tampered)
        );
        assert_eq!(
            keys.check_floor(&OwnerKey::from_bytes([8; 16]), &floor),
            Err(SealError::Tampered)
        );
        let above = keys.seal_floor(&OWNER, &links(4), version(5));
        let parsed = Record::parse(
            RecordName::Floor,
            version(9),
            Timestamp::from_millis(0),
            above.into(),
        );
        assert_eq!(
            parsed.expect_err("above what it was made upon"),
            SealError::Malformed
        );
    }

    #[test]
    fn an_impossible_record_is_refused() {
        let keys = test_keyring().new_owner_keys();
        let parse = |name, at: u64, value: Vec<u8>| {
            Record::parse(name, version(at), Timestamp::from_millis(0), value.into())
        };
        let value = keys.seal(&OWNER, ITEM, &links(9), b"x".to_vec());
        assert_eq!(
            parse(ITEM, 9, value.clone()).expect_err("made upon itself"),
            SealError::Malformed
        );
        assert_eq!(
            parse(RecordName::Key, 10, value.clone()).expect_err("an item"),
            SealError::Malformed
        );
        assert!(parse(ITEM, 10, value).is_ok());
        assert_eq!(
            parse(ITEM, 10, vec![1, 2]).expect_err("short"),
            SealError::Malformed
        );
    }

    #[test]
    fn a_request_leaves_only_its_marks() {
        let keys = test_keyring().new_owner_keys();
        let (id, request) = keys.request_hashes("abc", b"body");
        assert_eq!(keys.request_hashes("abc", b"body"), (id, request));
        assert_eq!(keys.request_hashes("abc", b"other").0, id);
        assert_ne!(keys.request_hashes("abc", b"other").1, request);
        assert_ne!(keys.request_hashes("abd", b"body").0, id);
        assert_eq!(
            format!("{:?} {keys:?}", UserId::new("i", "s")),
            "UserId OwnerKeys"
        );
    }
}
