//! The clear part of a record: what a projection and a chain check need, and nothing that tells what is kept.
//!
//! 82 bytes, integers big-endian, followed by the ciphertext and its tag:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | format, 1 |
//! | 1 | class in the high four bits; bit 0: deleted |
//! | 4 | id of the key that seals it |
//! | 8 | `prev`: the owner's version it was made upon |
//! | 8 | `item_prev`: this key's last version, 0 if none |
//! | 16 | `before`: the digest of the owner's whole set at `prev` |
//! | 16 | keyed hash of the caller's request id, zeros if none |
//! | 16 | keyed hash of the request, zeros if none |
//! | 12 | nonce |
//!
//! A floor has 8 bytes more, and seals nothing but the tag:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | the version up to which the owner's deletions are forgotten |

use super::RequestHash;
use super::digest::Digest;
use crate::domain::Version;

/// The length of an envelope in bytes.
const ENVELOPE_BYTES: usize = 82;
/// The length of a floor's, in bytes.
const FLOOR_BYTES: usize = ENVELOPE_BYTES + 8;
const FORMAT: u8 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An item, living or deleted.
    Item,
    /// The owner's wrapped data key.
    Key,
    /// Up to which version the owner's deletions are forgotten.
    Floor(Version),
}

impl Class {
    /// The length of its envelopes in bytes.
    pub(super) fn head_bytes(self) -> usize {
        match self {
            Self::Item | Self::Key => ENVELOPE_BYTES,
            Self::Floor(_) => FLOOR_BYTES,
        }
    }
}

/// A record's clear part, see the module's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the record is.
    pub class: Class,
    /// Whether it says that the item is deleted.
    pub deleted: bool,
    /// Which key seals it.
    pub key_id: u32,
    /// The owner's version that it was made upon; the members of one batch name the same.
    pub prev: Version,
    /// This key's last version, none if it is the first.
    pub item_prev: Version,
    /// The digest of the owner's whole set at `prev`.
    pub before: Digest,
    /// Keyed hashes of the caller's request id and of the request, when the caller gave an id.
    pub request: Option<(RequestHash, RequestHash)>,
    /// The nonce of the seal, never used twice with one key.
    pub nonce: [u8; 12],
}

impl Envelope {
    /// As the bytes that precede the ciphertext.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; self.class.head_bytes()];
        let class = match self.class {
            Class::Item => 0u8,
            Class::Key => 1,
            Class::Floor(floor) => {
                out[ENVELOPE_BYTES..].copy_from_slice(&floor.get().to_be_bytes());
                2
            }
        };
        out[0] = FORMAT;
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

    /// From a record's value; `None` for another format or one that is too short.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let head: &[u8; ENVELOPE_BYTES] = value.first_chunk()?;
        if head[0] != FORMAT || head[1] & 0x0e != 0 {
            return None;
        }
        let number = |at: usize| {
            value[at..]
                .first_chunk()
                .map(|b| u64::from_be_bytes(*b))
                .and_then(Version::new)
        };
        let class = match head[1] >> 4 {
            0 => Class::Item,
            1 => Class::Key,
            2 => Class::Floor(number(ENVELOPE_BYTES)?),
            _ => return None,
        };
        let mark = |at: usize| {
            head[at..]
                .first_chunk()
                .copied()
                .map(RequestHash::from_bytes)
        };
        let request = if head[38..70] == [0; 32] {
            None
        } else {
            Some((mark(38)?, mark(54)?))
        };
        Some(Self {
            class,
            deleted: head[1] & 1 == 1,
            key_id: u32::from_be_bytes(*head[2..].first_chunk()?),
            prev: number(6)?,
            item_prev: number(14)?,
            before: Digest::from_bytes(*head[22..].first_chunk()?),
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
            class in 0u8..3, floor in 0u64..=1 << 53, deleted in any::<bool>(), key_id in any::<u32>(),
            prev in 0u64..=1 << 53, item_prev in 0u64..=1 << 53, before in any::<[u8; 16]>(),
            request in proptest::option::of((any::<[u8; 16]>(), 1u8..)), nonce in any::<[u8; 12]>(),
        ) -> Envelope {
            Envelope {
                class: match class {
                    0 => Class::Item,
                    1 => Class::Key,
                    _ => Class::Floor(Version::new(floor).expect("in range")),
                },
                deleted, key_id,
                prev: Version::new(prev).expect("in range"),
                item_prev: Version::new(item_prev).expect("in range"),
                before: Digest::from_bytes(before),
                request: request.map(|(id, b)| (RequestHash::from_bytes(id), RequestHash::from_bytes([b; 16]))),
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
        let mut value = [0u8; ENVELOPE_BYTES];
        assert_eq!(Envelope::decode(&value), None, "format 0");
        value[0] = 1;
        assert!(Envelope::decode(&value).is_some());
        value[1] = 0x20;
        assert_eq!(Envelope::decode(&value), None, "a floor without its number");
        value[1] = 0x30;
        assert_eq!(Envelope::decode(&value), None, "class 3");
        value[1] = 0x02;
        assert_eq!(Envelope::decode(&value), None, "flag 1");
        value[1] = 0;
        value[6] = 0xff;
        assert_eq!(Envelope::decode(&value), None, "prev above 2^53");
        assert_eq!(Envelope::decode(&value[..80]), None, "too short");
    }
}
