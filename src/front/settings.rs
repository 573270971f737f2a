//! The settings of a worker's connection.

use super::login::LoginSource;
use super::tls::TlsSettings;
use std::time::Duration;

/// The settings of a worker's connection.
#[derive(Clone, Debug)]
pub struct FrontSettings {
    /// The servers' URLs: `[nats://|tls://]host[:port]`.
    pub servers: Vec<String>,
    /// The name of the connection, which the server shows to operators.
    pub name: String,
    /// The credentials.
    pub login: LoginSource,
    /// The settings of TLS.
    pub tls: TlsSettings,
    /// The most messages of one subscription that may wait in memory. More are dropped and counted.
    pub queue_messages: usize,
    /// The most bytes of one subscription that may wait in memory. More are dropped and counted.
    pub queue_bytes: usize,
    /// The time limit for one server to accept the connection.
    pub connect_timeout: Duration,
    /// The time between two PINGs. The connection is given up after two PINGs without an answer.
    pub ping_interval: Duration,
    /// Whether to connect to the servers named here only, and to none that those servers name.
    pub ignore_discovered: bool,
}

impl Default for FrontSettings {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            name: String::new(),
            login: LoginSource::default(),
            tls: TlsSettings::default(),
            queue_messages: 65_536,
            queue_bytes: 64 << 20,
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            ignore_discovered: false,
        }
    }
}
