//! What a sealed record says of an item, and its form as bytes (CBOR, RFC 8949).

use super::record::SealError;
use super::{OwnerKey, OwnerKeys, Record, RequestHash};
use crate::domain::{Data, Item, ItemId, Kind, Meta, Tags, Timestamp, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The sealed part of an item's record.
#[derive(Clone)]
pub struct Body {
    /// The service's own name of the write, by which it finds out whether one in doubt has landed.
    pub operation: Uuid,
    /// The shard that wrote it.
    pub shard: String,
    /// The first version of the item's present life; none when this record is it.
    pub born: Version,
    /// The caller's request that began the present life: finds an item whose id the service chose.
    pub born_request: Option<RequestHash>,
    /// Its place in the write that made it.
    pub part: Part,
    /// The item, or that it is gone.
    pub content: Content,
}

/// A record's place among the items of one write, so that from any of them all can be found: their versions follow one
/// another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many items the write has.
    pub of: u16,
    /// How many of them come after this one.
    pub followed_by: u16,
    /// In the write's last record, where it has a request id: what was asked beside and was refused, by its place in the
    /// request, for who asks again.
    pub refused: BTreeMap<u16, StoredRefusal>,
}

/// A refusal that is kept with the write beside which it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRefusal {
    /// As the caller was told (JSON), but for the item that it shows.
    pub json: String,
    /// Of the item that it shows; none where it shows none.
    pub shown: Version,
}

impl Part {
    /// Of a write of one item.
    pub const WHOLE: Self = Self {
        of: 1,
        followed_by: 0,
        refused: BTreeMap::new(),
    };
}

/// An item as a record holds it.
#[derive(Clone)]
pub enum Content {
    /// It is there.
    Living(Item),
    /// It was deleted at that time.
    Deleted {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: ItemId,
        /// When it was deleted.
        updated_at: Timestamp,
    },
}

/// The stored form: short names, since every record repeats them.
#[derive(Serialize, Deserialize)]
struct StoredBody {
    o: u128,
    s: String,
    b: u64,
    r: Option<[u8; 16]>,
    k: Kind,
    i: ItemId,
    u: Timestamp,
    l: Option<Life>,
    /// Absent in a write of one item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<StoredPart>,
}

#[derive(Serialize, Deserialize)]
struct StoredPart {
    n: u16,
    f: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    x: BTreeMap<u16, String>,
    /// The versions of the items that those of `x` show.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    v: BTreeMap<u16, u64>,
}

impl StoredPart {
    fn of(part: &Part) -> Self {
        let refusals = part
            .refused
            .iter()
            .map(|(at, refused)| (*at, refused.json.clone()));
        let shown = part
            .refused
            .iter()
            .filter(|(_, refused)| !refused.shown.is_none());
        let shown = shown.map(|(at, refused)| (*at, refused.shown.get()));
        Self {
            n: part.of,
            f: part.followed_by,
            x: refusals.collect(),
            v: shown.collect(),
        }
    }

    fn read(self) -> Result<Part, SealError> {
        let shown = |at| {
            self.v
                .get(at)
                .map_or(Some(Version::NONE), |version| Version::new(*version))
        };
        let refused = self.x.iter().map(|(at, json)| {
            let shown = shown(at).ok_or(SealError::Malformed)?;
            Ok((
                *at,
                StoredRefusal {
                    json: json.clone(),
                    shown,
                },
            ))
        });
        Ok(Part {
            of: self.n,
            followed_by: self.f,
            refused: refused.collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Life {
    d: Data,
    m: Meta,
    t: Tags,
    c: Timestamp,
}

impl Body {
    /// The bytes to be sealed.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, id, updated_at, life) = match self.content.clone() {
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
                Some(Life {
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
            r: self.born_request.map(|mark| *mark.as_bytes()),
            k: kind,
            i: id,
            u: updated_at,
            l: life,
            p: (self.part != Part::WHOLE).then(|| StoredPart::of(&self.part)),
        };
        let mut out = Vec::new();
        #[expect(
            clippy::expect_used,
            reason = "a Vec takes every write, and the form has no key that CBOR lacks"
        )]
        ciborium::into_writer(&stored, &mut out).expect("the stored form is encodable");
        out
    }

    /// From the bytes that were sealed.
    pub fn decode(plain: &[u8]) -> Result<Self, SealError> {
        let stored: StoredBody = ciborium::from_reader(plain).map_err(|_| SealError::Malformed)?;
        let (kind, id, updated_at) = (stored.k, stored.i, stored.u);
        let content = match stored.l {
            None => Content::Deleted {
                kind,
                id,
                updated_at,
            },
            Some(Life {
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

    /// Opens an item's record and reads it.
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

    #[test]
    fn a_living_item_reads_back_as_written() {
        let body = Body::decode(&living().encode()).expect("written here");
        assert_eq!(
            (
                body.operation.as_u128(),
                body.shard.as_str(),
                body.born.get()
            ),
            (5, "a", 3)
        );
        assert_eq!(body.born_request, Some(RequestHash::from_bytes([1; 16])));
        let Content::Living(item) = body.content else {
            panic!("it lives")
        };
        assert_eq!(
            (
                item.id.as_str(),
                item.created_at.millis(),
                item.updated_at.millis()
            ),
            ("note", 1, 2)
        );
        assert!(item.tags.contains("t"));
    }

    #[test]
    fn the_part_of_a_write_reads_back_as_written() {
        let refused = |shown| StoredRefusal {
            json: "{}".into(),
            shown: Version::new(shown).expect("in range"),
        };
        let part = Part {
            of: 3,
            followed_by: 1,
            refused: BTreeMap::from([(2, refused(0)), (7, refused(9))]),
        };
        let body = Body::decode(
            &Body {
                part: part.clone(),
                ..living()
            }
            .encode(),
        )
        .expect("written here");
        assert_eq!(body.part, part);
        assert_eq!(
            Body::decode(&living().encode()).expect("written here").part,
            Part::WHOLE
        );
    }

    #[test]
    fn a_part_without_the_versions_that_it_shows_is_read() {
        let mut body = living().encode();
        let part = cbor!({"n" => 1, "f" => 0, "x" => {1 => "told"}}).expect("CBOR");
        let mut stored: ciborium::Value = ciborium::from_reader(&*body).expect("CBOR");
        stored.as_map_mut().expect("a map").push(("p".into(), part));
        body.clear();
        ciborium::into_writer(&stored, &mut body).expect("written");
        let part = Body::decode(&body)
            .expect("as earlier versions sealed it")
            .part;
        assert_eq!(
            part.refused,
            BTreeMap::from([(
                1,
                StoredRefusal {
                    json: "told".into(),
                    shown: Version::NONE
                }
            )])
        );
    }

    #[test]
    fn a_deletion_reads_back_as_written() {
        let Content::Living(item) = living().content else {
            panic!("it lives")
        };
        let content = Content::Deleted {
            kind: item.kind,
            id: item.id,
            updated_at: Timestamp::from_millis(9),
        };
        let body = Body::decode(
            &Body {
                content,
                ..living()
            }
            .encode(),
        )
        .expect("written here");
        let Content::Deleted {
            kind,
            id,
            updated_at,
        } = body.content
        else {
            panic!("it is gone")
        };
        assert_eq!(
            (kind, id.as_str(), updated_at.millis()),
            (Kind::Text, "note", 9)
        );
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(Body::decode(b"").err(), Some(SealError::Malformed));
        assert_eq!(Body::decode(b"\xa0").err(), Some(SealError::Malformed));
    }
}
