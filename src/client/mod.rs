//! A client of the service, for other programs. It needs nothing of the server: build the library
//! with `default-features = false, features = ["client"]`.
//!
//! The program connects to NATS as it likes, and gives the connection to [`Client::new`]. The
//! client sends requests over it, and reads the replies into types.
//!
//! - **Writes are executed once.** Each one carries a request id. If no reply comes, the client
//!   sends the write again under the same id, until its outcome is known or the time is up
//!   ([`ClientError::InDoubt`]).
//! - **Reads show one's own writes.** Each read asks for at least the version that this client has
//!   seen, on whichever shard ([`Client::on_shard`]).
//! - **Changes are followed without a gap.** [`Client::changes`] waits for notifications, continues
//!   from a stored [`Position`], and says when the caller has to compare everything
//!   ([`Change::Resync`]).
//!
//! `examples/rust/favourites.rs` shows all of it, and `docs/contract.md` describes each operation.

mod changes;
mod error;
mod model;
mod operations;
mod request;
mod seen;

pub use changes::{Change, Changes, Position};
pub use error::{ClientError, Refused};
pub use model::{
    BatchMode, BatchOperation, BatchResult, CodeList, Consistency, Content, Filter, Instrument,
    Item, ItemName, Otp, OtpCode, OtpVerdict, Put, Read, Tag, TakenCode, Usage, UsedOf, Written,
};
pub use request::Client;

#[cfg(feature = "server")]
pub(crate) use changes::ChangeSet;
