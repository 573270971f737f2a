//! Hosting: keeping owners in this shard's Postgres.
//!
//! An owner is hosted from their first request on this shard ([`host`]). The projection then keeps their rows current
//! ([`projection`]); older versions follow in the background ([`backfill`]); a damaged copy is replaced ([`rebuild`]). A
//! worker remembers whom its shard hosts ([`presence`]) and tidies up beside its requests ([`housekeeping`]).

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
