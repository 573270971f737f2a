//! Hosting: keeping owners in this shard's Postgres.
//!
//! A shard hosts an owner from the owner's first request on ([`host`]). The projection then keeps
//! the rows current ([`projection`]). Older versions follow in the background ([`backfill`]). A
//! damaged copy is replaced ([`rebuild`]), and so is one in doubt ([`doubts`]). The operators' tools
//! host many owners at once ([`several`]). A worker remembers which owners its shard hosts
//! ([`presence`]), and does small tasks between requests ([`housekeeping`], [`long_histories`]).

mod backfill;
mod doubts;
mod host;
mod housekeeping;
mod long_histories;
mod passing;
mod presence;
mod projection;
mod rebuild;
mod several;
mod source;
mod step_size;

pub(super) use backfill::Backfill;
pub(super) use doubts::UnmarkedLosses;
pub(super) use host::{HostingReason, hosting_permits};
pub(super) use long_histories::LongHistories;
pub(super) use presence::Presence;
pub use rebuild::Loss;
