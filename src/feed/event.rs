//! What a feed shows.

use super::position::Position;
use crate::client::Item;
use crate::domain::Timestamp;
use crate::seal::UserId;

/// What comes next in the bucket.
#[derive(Clone, Debug)]
pub enum Event {
    /// An item was written or deleted. It is the item's state at that time: newer ones may follow.
    Change(Box<Change>),
    /// What the program holds of this owner may contain items that no longer exist: their deletions
    /// are forgotten. Drop all of it. The owner's items follow.
    Resync {
        /// The owner's name in the bucket.
        owner: String,
    },
    /// A record, or all that an owner has, cannot be used.
    Unusable(Unusable),
    /// Everything up to here was shown: keep the position, to continue from it later.
    Reached {
        /// Where a later feed continues.
        position: Position,
        /// About how many messages of the bucket are still to come; 0 once the feed has caught up.
        behind: u64,
    },
}

/// An item as one write has left it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The owner's name in the bucket: 22 characters, which identify nobody without the keys.
    pub owner: String,
    /// Who the owner is.
    pub user: UserId,
    /// The item as replies show it. Its version is the message's sequence in the bucket's stream.
    pub item: Item,
    /// The item's version before this one; 0 if it had none.
    pub previous: u64,
    /// When the bucket stored the record.
    pub stored_at: Timestamp,
    /// The shard that wrote it.
    pub shard: String,
}

/// What cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The owner's name in the bucket.
    pub owner: String,
    /// The sequence of the record in the bucket's stream.
    pub sequence: u64,
    /// Why, for people.
    pub reason: String,
}
