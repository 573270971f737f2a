//! The names of stored records, which reveal nothing to a reader without the keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

macro_rules! opaque_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Returns the name with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Returns the name with these bytes, `None` unless there are 16.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// Parses the text form: 22 characters of base64url (RFC 4648 §5), unpadded.
            pub fn parse(text: &str) -> Option<Self> {
                Self::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?)
            }

            /// The 16 bytes.
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
    /// The name of an owner in subjects, keys, tables and logs: a keyed hash of issuer and subject,
    /// which identifies nobody without the identity key.
    OwnerKey
}
opaque_name! {
    /// The name of an item of one owner: a hash of its kind and id, keyed with a key of that owner.
    ItemKey
}
opaque_name! {
    /// The hash of a caller's request id, or of a request's content, keyed with a key of the owner.
    RequestHash
}

/// The second part of a record's key in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordName {
    /// The owner's wrapped data key, the owner's first record: `<owner>.key`.
    Key,
    /// The version up to which the owner's deletions are forgotten: `<owner>.floor`.
    Floor,
    /// One item: `<owner>.<item>`.
    Item(ItemKey),
}

impl RecordName {
    /// Parses the text form; `None` if this version of the service does not know it.
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
            let name = RecordName::Item(ItemKey::from_bytes(bytes));

            let text = owner.to_string();

            prop_assert_eq!(OwnerKey::parse(&text), Some(owner));
            prop_assert_eq!(text.len(), 22);
            prop_assert!(
                text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
            prop_assert_eq!(RecordName::parse(&name.to_string()), Some(name));
        }
    }

    #[test]
    fn a_malformed_or_unknown_name_is_refused() {
        assert_eq!(OwnerKey::parse("AAAA"), None);
        assert_eq!(OwnerKey::parse("not base64!!"), None);
        assert_eq!(RecordName::parse("ceiling"), None);
    }

    #[test]
    fn the_names_of_key_and_floor_read_back_as_written() {
        for name in [RecordName::Key, RecordName::Floor] {
            assert_eq!(RecordName::parse(&name.to_string()), Some(name));
        }
    }

    #[test]
    fn the_debug_form_of_a_name_is_its_text_form() {
        let name = ItemKey::from_bytes([0; 16]);

        assert_eq!(format!("{name:?}"), "A".repeat(22));
    }
}
