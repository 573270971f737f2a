//! The sealed content of an item's record, and its form as bytes (CBOR, RFC 8949).
//!
//! In format 2 it is up to three values, one after the other:
//!
//! 1. the head: kind, id, place, tags, metadata, times, and what the service needs itself. Every
//!    reader understands it;
//! 2. the data that replies show, unless the item is deleted;
//! 3. what replies hide, if there is anything.
//!
//! A reader that does not know the kind reads the head, and carries the rest along as it is when it
//! writes the item again. So the head has the same fields for every kind, and never gains one.
//!
//! In format 1 it is one value, with the data in it (`body_format_one.rs`).

use super::body_format_one as format_one;
use super::envelope::ENVELOPE_BYTES;
use super::record::SealError;
use super::stored::{ByteCount, StoredPart, put, take};
use super::{
    Body, Content, Format, OwnerKey, OwnerKeys, Part, Record, RequestHash, TAG_BYTES, Tail,
};
use crate::domain::{Data, Hidden, Item, ItemId, KindName, Meta, Place, Tags, Timestamp, Version};
use serde::{Deserialize, Serialize};
use std::io;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The stored form of a head. Its names are short because every record repeats them.
#[derive(Serialize, Deserialize)]
struct StoredHead {
    o: u128,
    s: String,
    b: u64,
    r: Option<[u8; 16]>,
    k: KindName,
    i: ItemId,
    u: Timestamp,
    l: Option<StoredLife>,
    /// Absent in a write of one item and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<StoredPart>,
    /// Whether what follows the head of this deletion is what followed the head of the item: the
    /// worker that deleted it did not know the kind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    w: bool,
}

/// The stored form of what only an item that is not deleted has.
#[derive(Serialize, Deserialize)]
struct StoredLife {
    p: Place,
    t: Tags,
    m: Meta,
    c: Timestamp,
}

impl Body {
    /// Returns the bytes to seal, with room for the tag that sealing adds.
    ///
    /// # Errors
    ///
    /// [`SealError::Malformed`] if the format cannot hold the item.
    pub fn encode(&self, format: Format, tail: &Tail<'_>) -> Result<Vec<u8>, SealError> {
        if format == Format::One {
            return format_one::encode(self, tail);
        }

        // The size is known before anything is written, so that no copy of a secret is left behind
        // in a buffer that was too small.
        let mut out = Vec::with_capacity(self.encoded_bytes(tail)? + TAG_BYTES);
        self.write(&mut out, tail)?;

        Ok(out)
    }

    /// The size of the body in format 2, before it is sealed.
    fn encoded_bytes(&self, tail: &Tail<'_>) -> Result<usize, SealError> {
        let mut size = ByteCount::default();
        self.write(&mut size, tail)?;

        Ok(size.0)
    }

    fn write(&self, out: &mut impl io::Write, tail: &Tail<'_>) -> Result<(), SealError> {
        let (updated_at, life) = match &self.content {
            Content::Deleted { updated_at, .. } => (*updated_at, None),
            Content::Living(item) => {
                let life = StoredLife {
                    p: item.place.clone(),
                    t: item.tags.clone(),
                    m: item.meta.clone(),
                    c: item.created_at,
                };
                (item.updated_at, Some(life))
            }
        };

        let head = StoredHead {
            o: self.operation.as_u128(),
            s: self.shard.clone(),
            b: self.born.get(),
            r: self.born_request.map(|hash| *hash.as_bytes()),
            k: self.content.kind().clone(),
            i: self.content.id().clone(),
            u: updated_at,
            l: life,
            p: (self.part != Part::WHOLE).then(|| StoredPart::of(&self.part)),
            w: matches!(
                (&self.content, tail),
                (Content::Deleted { .. }, Tail::Kept(_))
            ),
        };
        put(out, &head)?;

        if let Tail::Kept(bytes) = tail {
            return out.write_all(bytes).map_err(|_| SealError::Malformed);
        }
        if let Content::Living(item) = &self.content {
            put(out, item.data.as_ref().ok_or(SealError::Malformed)?)?;
        }
        if let Tail::Hidden(hidden) = tail {
            put(out, hidden)?;
        }
        Ok(())
    }

