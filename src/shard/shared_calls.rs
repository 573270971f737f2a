//! The calls that are made together for several requests: what they ask and what they answer.

use super::error::ShardError;
use super::together::Together;
use crate::seal::{OwnerKey, Record, RequestHash};
use std::sync::Arc;

/// The most searches for an earlier request in one statement.
const SEARCHES_MAX: usize = 16;
/// The most owners whose hosting begins in one transaction.
const BEGINNINGS_MAX: usize = 64;
/// The most owners whose hosting is completed in one transaction, for requests.
const COMPLETIONS_MAX: usize = 32;
/// The most owners whose copies are read in one statement, and the most such statements at a time: a
/// heavy owner takes long, and others need not wait for that.
const READ_OWNERS_MAX: usize = 8;
const READS_MAX: usize = 4;

/// The calls that wait to be made together.
#[derive(Clone)]
pub(super) struct SharedCalls {
    pub earlier_requests: Together<Question, PriorRequest>,
    pub beginnings: Together<OwnerKey, Shared<Hosting>>,
    pub completions: Together<OwnerCopy, Shared<bool>>,
    pub copies: Together<OwnerKey, ReadCopy>,
}

impl Default for SharedCalls {
    fn default() -> Self {
        Self {
            earlier_requests: Together::new(SEARCHES_MAX),
            beginnings: Together::new(BEGINNINGS_MAX),
            completions: Together::new(COMPLETIONS_MAX),
            copies: Together::with_calls(READ_OWNERS_MAX, READS_MAX),
        }
    }
}

/// The answer to one of several who share the error of a call.
pub(super) type Shared<T> = Result<T, Arc<ShardError>>;

/// The copy that the shard has of an owner, if any.
pub(super) type ReadCopy = Result<Result<Option<HostedOwner>, ShardError>, ReadFailure>;

/// No copy was read.
pub(super) struct ReadFailure {
    pub error: Arc<ShardError>,
    /// Whether others were read in the same statement.
    pub others: bool,
}

/// Whether the owner has a record of the request with that id.
pub(super) type Question = (OwnerKey, RequestHash);

/// What this shard knows about a request id.
pub enum PriorRequest {
    /// The newest record that the request wrote.
    Found(Box<Record>),
    /// No record up to this stream sequence came from the request: the shard has every version of
    /// the owner's items that the bucket keeps.
    NotUpTo(u64),
    /// This shard does not have enough of the owner's history to tell, or its Postgres does not
    /// answer.
    Unknown,
}

/// What the first step of hosting found.
#[derive(Clone, Copy)]
pub struct Hosting {
    /// The projection's cursor when the owner's row was inserted or reset. The projection stores
    /// every later record of the owner.
    pub begun_at: u64,
}

/// This shard's complete copy of an owner.
pub struct HostedOwner {
    /// The owner's current records, as of one moment.
    pub records: Vec<Record>,
    /// Whether every version that the bucket keeps of the owner's items is stored here too.
    pub history_complete: bool,
    /// Whether the projection leaves the copy as it is, because the bucket has gone on from another
    /// state.
    pub is_in_doubt: bool,
}

/// An owner's complete set, as the truth has it.
pub struct OwnerCopy {
    /// The owner.
    pub owner: OwnerKey,
    /// The bucket's name.
    pub bucket: String,
    /// The owner's current records.
    pub records: Vec<Record>,
    /// The stream sequence up to which the records are complete.
    pub up_to: u64,
}
