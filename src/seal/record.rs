//! A record as the bucket holds it: name, version, time, clear envelope and sealed content.

use super::digest::SetCheck;
use super::envelope::{Class, Envelope};
use super::{Format, OwnerKey, RecordName, RequestHash, random};
use crate::domain::{Timestamp, Version};
use bytes::Bytes;
use std::fmt;

/// One record of an owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Which of the owner's records it is.
    pub name: RecordName,
    /// The stream sequence under which the bucket stored it.
    pub version: Version,
    /// The time at which the bucket stored it.
    pub at: Timestamp,
    /// The clear part.
    pub envelope: Envelope,
    /// Envelope and ciphertext, as stored.
    pub value: Bytes,
}

impl Record {
    /// Parses a record of the bucket or the projection.
    ///
    /// # Errors
    ///
    /// Returns [`SealError::Malformed`] if the value has no valid envelope, or if the envelope does
    /// not fit the name or the version.
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
            RecordName::Unknown(_) => matches!(envelope.class, Class::Unknown(_)),
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

    /// The version up to which the owner's deletions are forgotten; `None` unless the record is a
    /// floor.
    pub fn floor(&self) -> Option<Version> {
        match self.envelope.class {
            Class::Floor(floor) => Some(floor),
            Class::Item | Class::Key | Class::Unknown(_) => None,
        }
    }

    /// Returns whether the record is the deletion of an item.
    pub fn is_deletion(&self) -> bool {
        self.envelope.class == Class::Item && self.envelope.deleted
    }

    /// Returns whether the record is an item that is not deleted.
    pub fn is_live_item(&self) -> bool {
        self.envelope.class == Class::Item && !self.envelope.deleted
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} at {})", self.name, self.version)
    }
}

/// The fields of a new record that link it to the state that it is based on.
#[derive(Clone, Debug)]
pub struct Links {
    /// The format of the record.
    pub format: Format,
    /// The owner's version.
    pub prev: Version,
    /// The previous version of this key's record, none if the new one is the first.
    pub item_prev: Version,
    /// Vouches for the owner's set at `prev`; for a floor, without the deletions that it ends.
    pub before: SetCheck,
    /// Keyed hashes of the caller's request id and of the request, if the request has an id.
    pub request: Option<(RequestHash, RequestHash)>,
    /// Whether the record deletes its item.
    pub deleted: bool,
}

