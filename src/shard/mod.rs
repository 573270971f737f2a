//! The projection: this shard's Postgres, a versioned copy of the truth for the owners that the
//! shard hosts.
//!
//! This module is the only user of `sqlx`. A function runs one statement where it can, and is named
//! for its result. Rows come only from records of the truth; no function here takes anything that a
//! caller sent. Only `bare_rows` is no part of it: on a development platform it measures what a row
//! costs, in a table of its own.

#[cfg(feature = "dev")]
mod bare_rows;
mod cursor;
mod doubt;
mod earlier_request;
mod error;
mod error_text;
mod kept_versions;
mod long_histories;
mod new_copies;
mod owner;
mod owner_copy;
mod owner_state;
mod pooler;
mod pools;
mod projector;
mod records;
mod refusal;
mod rows;
mod schema;
mod settings;
mod shared_calls;
mod store;
mod together;
mod unhost;
mod versions;
mod writability;

#[cfg(feature = "dev")]
pub use bare_rows::{BareRow, BareRows};
pub use cursor::{Cursor, Projected, ProjectionPosition};
pub use doubt::CopyState;
pub use error::ShardError;
pub use owner_copy::HostingOutcome;
pub use owner_state::OwnerState;
pub use projector::{LockAttempt, ProjectError, Projector};
pub use refusal::Refusal;
pub use rows::{ItemRow, OwnerPlace, OwnerRows};
pub use settings::{ShardSettings, without_password};
pub use shared_calls::{HostedOwner, Hosting, OwnerCopy, PriorRequest};
pub use store::Store;
pub use unhost::Unhosted;
pub use versions::{EndedVersions, Life, VersionPosition};
