//! The projection: this shard's Postgres, a versioned copy of the truth for the owners whom the shard hosts.
//!
//! This room is the only user of `sqlx`. One statement a function, each named for its result. Rows come from records of
//! the truth only; no function here takes anything that a caller sent.

mod cursor;
mod owner;
mod pools;
mod projector;
mod records;
mod request;
mod rows;
mod store;
mod unhost;
mod versions;
mod whole;

pub use cursor::{Cursor, Passed, Reached};
pub use owner::{HostedOwner, Hosting};
pub use projector::{ProjectFault, Projector, Waiting};
pub use request::Earlier;
pub use rows::{ItemRow, OwnerRows};
pub use store::{ShardFault, ShardSettings, Store, without_password};
pub use unhost::Unhosted;
pub use versions::Life;
pub use whole::{Completed, Whole};