impl Links {
    /// Returns an envelope with these links and a random nonce.
    pub(super) fn envelope(&self, class: Class, key_id: u32) -> Envelope {
        Envelope {
            format: self.format,
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
    /// The bytes are not a record in a format that this version of the service knows.
    #[error("not a record of a known format")]
    Malformed,
    /// The record is sealed with another key than the one given, or has another class.
    #[error("sealed with another key")]
    ForeignKey,
    /// The record was altered after it was sealed, or moved from another key of the bucket.
    #[error("altered, or moved from another key")]
    Tampered,
}

/// Returns the associated data, which the seal protects together with the content: the envelope,
/// and the record's key in the bucket.
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
            format: Format::Two,
            prev: version(prev),
            item_prev: Version::NONE,
            before: SetCheck::from_bytes([0; 16]),
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
        fn any_changed_bit_is_detected(
            plain in proptest::collection::vec(any::<u8>(), 1..64),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
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
    fn a_record_moved_to_another_key_or_owner_is_detected() {
        let keys = test_keyring().new_owner_keys();
        let value = keys.seal(&OWNER, ITEM, &links(1), b"x".to_vec());
        let other_name = RecordName::Item(ItemKey::from_bytes([4; 16]));
        let other_owner = OwnerKey::from_bytes([8; 16]);

        let moved_to_name = keys.open(&OWNER, &record(other_name, value.clone()));
        let moved_to_owner = keys.open(&other_owner, &record(ITEM, value));

        assert_eq!(moved_to_name.expect_err("moved"), SealError::Tampered);
        assert_eq!(moved_to_owner.expect_err("moved"), SealError::Tampered);
    }

    #[test]
    fn another_owners_keys_open_nothing() {
        let keyring = test_keyring();
        let keys = keyring.new_owner_keys();
        let other_keys = keyring.new_owner_keys();

        let sealed = record(ITEM, keys.seal(&OWNER, ITEM, &links(1), b"x".to_vec()));

        assert_eq!(
            other_keys.open(&OWNER, &sealed).expect_err("another key"),
            SealError::ForeignKey
        );
    }

    #[test]
    fn a_key_record_unwraps_to_the_same_keys_and_hides_the_user() {
        let keyring = test_keyring();
        let keys = keyring.new_owner_keys();
        let user = UserId::new("issuer", "somebody");

        let value = keys.wrap(&keyring, &OWNER, &user, &links(0));
        let shows_the_user = value.windows(8).any(|window| window == b"somebody");
        let wrapped = record(RecordName::Key, value);
        let unwrapped = OwnerKeys::unwrap_record(&keyring, &OWNER, &wrapped)
            .expect("the same key-encryption key");

        assert!(!shows_the_user, "the user id is sealed");
        let sealed = record(ITEM, keys.seal(&OWNER, ITEM, &links(1), b"x".to_vec()));
        let opened = unwrapped.open(&OWNER, &sealed).expect("the same data key");
        assert_eq!(&**opened, b"x");
        let unwrapped = OwnerKeys::unwrap_user(&keyring, &OWNER, &wrapped);
        assert_eq!(unwrapped.expect("the user"), user);
    }

    #[test]
    fn only_the_key_record_of_the_same_owner_is_unwrapped() {
        let keyring = test_keyring();
        let keys = keyring.new_owner_keys();
        let user = UserId::new("issuer", "somebody");
        let wrapped = record(
            RecordName::Key,
            keys.wrap(&keyring, &OWNER, &user, &links(0)),
        );
        let item = record(ITEM, keys.seal(&OWNER, ITEM, &links(1), b"x".to_vec()));
        let other_owner = OwnerKey::from_bytes([8; 16]);

        let moved = OwnerKeys::unwrap_record(&keyring, &other_owner, &wrapped);
        let not_a_key = OwnerKeys::unwrap_record(&keyring, &OWNER, &item);

        assert_eq!(moved.expect_err("moved"), SealError::Tampered);
        assert_eq!(not_a_key.expect_err("an item"), SealError::ForeignKey);
        for (owner, record) in [(&other_owner, &wrapped), (&OWNER, &item)] {
            let user = OwnerKeys::unwrap_user(&keyring, owner, record);
            assert!(user.is_err());
        }
    }

    #[test]
    fn a_floor_is_accepted_only_as_it_was_sealed() {
        let keys = test_keyring().new_owner_keys();
        let value = keys.seal_floor(&OWNER, &links(8), version(5));
        let floor = record(RecordName::Floor, value.clone());
        let mut altered = value;
        altered[89] = 4;
        let altered = record(RecordName::Floor, altered);
        let other_owner = OwnerKey::from_bytes([8; 16]);

        assert_eq!(floor.floor(), Some(version(5)));
        assert!(!floor.is_live_item());
        assert!(!floor.is_deletion());
        assert_eq!(keys.check_floor(&OWNER, &floor), Ok(()));
        assert_eq!(keys.check_floor(&OWNER, &altered), Err(SealError::Tampered));
        assert_eq!(
            keys.check_floor(&other_owner, &floor),
            Err(SealError::Tampered)
        );
    }

    #[test]
    fn a_floor_above_the_version_that_it_is_based_on_is_refused() {
        let keys = test_keyring().new_owner_keys();
        let value = keys.seal_floor(&OWNER, &links(4), version(5));

        let parsed = Record::parse(
            RecordName::Floor,
            version(9),
            Timestamp::from_millis(0),
            value.into(),
        );

        assert_eq!(parsed.expect_err("above"), SealError::Malformed);
    }

    #[test]
    fn an_impossible_record_is_refused() {
        let keys = test_keyring().new_owner_keys();
        let parse = |name, at: u64, value: Vec<u8>| {
            Record::parse(name, version(at), Timestamp::from_millis(0), value.into())
        };

        let value = keys.seal(&OWNER, ITEM, &links(9), b"x".to_vec());

        assert_eq!(
            parse(ITEM, 9, value.clone()).expect_err("based on itself"),
            SealError::Malformed
        );
        assert_eq!(
            parse(RecordName::Key, 10, value.clone()).expect_err("an item"),
            SealError::Malformed
        );
        assert_eq!(
            parse(ITEM, 10, vec![1, 2]).expect_err("short"),
            SealError::Malformed
        );
        assert!(parse(ITEM, 10, value).is_ok());
    }

    #[test]
    fn the_hashes_of_a_request_depend_on_its_id_and_content() {
        let keys = test_keyring().new_owner_keys();

        let (id, request) = keys.request_hashes("abc", b"body");

        assert_eq!(keys.request_hashes("abc", b"body"), (id, request));
        assert_eq!(keys.request_hashes("abc", b"other").0, id);
        assert_ne!(keys.request_hashes("abc", b"other").1, request);
        assert_ne!(keys.request_hashes("abd", b"body").0, id);
    }

    #[test]
    fn the_debug_form_shows_no_user_and_no_key() {
        let keys = test_keyring().new_owner_keys();
        let user = UserId::new("i", "s");

        assert_eq!(format!("{user:?} {keys:?}"), "UserId OwnerKeys");
    }
}
