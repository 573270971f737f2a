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

/// The calls that wait to be made together.
#[derive(Clone)]
pub(super) struct SharedCalls {
    pub earlier_requests: Together<Question, PriorRequest>,
    pub beginnings: Together<OwnerKey, Shared<Hosting>>,
    pub completions: Together<OwnerCopy, Shared<bool>>,
}

impl Default for SharedCalls {
    fn default() -> Self {
        Self {
            earlier_requests: Together::new(SEARCHES_MAX),
            beginnings: Together::new(BEGINNINGS_MAX),
            completions: Together::new(COMPLETIONS_MAX),
        }
    }
}

/// The answer to one of several who share the error of a call.
pub(super) type Shared<T> = Result<T, Arc<ShardError>>;

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
