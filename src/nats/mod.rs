//! How to reach NATS: the servers, the credentials and TLS. Workers, the operators' commands and
//! the callers' commands use the same ones.

mod access;
mod credentials;
mod servers;

pub use crate::front::TlsSettings;
pub use access::{Access, AccessError};
pub use credentials::{Credentials, CredentialsError, Secret};
pub use servers::ServersError;
