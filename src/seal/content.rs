//! What an item's record contains, and what a write makes of an item.

use super::RequestHash;
use crate::domain::{Hidden, Item, ItemId, KindName, Timestamp, Version, opaque_debug};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The head of an item's record, and the data that replies show.
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

/// What follows the head of a record that is to be sealed.
pub enum Tail<'t> {
    /// The data of the item, and nothing hidden.
    Shown,
    /// The data of the item, and what replies hide; of a deletion only the latter.
    Hidden(&'t Hidden),
    /// These bytes, which another record of the item had there.
    Kept(&'t [u8]),
}

/// A record's place in its write. The records of a write have consecutive versions, so each of them
/// leads to all the others. The items come last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number of records in the write, those that are no items included; `None` in format 1,
    /// which does not state it.
    pub records: Option<u16>,
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
        records: Some(1),
        of: 1,
        followed_by: 0,
        refused: BTreeMap::new(),
    };
}

/// An item, or the deletion of one.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all contents are living items"
)]
pub enum Content {
    /// The item exists.
    Living(Item),
    /// The item was deleted.
    Deleted {
        /// The item's kind.
        kind: KindName,
        /// The item's id.
        id: ItemId,
        /// The time of the deletion.
        updated_at: Timestamp,
    },
}

impl Content {
    /// The kind of the item.
    pub fn kind(&self) -> &KindName {
        match self {
            Self::Living(item) => &item.kind,
            Self::Deleted { kind, .. } => kind,
        }
    }

    /// The id of the item.
    pub fn id(&self) -> &ItemId {
        match self {
            Self::Living(item) => &item.id,
            Self::Deleted { id, .. } => id,
        }
    }
}

/// An item as a write will leave it, or its deletion.
#[derive(Clone)]
pub struct NewContent {
    /// What replies show.
    pub content: Content,
    /// What they hide.
    pub hidden: NewHidden,
}

/// What a write makes of the part that replies hide.
#[derive(Clone)]
pub enum NewHidden {
    /// There is nothing.
    None,
    /// Data and hidden part stay as the item's current record has them, whatever they are.
    Kept,
    /// This takes its place.
    New(Hidden),
}

opaque_debug!(Body, NewContent, NewHidden);

impl From<Content> for NewContent {
    /// An item or a deletion that hides nothing.
    fn from(content: Content) -> Self {
        Self {
            content,
            hidden: NewHidden::None,
        }
    }
}
