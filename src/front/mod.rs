//! The connection on which a worker answers callers.
//!
//! Everything that arrives here was written by a caller, and the server passes on what it does not
//! understand: header blocks that are none, subjects that are not UTF-8. The published client ends
//! its connection over some of it. So this connection has a reader of its own, for which nothing
//! that a caller writes is an error:
//!
//! ```text
//! socket ─► link ─► decoder ─► task ─► registry ─► subscription ─► worker
//!             ▲                                                      │
//!             └──────────── outbox ◄──────────────── publish ◄───────┘
//! ```
//!
//! - `decoder`, `headers`, `protocol`: what a server sends. `commands`: what a client sends. No
//!   input or output.
//! - `login`, `tls`, `server`: who the worker is to which server.
//! - `link`: one connection to one server. `task`: the connection that goes on over links that are
//!   lost.
//! - `registry`, `subscription`, `outbox`: the bounded queues on either side of it.
//!
//! It subscribes and publishes, and does nothing else: no requests, no inboxes, no JetStream. It
//! never retries a message: one is sent once or, if its connection is lost under way, perhaps not
//! at all. It never waits for a reader: when the queue of a subscription is full, its newest
//! message is dropped and counted.

mod commands;
mod connection;
mod decoder;
mod drain;
mod error;
mod headers;
mod link;
mod login;
mod outbox;
mod pool;
mod protocol;
mod registry;
mod server;
mod server_error;
mod session;
mod settings;
mod shared;
mod state;
mod subscription;
mod task;
mod tls;

#[cfg(test)]
mod tests;

pub use connection::Front;
pub use error::{Disconnected, FrontError, InvalidSubject, PublishError};
pub use headers::{HeaderBlock, InvalidHeader, Unreadable};
pub use login::{Login, LoginSource};
pub use protocol::{Message, ProtocolError, RawSubject, ServerInfo};
pub use server::InvalidUrl;
pub use settings::FrontSettings;
pub use state::{FrontCounters, FrontState, Refusal};
pub use subscription::Subscription;
pub use tls::{TlsError, TlsSettings};
