//! The digest of a set of records, and the value by which a record vouches for it.

use std::fmt;
use std::ops::BitXor;

/// A 128-bit digest of a set of (name, version) pairs; the order of the pairs does not matter.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(pub(super) u128);

impl Digest {
    /// The digest of the empty set.
    pub const EMPTY: Self = Self(0);

    /// Returns the digest with these 16 bytes, big-endian.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Returns the 16 bytes, big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl BitXor for Digest {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a record has of the set that it is based on: the digest itself in format 1, and a keyed MAC
/// of it in format 2.
///
/// The digest is linear: an attacker that knows enough hashes can find records whose removal leaves
/// it unchanged. So it must not be readable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SetCheck([u8; 16]);

impl SetCheck {
    /// Returns the value with these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for SetCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}
