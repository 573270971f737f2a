//! The clear part of a record: what the projection and the check of a set need. It reveals nothing
//! about the content.
//!
//! 82 bytes, integers big-endian, followed by the ciphertext and its tag:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | format, 1 or 2 |
//! | 1 | class in the high four bits; bit 0: deleted |
//! | 4 | id of the key that seals it |
//! | 8 | `prev`: the owner's version that the record is based on |
//! | 8 | `item_prev`: this key's last version, 0 if none |
//! | 16 | `before`: vouches for the owner's complete set at `prev`. Format 1: its digest; format 2: a MAC of its digest |
//! | 16 | keyed hash of the caller's request id, zeros if none |
//! | 16 | keyed hash of the request, zeros if none |
//! | 12 | nonce |
//!
//! A floor has 8 more bytes. It has no content, so only the tag follows:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | the version up to which the owner's deletions are forgotten |
//!
//! In format 2, a class that this version does not know has the same 82 bytes. What follows them is
//! not read. Only record names that this version does not know either have such classes.

use super::RequestHash;
use super::digest::SetCheck;
use crate::domain::Version;

/// The length of an envelope in bytes.
pub(super) const ENVELOPE_BYTES: usize = 82;
/// The length of a floor's envelope in bytes.
const FLOOR_BYTES: usize = ENVELOPE_BYTES + 8;

/// The format of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// The first format. It has instruments and texts only.
    One,
    /// A MAC in the place of the open digest; kind, id, place, tags and times readable without the
    /// content; what a reader does not know is passed on.
    Two,
}

impl Format {
    /// The newest format, which this version writes once the bucket permits it.
    pub const NEWEST: Self = Self::Two;

    /// Returns the format of this number, if this version knows it.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            _ => None,
        }
    }

    /// Returns the number, as a record and the bucket's mark have it.
    pub fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// The class of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An item, living or deleted.
    Item,
    /// The owner's wrapped data key.
    Key,
    /// The version up to which the owner's deletions are forgotten.
    Floor(Version),
    /// A class of a newer version of the service, 3 to 15.
    Unknown(u8),
}

impl Class {
    /// The length of this class's envelopes in bytes.
    pub(super) fn head_bytes(self) -> usize {
        match self {
            Self::Item | Self::Key | Self::Unknown(_) => ENVELOPE_BYTES,
            Self::Floor(_) => FLOOR_BYTES,
        }
    }
}

/// A record's clear part; the table at the top of the module shows its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The format of the record.
    pub format: Format,
    /// The class of the record.
    pub class: Class,
    /// Whether the record is a deletion.
    pub deleted: bool,
    /// The id of the key that seals the record.
    pub key_id: u32,
    /// The owner's version that the record is based on; all records of a batch have the same one.
    pub prev: Version,
    /// The previous version of this key's record, none if this is the first.
    pub item_prev: Version,
    /// Vouches for the owner's complete set at `prev`.
    pub before: SetCheck,
    /// Keyed hashes of the caller's request id and of the request, if the request has an id.
    pub request: Option<(RequestHash, RequestHash)>,
    /// The nonce of the seal; no two records share one under the same key.
    pub nonce: [u8; 12],
}

impl Envelope {
    /// Returns the bytes that precede the ciphertext.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; self.class.head_bytes()];
        let class = match self.class {
            Class::Item => 0u8,
            Class::Key => 1,
            Class::Floor(floor) => {
                out[ENVELOPE_BYTES..].copy_from_slice(&floor.get().to_be_bytes());
                2
            }
            Class::Unknown(class) => class & 0x0f,
        };

        out[0] = self.format.number();
        out[1] = class << 4 | u8::from(self.deleted);
        out[2..6].copy_from_slice(&self.key_id.to_be_bytes());
        out[6..14].copy_from_slice(&self.prev.get().to_be_bytes());
        out[14..22].copy_from_slice(&self.item_prev.get().to_be_bytes());
        out[22..38].copy_from_slice(&self.before.to_bytes());
        if let Some((id, request)) = &self.request {
            out[38..54].copy_from_slice(id.as_bytes());
            out[54..70].copy_from_slice(request.as_bytes());
        }
        out[70..ENVELOPE_BYTES].copy_from_slice(&self.nonce);

