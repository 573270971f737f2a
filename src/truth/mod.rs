//! The truth: the JetStream key-value bucket in which every write is decided.
//!
//! This room is the only user of JetStream. It knows records by their names and versions and opens none of them. Every
//! write is a compare-and-set on the owner's version, built in one place (`append`). Nothing here ever deletes or
//! recreates a bucket; records leave it in one place (`purge`), by a user of its own.

mod append;
mod barrier;
mod bucket;
mod consumer;
mod fetch;
mod follow;
mod list;
mod pull;
mod purge;
mod setup;

pub use append::{AppendFault, NewRecord};
pub use bucket::{Bucket, TruthFault, TruthSettings};
pub use fetch::Delta;
pub use follow::{Entry, Follower};
pub use list::{OwnerList, RecordList};
pub use setup::{Position, SetupFault};
