//! The sealed content of an item's record, and its form as bytes (CBOR, RFC 8949).

use super::record::SealError;
use super::{OwnerKey, OwnerKeys, Record, RequestHash};
use crate::domain::{Data, Item, ItemId, Kind, Meta, Tags, Timestamp, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The sealed content of an item's record.
#[derive(Clone)]
pub struct Body {
    /// The service's own id of the write. It shows whether a write in doubt was stored.
    pub operation: Uuid,
    /// The shard that wrote the record.
    pub shard: String,
    /// The first version of the item's present life; none if this record is that version.
    pub born: Version,
    /// The hash of the id of the caller's request that began the present life. It finds an item
    /// whose id the service chose.
    pub born_request: Option<RequestHash>,
    /// The record's place in its write.
    pub part: Part,
    /// The item, or its deletion.
    pub content: Content,
}

/// A record's place among the items of one write. The records of a write have consecutive versions,
/// so each of them leads to all the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number of items in the write.
    pub of: u16,
    /// The number of them that come after this one.
    pub followed_by: u16,
    /// The refused operations of the same request, by their place in it, so that a repeated request
    /// gets the same answer. Only in the write's last record, and only if the request has an id.
    pub refused: BTreeMap<u16, StoredRefusal>,
}

/// A refusal that is stored with the write of the same request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRefusal {
    /// The refusal as sent to the caller (JSON), without the item that it shows.
    pub json: String,
    /// The version of the item that the refusal shows; none if it shows no item.
    pub shown: Version,
}

impl Part {
    /// The part of a write of one item.
    pub const WHOLE: Self = Self {
        of: 1,
        followed_by: 0,
        refused: BTreeMap::new(),
    };
}

/// An item, or the deletion of one.
#[derive(Clone)]
pub enum Content {
    /// The item exists.
    Living(Item),
    /// The item was deleted.
    Deleted {
        /// The item's kind.
        kind: Kind,
        /// The item's id.
        id: ItemId,
        /// The time of the deletion.
        updated_at: Timestamp,
    },
}

/// The stored form of a [`Body`]. Its names are short because every record repeats them.
#[derive(Serialize, Deserialize)]
struct StoredBody {
    o: u128,
    s: String,
    b: u64,
    r: Option<[u8; 16]>,
    k: Kind,
    i: ItemId,
    u: Timestamp,
    l: Option<StoredItem>,
    /// Absent in a write of one item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<StoredPart>,
}

/// The stored form of a [`Part`].
#[derive(Serialize, Deserialize)]
struct StoredPart {
    n: u16,
    f: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    x: BTreeMap<u16, String>,
    /// The versions of the items that the refusals in `x` show.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    v: BTreeMap<u16, u64>,
}

impl StoredPart {
    fn of(part: &Part) -> Self {
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
            n: part.of,
            f: part.followed_by,
            x: refusals.collect(),
            v: shown_versions.collect(),
        }
    }

    fn read(self) -> Result<Part, SealError> {
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
            of: self.n,
            followed_by: self.f,
            refused: refused.collect::<Result<_, _>>()?,
        })
    }
}

/// The stored form of what only an item that is not deleted has.
#[derive(Serialize, Deserialize)]
struct StoredItem {
    d: Data,
    m: Meta,
    t: Tags,
    c: Timestamp,
}

