//! The connection on which a worker answers callers.
//!
//! Everything that arrives here was written by a caller, and the server passes on what it does not understand: header
//! blocks that are none, subjects that are not UTF-8. So nothing that a caller writes is an error for its reader.

mod auth;
mod commands;
mod decoder;
mod headers;
mod nkey;
mod protocol;

pub use auth::{Credential, CredentialError, Credentials};
pub use headers::{HeaderBlock, InvalidHeader};
pub use nkey::InvalidSeed;
pub use protocol::{Message, ProtocolError, RawSubject, ServerInfo, Unreadable};
