//! How to connect to NATS: the servers, the credentials and TLS. Workers, the operators' commands
//! and the callers' commands share this module.

mod access;
mod credentials;
mod servers;

pub use crate::front::TlsSettings;
pub use access::{Access, AccessError};
pub use credentials::{Credentials, CredentialsError, Secret};
pub use servers::ServersError;