impl Body {
    /// Returns the bytes to seal.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, id, updated_at, item) = match self.content.clone() {
            Content::Deleted {
                kind,
                id,
                updated_at,
            } => (kind, id, updated_at, None),
            Content::Living(Item {
                kind,
                id,
                data,
                meta,
                tags,
                created_at,
                updated_at,
            }) => (
                kind,
                id,
                updated_at,
                Some(StoredItem {
                    d: data,
                    m: meta,
                    t: tags,
                    c: created_at,
                }),
            ),
        };

        let stored = StoredBody {
            o: self.operation.as_u128(),
            s: self.shard.clone(),
            b: self.born.get(),
            r: self.born_request.map(|hash| *hash.as_bytes()),
            k: kind,
            i: id,
            u: updated_at,
            l: item,
            p: (self.part != Part::WHOLE).then(|| StoredPart::of(&self.part)),
        };

        let mut out = Vec::new();
        #[expect(
            clippy::expect_used,
            reason = "a Vec accepts every write, and CBOR can express every key of the form"
        )]
        ciborium::into_writer(&stored, &mut out).expect("the stored form is encodable");
        out
    }

    /// Decodes the bytes that were sealed.
    ///
    /// # Errors
    ///
    /// Returns [`SealError::Malformed`] if the bytes are not a body.
    pub fn decode(plain: &[u8]) -> Result<Self, SealError> {
        let stored: StoredBody = ciborium::from_reader(plain).map_err(|_| SealError::Malformed)?;
        let kind = stored.k;
        let id = stored.i;
        let updated_at = stored.u;

        let content = match stored.l {
            None => Content::Deleted {
                kind,
                id,
                updated_at,
            },
            Some(StoredItem {
                d: data,
                m: meta,
                t: tags,
                c: created_at,
            }) => Content::Living(Item {
                kind,
                id,
                data,
                meta,
                tags,
                created_at,
                updated_at,
            }),
        };

        Ok(Self {
            operation: Uuid::from_u128(stored.o),
            shard: stored.s,
            born: Version::new(stored.b).ok_or(SealError::Malformed)?,
            born_request: stored.r.map(RequestHash::from_bytes),
            part: stored.p.map_or(Ok(Part::WHOLE), StoredPart::read)?,
            content,
        })
    }

    /// Opens an item's record and decodes its body.
    pub fn open(keys: &OwnerKeys, owner: &OwnerKey, record: &Record) -> Result<Self, SealError> {
        let mut body = Self::decode(&keys.open(owner, record)?)?;
        if body.born.is_none() {
            body.born = record.version;
            body.born_request = record.envelope.request.map(|(id, _)| id);
        }

        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemLimits, Text};
    use ciborium::cbor;

    fn living() -> Body {
        let limits = ItemLimits::default();

        Body {
            operation: Uuid::from_u128(5),
            shard: "a".into(),
            born: Version::new(3).expect("in range"),
            born_request: Some(RequestHash::from_bytes([1; 16])),
            part: Part::WHOLE,
            content: Content::Living(Item {
                kind: Kind::Text,
                id: ItemId::parse(Kind::Text, "note", &limits).expect("well formed"),
                data: Data::Text(Text::parse("hello", &limits).expect("well formed")),
                meta: Meta::default(),
                tags: Tags::parse(["t".to_owned()], &limits).expect("well formed"),
                created_at: Timestamp::from_millis(1),
                updated_at: Timestamp::from_millis(2),
            }),
        }
    }

    fn encode_and_decode(body: &Body) -> Body {
        Body::decode(&body.encode()).expect("just encoded")
    }

    #[test]
    fn a_living_item_reads_back_as_written() {
        let body = encode_and_decode(&living());

        assert_eq!(body.operation.as_u128(), 5);
        assert_eq!(body.shard, "a");
        assert_eq!(body.born.get(), 3);
        assert_eq!(body.born_request, Some(RequestHash::from_bytes([1; 16])));
        let Content::Living(item) = body.content else {
            panic!("a deletion")
        };
        assert_eq!(item.id.as_str(), "note");
        assert_eq!(item.created_at.millis(), 1);
        assert_eq!(item.updated_at.millis(), 2);
        assert!(item.tags.contains("t"));
    }

    #[test]
    fn the_part_of_a_write_reads_back_as_written() {
        let refusal = |shown| StoredRefusal {
            json: "{}".into(),
            shown: Version::new(shown).expect("in range"),
        };
        let part = Part {
            of: 3,
            followed_by: 1,
            refused: BTreeMap::from([(2, refusal(0)), (7, refusal(9))]),
        };

        let body = encode_and_decode(&Body {
            part: part.clone(),
            ..living()
        });
        let body_of_one_item = encode_and_decode(&living());

        assert_eq!(body.part, part);
        assert_eq!(body_of_one_item.part, Part::WHOLE);
    }

    #[test]
    fn a_refusal_without_the_version_of_its_item_is_read() {
        let encoded = living().encode();
        let part = cbor!({"n" => 1, "f" => 0, "x" => {1 => "refusal"}}).expect("CBOR");
        let mut stored: ciborium::Value = ciborium::from_reader(&*encoded).expect("CBOR");
        stored.as_map_mut().expect("a map").push(("p".into(), part));
        let mut sealed_by_an_earlier_version = Vec::new();
        ciborium::into_writer(&stored, &mut sealed_by_an_earlier_version).expect("written");

        let body = Body::decode(&sealed_by_an_earlier_version).expect("a body");

        let refusal = StoredRefusal {
            json: "refusal".into(),
            shown: Version::NONE,
        };
        assert_eq!(body.part.refused, BTreeMap::from([(1, refusal)]));
    }

    #[test]
    fn a_deletion_reads_back_as_written() {
        let Content::Living(item) = living().content else {
            panic!("a deletion")
        };
        let content = Content::Deleted {
            kind: item.kind,
            id: item.id,
            updated_at: Timestamp::from_millis(9),
        };

        let body = encode_and_decode(&Body {
            content,
            ..living()
        });

        let Content::Deleted {
            kind,
            id,
            updated_at,
        } = body.content
        else {
            panic!("not a deletion")
        };
        assert_eq!(kind, Kind::Text);
        assert_eq!(id.as_str(), "note");
        assert_eq!(updated_at.millis(), 9);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(Body::decode(b"").err(), Some(SealError::Malformed));
        assert_eq!(Body::decode(b"\xa0").err(), Some(SealError::Malformed));
    }
}
