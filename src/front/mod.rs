//! The connection on which a worker answers callers.
//!
//! Everything that arrives here was written by a caller. The server passes on what it does not
//! understand: malformed header blocks, subjects that are not UTF-8. The published client ends its
//! connection over some of it. This connection therefore has a reader of its own, for which nothing
//! that a caller writes is an error:
//!
//! ```text
//!               one link                 the task                      the handles
//!
//! server ─► socket ─► decoder ─► drive ─► receive ─► registry ─► subscription ─► worker
//!                                                                                   │
//! server ◄─ socket ◄──────────── drive ◄──────────── outbox ◄──── connection ◄──────┘
//! ```
//!
//! - `decoder`, `headers`, `protocol`: what a server sends. `encoder`: what a client sends. None of
//!   them does input or output.
//! - `login`, `tls`, `server`: the worker's identity, and the servers that it connects to.
//! - `link`: one connection to one server. `socket`: its two halves.
//! - `task`: the connection that outlives lost links. `drive` is its loop over one link, with
//!   `receive` for what the server sends and `execute` for what handles ask. `reconnect` opens the
//!   next link after a loss, `replace` changes over to another link without a loss, and `drain`
//!   reads the replaced one to its end.
//! - `registry`, `subscription`, `outbox`: the bounded queues on either side of the task.
//!
//! The connection subscribes and publishes, and does nothing else: no requests, no inboxes, no
//! JetStream. It never retries a message: a message is sent once or, if its connection is lost on
//! the way, perhaps not at all. It never waits for a reader: when the queue of a subscription is
//! full, the newest message is dropped and counted.

mod connection;
mod context;
mod decoder;
mod drain;
mod drive;
mod encoder;
mod error;
mod execute;
mod headers;
mod link;
mod login;
mod outbox;
mod pool;
mod protocol;
mod receive;
mod reconnect;
mod registry;
mod replace;
mod server;
mod server_error;
mod session;
mod settings;
mod shared;
mod socket;
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
pub use pool::{denied_delay, reconnect_delay};
pub use protocol::{Message, ProtocolError, RawSubject, ServerInfo};
pub use server::InvalidUrl;
pub use settings::FrontSettings;
pub use state::{FrontCounters, FrontState, Refusal};
pub use subscription::Subscription;
pub use tls::{TlsError, TlsSettings};
