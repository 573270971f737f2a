//! The sealed content of an item's record in format 1: one CBOR value.

use super::record::SealError;
use super::stored::{StoredPart, put, take};
use super::{Body, Content, Part, RequestHash, TAG_BYTES, Tail};
use crate::domain::{Data, Item, ItemId, Kind, Meta, Place, Tags, Timestamp, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The stored form of a body. Its names are short because every record repeats them.
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

/// The stored form of what only an item that is not deleted has.
#[derive(Serialize, Deserialize)]
struct StoredItem {
    d: Data,
    m: Meta,
    t: Tags,
    c: Timestamp,
}

/// Returns the bytes to seal, with room for the tag.
///
/// # Errors
///
/// [`SealError::Malformed`] for an item with something hidden, or of an unknown kind: this format
/// has neither.
pub(super) fn encode(body: &Body, tail: &Tail<'_>) -> Result<Vec<u8>, SealError> {
    let kind = body.content.kind().known();
    let kind = kind
        .filter(|kind| !kind.has_secrets() && matches!(tail, Tail::Shown))
        .ok_or(SealError::Malformed)?;

    let (updated_at, item) = match &body.content {
        Content::Deleted { updated_at, .. } => (*updated_at, None),
        Content::Living(item) => {
            let stored = StoredItem {
                d: item.data.clone().ok_or(SealError::Malformed)?,
                m: item.meta.clone(),
                t: item.tags.clone(),
                c: item.created_at,
            };
            (item.updated_at, Some(stored))
        }
    };
    let part = Part {
        records: None,
        ..body.part.clone()
    };
    let is_of_one = part.of == 1 && part.refused.is_empty();

    let stored = StoredBody {
        o: body.operation.as_u128(),
        s: body.shard.clone(),
        b: body.born.get(),
        r: body.born_request.map(|hash| *hash.as_bytes()),
        k: kind,
        i: body.content.id().clone(),
        u: updated_at,
        l: item,
        p: (!is_of_one).then(|| StoredPart::of(&part)),
    };
    let mut out = Vec::new();
    put(&mut out, &stored)?;
    out.reserve_exact(TAG_BYTES);
    Ok(out)
}

/// Decodes the bytes that were sealed. The item's place is not in them.
///
/// # Errors
///
/// [`SealError::Malformed`] if the bytes are not a body of this format.
pub(super) fn decode(plain: &[u8]) -> Result<Body, SealError> {
    let stored: StoredBody = take(&mut &plain[..])?;
    let kind = stored.k.into();
    let id = stored.i;
    let updated_at = stored.u;

    let content = match stored.l {
        None => Content::Deleted {
            kind,
            id,
            updated_at,
        },
        Some(StoredItem { d, m, t, c }) => Content::Living(Item {
            kind,
            id,
            data: Some(d),
            meta: m,
            tags: t,
            place: Place::of_creation(0, 0),
            created_at: c,
            updated_at,
        }),
    };
    let of_one = Part {
        records: None,
        ..Part::WHOLE
    };

    Ok(Body {
        operation: Uuid::from_u128(stored.o),
        shard: stored.s,
        born: Version::new(stored.b).ok_or(SealError::Malformed)?,
        born_request: stored.r.map(RequestHash::from_bytes),
        part: stored.p.map_or(Ok(of_one), StoredPart::read)?,
        content,
    })
}
