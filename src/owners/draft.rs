//! The vocabulary of a write: what a handler wants written, and what became of it.

use super::OpenedItem;
use crate::domain::{ItemId, KindName, Version};
use crate::seal::{Content, NewContent, StoredRefusal};
use crate::shard::Projected;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Which items a write is about, and how a repeat of it is recognised.
pub struct Intent {
    /// Each item's kind and id; without an id the service chooses one.
    pub items: Vec<(KindName, Option<ItemId>)>,
    /// The caller's request id, and the canonical bytes of the request.
    pub request: Option<(String, Zeroizing<Vec<u8>>)>,
    /// Whether it may write any of the owner's items.
    pub any_item: bool,
    /// Whether it cannot wait until a bucket that is nearly full has room again.
    pub is_urgent: bool,
}

impl Intent {
    /// A write of these items.
    pub fn about(
        items: Vec<(KindName, Option<ItemId>)>,
        request: Option<(String, Zeroizing<Vec<u8>>)>,
    ) -> Self {
        Self {
            items,
            request,
            any_item: false,
            is_urgent: false,
        }
    }

    /// The same, to be taken by a bucket that is nearly full.
    pub fn urgent(self) -> Self {
        Self {
            is_urgent: true,
            ..self
        }
    }
}

/// What a handler decides on an owner's state.
pub enum Decision<R> {
    /// Write this.
    Write(Draft),
    /// Refuse the request, for the reason that the handler gives.
    Refuse(R),
}

/// The records that a handler wants written, all of them or none.
pub struct Draft {
    /// The items as they will be, or their deletions, in the order of their versions. At least one,
    /// and no item twice.
    pub contents: Vec<NewContent>,
    /// The refused operations of the same request, by their place in it. They are stored with the
    /// write if it has a request id, so that a repeat of the request gets the same answer.
    pub refused: BTreeMap<u16, StoredRefusal>,
}

impl Draft {
    /// A draft of one item.
    pub fn one(content: NewContent) -> Self {
        Self {
            contents: vec![content],
            refused: BTreeMap::new(),
        }
    }

    /// Returns whether it only deletes. The refusals that are kept with a batch take room too.
    pub(super) fn only_deletes(&self) -> bool {
        self.refused.is_empty()
            && self
                .contents
                .iter()
                .all(|new| matches!(new.content, Content::Deleted { .. }))
    }
}

/// A stored refusal, with the item that it shows.
pub struct RecalledRefusal {
    /// The refusal in JSON, without the item.
    pub json: String,
    /// The item that the refusal shows, if that version is still kept.
    pub shown: Option<OpenedItem>,
}

/// A write that the bucket has acknowledged.
pub struct WriteReceipt {
    /// The written items with their versions, at least one, in the order in which they were
    /// written.
    pub items: Vec<Arc<OpenedItem>>,
    /// The refused operations of the same request.
    pub refused: BTreeMap<u16, RecalledRefusal>,
    /// Whether this shard's Postgres has the rows too.
    pub local: Projected,
}

impl WriteReceipt {
    /// The owner's version that the write made.
    pub fn owner_version(&self) -> Version {
        newest(&self.items)
    }
}

/// How a write ended, unless it ended in an [`OwnersError`](super::OwnersError).
pub enum Outcome<R> {
    /// The bucket has acknowledged it.
    Written(Box<WriteReceipt>),
    /// The handler refused it, on a state that the bucket has confirmed.
    Refused(R),
    /// It is neither done nor refused by the handler.
    Failed(WriteFailure),
}

/// Why a write is neither done nor refused by the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// The caller has used the request id for another request.
    RequestIdReused,
    /// It was done before, but not all that it wrote is still kept. With the owner's version.
    Forgotten(Version),
    /// It lost more races to other writers than it may retry.
    TooManyRaces,
    /// The bucket is full.
    Full,
    /// It needs a batch, and the bucket had too many of them open until the caller's time was up.
    TooManyBatches,
    /// It would write more bytes than one write may have.
    TooLarge {
        /// The bytes that it would write.
        used: usize,
        /// The bytes that it may write.
        limit: usize,
    },
    /// The caller's time was up, and nothing of the write has landed or can land.
    OutOfTime,
    /// It was sent, and no acknowledgement came: it may have landed, or may land yet. Or it is a
    /// repeat of a write that was done, and there was no time left to compose its answer.
    InDoubt,
}

impl<R> From<WriteFailure> for Outcome<R> {
    fn from(failure: WriteFailure) -> Self {
        Self::Failed(failure)
    }
}

/// The version of the newest of these items.
pub(super) fn newest(items: &[Arc<OpenedItem>]) -> Version {
    items.last().map(|item| item.version).unwrap_or_default()
}