        out
    }

    /// Decodes the start of a record's value. Returns `None` if the value has another format or is
    /// too short.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let head: &[u8; ENVELOPE_BYTES] = value.first_chunk()?;
        let format = Format::from_number(head[0])?;
        if head[1] & 0x0e != 0 {
            return None;
        }

        let version = |at: usize| {
            value[at..]
                .first_chunk()
                .map(|b| u64::from_be_bytes(*b))
                .and_then(Version::new)
        };
        let hash = |at: usize| {
            head[at..]
                .first_chunk()
                .copied()
                .map(RequestHash::from_bytes)
        };

        let class = match head[1] >> 4 {
            0 => Class::Item,
            1 => Class::Key,
            2 => Class::Floor(version(ENVELOPE_BYTES)?),
            class if format >= Format::Two => Class::Unknown(class),
            _ => return None,
        };
        let request = if head[38..70] == [0; 32] {
            None
        } else {
            Some((hash(38)?, hash(54)?))
        };

        Some(Self {
            format,
            class,
            deleted: head[1] & 1 == 1,
            key_id: u32::from_be_bytes(*head[2..].first_chunk()?),
            prev: version(6)?,
            item_prev: version(14)?,
            before: SetCheck::from_bytes(*head[22..].first_chunk()?),
            request,
            nonce: *head[70..].first_chunk()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn envelopes()(
            format in 1u8..3,
            class in 0u8..4,
            floor in 0u64..=1 << 53,
            deleted in any::<bool>(),
            key_id in any::<u32>(),
            prev in 0u64..=1 << 53,
            item_prev in 0u64..=1 << 53,
            before in any::<[u8; 16]>(),
            request in proptest::option::of((any::<[u8; 16]>(), 1u8..)),
            nonce in any::<[u8; 12]>(),
        ) -> Envelope {
            Envelope {
                format: Format::from_number(format).expect("known"),
                class: match class {
                    0 => Class::Item,
                    1 => Class::Key,
                    3 if format == 2 => Class::Unknown(7),
                    _ => Class::Floor(Version::new(floor).expect("in range")),
                },
                deleted,
                key_id,
                prev: Version::new(prev).expect("in range"),
                item_prev: Version::new(item_prev).expect("in range"),
                before: SetCheck::from_bytes(before),
                request: request.map(|(id, b)| {
                    (RequestHash::from_bytes(id), RequestHash::from_bytes([b; 16]))
                }),
                nonce,
            }
        }
    }

    proptest! {
        #[test]
        fn an_envelope_reads_back_as_written(envelope in envelopes(), tail in any::<Vec<u8>>()) {
            let mut value = envelope.encode().to_vec();
            value.extend(tail);

            prop_assert_eq!(Envelope::decode(&value), Some(envelope));
        }

        #[test]
        fn bytes_that_are_no_envelope_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = Envelope::decode(&bytes);
        }
    }

    #[test]
    fn another_format_class_or_flag_is_refused() {
        let mut valid = [0; ENVELOPE_BYTES];
        valid[0] = 1;
        let changed = |at: usize, byte: u8| {
            let mut value = valid;
            value[at] = byte;
            value
        };
        let cases = [
            (changed(0, 0), "format 0"),
            (changed(0, 3), "format 3"),
            (changed(1, 0x20), "a floor without its version"),
            (changed(1, 0x30), "class 3"),
            (changed(1, 0x02), "flag 1"),
            (changed(6, 0xff), "prev above 2^53"),
        ];

        assert!(Envelope::decode(&valid).is_some());
        for (value, case) in cases {
            assert_eq!(Envelope::decode(&value), None, "{case}");
        }
        assert_eq!(Envelope::decode(&valid[..80]), None, "too short");
    }
}
