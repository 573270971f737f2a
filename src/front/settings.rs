//! How a worker connects.

use super::login::LoginSource;
use super::tls::TlsSettings;
use std::time::Duration;

/// How a worker connects.
#[derive(Clone, Debug)]
pub struct FrontSettings {
    /// The servers' URLs: `[nats://|tls://]host[:port]`.
    pub servers: Vec<String>,
    /// The connection's name, which operators see.
    pub name: String,
    /// Who the worker is.
    pub login: LoginSource,
    /// How TLS is done.
    pub tls: TlsSettings,
    /// How many messages of one subscription may wait in memory. More are dropped, and counted.
    pub queue_messages: usize,
    /// How many bytes of one subscription may wait in memory. More are dropped, and counted.
    pub queue_bytes: usize,
    /// How long a server may take to let the worker in.
    pub connect_timeout: Duration,
    /// How often the server is asked whether it is there. The connection is given up after two
    /// PINGs without an answer.
    pub ping_interval: Duration,
    /// Whether only the servers that are named here are connected to, and none that those name.
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
