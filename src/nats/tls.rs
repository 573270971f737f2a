//! TLS to the NATS servers.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// TLS to the NATS servers. The client reads the files again each time that it connects.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Whether a server that does not offer TLS is refused.
    pub required: bool,
    /// A PEM file of the authorities that may sign servers' certificates; empty: those of the
    /// operating system.
    pub ca_file: PathBuf,
    /// A PEM file of the client's certificate; empty: none.
    pub cert_file: PathBuf,
    /// A PEM file of the key of that certificate.
    pub key_file: PathBuf,
}

impl TlsSettings {
    /// Returns whether a certificate comes with its key, or neither is given.
    pub fn is_consistent(&self) -> bool {
        self.cert_file.as_os_str().is_empty() == self.key_file.as_os_str().is_empty()
    }
}