    /// Decodes the bytes that were sealed in format 2. What replies hide is not decoded.
    fn decode(plain: &[u8]) -> Result<Self, SealError> {
        let mut rest = plain;
        let head: StoredHead = take(&mut rest)?;

        let content = match head.l {
            None => Content::Deleted {
                kind: head.k,
                id: head.i,
                updated_at: head.u,
            },
            Some(life) => {
                let data: Option<Data> = match head.k.known() {
                    Some(_) => Some(take(&mut rest)?),
                    None => None,
                };
                if data.as_ref().map(Data::kind) != head.k.known() {
                    return Err(SealError::Malformed);
                }
                Content::Living(Item {
                    kind: head.k,
                    id: head.i,
                    data,
                    meta: life.m,
                    tags: life.t,
                    place: life.p,
                    created_at: life.c,
                    updated_at: head.u,
                })
            }
        };

        Ok(Self {
            operation: Uuid::from_u128(head.o),
            shard: head.s,
            born: Version::new(head.b).ok_or(SealError::Malformed)?,
            born_request: head.r.map(RequestHash::from_bytes),
            part: head.p.map_or(Ok(Part::WHOLE), StoredPart::read)?,
            content,
        })
    }

    /// Opens an item's record and decodes its body, without what replies hide.
    ///
    /// # Errors
    ///
    /// As [`OwnerKeys::open`]; [`SealError::Malformed`] if the content is not a body.
    pub fn open(keys: &OwnerKeys, owner: &OwnerKey, record: &Record) -> Result<Self, SealError> {
        let plain = keys.open(owner, record)?;
        let mut body = match record.envelope.format {
            Format::One => format_one::decode(&plain)?,
            Format::Two => Self::decode(&plain)?,
        };

        if body.born.is_none() {
            body.born = record.version;
            body.born_request = record.envelope.request.map(|(id, _)| id);
        }
        if record.envelope.format == Format::One
            && let Content::Living(item) = &mut body.content
        {
            item.place = place_of_birth(body.born);
        }
        Ok(body)
    }

    /// Opens an item's record and decodes what replies hide; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_hidden(
        keys: &OwnerKeys,
        owner: &OwnerKey,
        record: &Record,
    ) -> Result<Option<Hidden>, SealError> {
        if record.envelope.format == Format::One {
            return Ok(None);
        }

        let plain = keys.open(owner, record)?;
        let mut rest = &plain[..];
        let head: StoredHead = take(&mut rest)?;
        if head.k.known().is_none() {
            return Ok(None);
        }
        if head.l.is_some() || head.w {
            let _: Data = take(&mut rest)?;
        }

        if rest.is_empty() {
            Ok(None)
        } else {
            take(&mut rest).map(Some)
        }
    }

    /// Opens an item's record and returns what follows its head, to be carried along; `None` in
    /// format 1, whose data are a part of the body.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_tail(
        keys: &OwnerKeys,
        owner: &OwnerKey,
        record: &Record,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        if record.envelope.format == Format::One {
            return Ok(None);
        }

        let plain = keys.open(owner, record)?;
        let mut rest = &plain[..];
        let _: StoredHead = take(&mut rest)?;
        Ok(Some(Zeroizing::new(rest.to_vec())))
    }
}

/// Opens an item's record, and returns its content for another record of the same item, in a write
/// of that many records of which this is the only item. Everything else stays as it is, also what
/// this version does not know.
///
/// # Errors
///
/// As [`Body::open`] and [`Body::encode`].
pub fn carried_over(
    keys: &OwnerKeys,
    owner: &OwnerKey,
    record: &Record,
    records: u16,
    format: Format,
) -> Result<Vec<u8>, SealError> {
    let mut body = Body::open(keys, owner, record)?;
    let part = Part {
        records: Some(records),
        of: 1,
        followed_by: 0,
        refused: body.part.refused.clone(),
    };
    if record.envelope.format == Format::One {
        body.part = part;
        return body.encode(format, &Tail::Shown);
    }

    let plain = keys.open(owner, record)?;
    let mut rest = &plain[..];
    let mut head: StoredHead = take(&mut rest)?;
    // A record that began the item's life does not say so, because it does not know its version.
    head.b = body.born.get();
    head.r = body.born_request.map(|hash| *hash.as_bytes());
    head.p = (part != Part::WHOLE).then(|| StoredPart::of(&part));

    let mut size = ByteCount::default();
    put(&mut size, &head)?;
    let mut out = Vec::with_capacity(size.0 + rest.len() + TAG_BYTES);
    put(&mut out, &head)?;
    out.extend_from_slice(rest);
    Ok(out)
}

/// The bytes of the record that seals this body.
///
/// # Errors
///
/// As [`Body::encode`].
pub fn record_bytes(body: &Body, format: Format, tail: &Tail<'_>) -> Result<usize, SealError> {
    let plain = match format {
        Format::One => format_one::encode(body, tail)?.len(),
        Format::Two => body.encoded_bytes(tail)?,
    };

    Ok(ENVELOPE_BYTES + plain + TAG_BYTES)
}

/// The place of an item of format 1, which has none of its own: that of the creation of an item at
/// that version. Only one write is made on top of a version, so it is no other item's place.
fn place_of_birth(born: Version) -> Place {
    Place::of_creation(born.get().saturating_sub(1), 0)
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
