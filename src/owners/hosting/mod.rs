//! Hosting: keeping owners in this shard's Postgres.
//!
//! A shard hosts an owner from the owner's first request on ([`host`]). The projection then keeps
//! the rows current ([`projection`]). Older versions follow in the background ([`backfill`]). A
//! damaged copy is replaced ([`rebuild`]). A worker remembers which owners its shard hosts
//! ([`presence`]), and does small tasks between requests ([`housekeeping`]).

mod backfill;
mod host;
mod housekeeping;
mod presence;
mod projection;
mod rebuild;

pub(super) use backfill::Backfill;
pub(super) use host::{HostingReason, hosting_permits};
pub(super) use presence::Presence;
pub use rebuild::Loss;
