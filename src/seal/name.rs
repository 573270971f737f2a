//! The names under which records are kept: they tell nothing to one who lacks the keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

macro_rules! opaque_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// From a slice, `None` unless it has 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// From its text form: 22 characters of base64url (RFC 4648 §5), unpadded.
            pub fn parse(text: &str) -> Option<Self> {
                Self::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?)
            }

            /// Its 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

opaque_name! {
    /// Names an owner in subjects, keys, tables and logs: a keyed hash of issuer and subject, from which nobody without
    /// the identity key can tell who it is.
    OwnerKey
}
opaque_name! {
    /// Names an item of one owner: a keyed hash of its kind and id, under a key of that owner.
    ItemKey
}
opaque_name! {
    /// Stands for a caller's request id, or for a request's content, under a key of that owner.
    RequestHash
}

/// The second part of a record's key in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordName {
    /// The owner's wrapped data key, their first record: `<owner>.key`.
    Key,
    /// From where on the owner's deletions are still known: `<owner>.floor`.
    Floor,
    /// One item: `<owner>.<item>`.
    Item(ItemKey),
}

impl RecordName {
    /// From its text form, `None` for what this version does not know.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "key" => Some(Self::Key),
            "floor" => Some(Self::Floor),
            _ => ItemKey::parse(text).map(Self::Item),
        }
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Floor => f.write_str("floor"),
            Self::Item(item) => item.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_reads_back_as_written(bytes in any::<[u8; 16]>()) {
            let owner = OwnerKey::from_bytes(bytes);
            prop_assert_eq!(OwnerKey::parse(&owner.to_string()), Some(owner));
            prop_assert_eq!(owner.to_string().len(), 22);
            prop_assert!(owner.to_string().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            let name = RecordName::Item(ItemKey::from_bytes(bytes));
            prop_assert_eq!(RecordName::parse(&name.to_string()), Some(name));
        }
    }

    #[test]
    fn a_name_of_another_length_is_none() {
        assert_eq!(OwnerKey::parse("AAAA"), None);
        assert_eq!(OwnerKey::parse("not base64!!"), None);
        assert_eq!(RecordName::parse("ceiling"), None);
        for name in [RecordName::Key, RecordName::Floor] {
            assert_eq!(RecordName::parse(&name.to_string()), Some(name));
        }
        assert_eq!(
            format!("{:?}", ItemKey::from_bytes([0; 16])),
            "A".repeat(22)
        );
    }
}
