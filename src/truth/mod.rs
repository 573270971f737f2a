//! The truth: the JetStream key-value bucket in which every write is decided.
//!
//! This module is the only user of JetStream. It identifies records by name and version, and opens
//! none of them. Every write is a compare-and-set on the owner's version, built in one place
//! (`append`). No function here deletes or recreates a bucket. Records are removed in one place
//! (`purge`), by a NATS user of its own.

mod account;
mod answer_size;
mod api;
mod append;
mod append_first;
mod barrier;
mod bucket;
mod consumer;
mod error;
mod fetch;
mod first_writes;
mod follow;
mod fullness;
mod kept;
mod lineage;
mod list;
mod marks;
mod newest;
mod owner_write;
mod probe;
mod pull;
mod purge;
mod settings;
mod setup;
mod shared_answer;
mod size;
mod snapshot;
mod stored;

pub use append::BATCH_RECORDS_MAX;
pub use bucket::Bucket;
pub use error::TruthError;
pub use fetch::{Delta, SeveralOwners};
pub use follow::{Entry, Follower};
pub use fullness::{AccountFill, BucketFill};
pub use kept::{KeptList, KeptRecord};
pub use lineage::Lineage;
pub use list::{OwnerList, RecordList};
pub use marks::losses;
pub use owner_write::{AppendError, NewRecord, OwnerWrite};
pub use settings::TruthSettings;
pub use setup::{InitOutcome, Position, SetupError, Stored};
pub use snapshot::{CHUNK_BYTES, Restore, Snapshot};
pub use stored::StoredMessage;
