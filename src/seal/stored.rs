//! The parts of the stored form of a body that both formats share.

use super::record::SealError;
use super::{Part, StoredRefusal};
use crate::domain::Version;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// The bytes that the name of a field of one letter takes.
const NAME_BYTES: usize = 2;

/// The stored form of a [`Part`].
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPart {
    /// Absent in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<u16>,
    n: u16,
    f: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    x: BTreeMap<u16, String>,
    /// The versions of the items that the refusals in `x` show.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    v: BTreeMap<u16, u64>,
}

impl StoredPart {
    pub(super) fn of(part: &Part) -> Self {
        let refusals = part
            .refused
            .iter()
            .map(|(at, refusal)| (*at, refusal.json.clone()));
        let shown_versions = part
            .refused
            .iter()
            .filter(|(_, refusal)| !refusal.shown.is_none())
            .map(|(at, refusal)| (*at, refusal.shown.get()));

        Self {
            a: part.records,
            n: part.of,
            f: part.followed_by,
            x: refusals.collect(),
            v: shown_versions.collect(),
        }
    }

    pub(super) fn read(self) -> Result<Part, SealError> {
        let shown_version = |at| {
            self.v
                .get(at)
                .map_or(Some(Version::NONE), |version| Version::new(*version))
        };
        let refused = self.x.iter().map(|(at, json)| {
            let refusal = StoredRefusal {
                json: json.clone(),
                shown: shown_version(at).ok_or(SealError::Malformed)?,
            };
            Ok((*at, refusal))
        });

        Ok(Part {
            records: self.a,
            of: self.n,
            followed_by: self.f,
            refused: refused.collect::<Result<_, _>>()?,
        })
    }
}

impl Part {
    /// The bytes that this takes in the record: the marks of a write of several records, and the
    /// refusals that are kept with it.
    pub fn stored_bytes(&self) -> usize {
        let whole = Self {
            records: self.records.and(Self::WHOLE.records),
            ..Self::WHOLE
        };
        if *self == whole {
            return 0;
        }

        let mut size = ByteCount(NAME_BYTES);
        // Counting does not fail.
        let _ = put(&mut size, &StoredPart::of(self));
        size.0
    }
}

/// Counts the bytes that are written to it.
#[derive(Default)]
pub(super) struct ByteCount(pub usize);

impl io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one CBOR value.
pub(super) fn put(out: &mut impl io::Write, value: &impl Serialize) -> Result<(), SealError> {
    ciborium::into_writer(value, out).map_err(|_| SealError::Malformed)
}

/// Takes one CBOR value from the start of `rest`.
pub(super) fn take<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<T, SealError> {
    ciborium::from_reader(rest).map_err(|_| SealError::Malformed)
}
