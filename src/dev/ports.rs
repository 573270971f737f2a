//! Ports on the loopback interface.

use std::net::TcpListener;

/// The port `usual` if it is free, else any that is.
pub fn free_port(usual: Option<u16>) -> anyhow::Result<u16> {
    let bound = usual.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let listener = match bound {
        Some(listener) => listener,
        None => TcpListener::bind(("127.0.0.1", 0))?,
    };
    Ok(listener.local_addr()?.port())
}
