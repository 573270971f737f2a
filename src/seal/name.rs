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
    /// A record of a newer version of the service. It is kept and counted, and never opened.
    Unknown(UnknownName),
}

/// The name of a record that this version does not know: 1 to 16 of a-z, 0-9 and `_`, so never that
/// of an item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownName {
    /// The bytes, with zeros after the end.
    bytes: [u8; 16],
}

impl UnknownName {
    fn parse(text: &str) -> Option<Self> {
        let is_name = !text.is_empty()
            && text
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        let mut bytes = [0; 16];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());

        is_name.then_some(Self { bytes })
    }

    fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|c| *c == 0);
        let text = &self.bytes[..end.unwrap_or(self.bytes.len())];
        str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Debug for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RecordName {
    /// Parses the text form; `None` if no record has such a name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "key" => Some(Self::Key),
            "floor" => Some(Self::Floor),
            _ => UnknownName::parse(text)
                .map(Self::Unknown)
                .or_else(|| ItemKey::parse(text).map(Self::Item)),
        }
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Floor => f.write_str("floor"),
            Self::Item(item) => item.fmt(f),
            Self::Unknown(name) => f.write_str(name.as_str()),
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
        for text in ["", "Ceiling", "a.b", "seventeen_letters", "é"] {
            assert_eq!(RecordName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_of_another_version_reads_back_as_written() {
        for text in ["ceiling", "a", "sixteen_letters1"] {
            let name = RecordName::parse(text).expect("well formed");

            assert!(matches!(name, RecordName::Unknown(_)));
            assert_eq!(name.to_string(), text);
        }
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
