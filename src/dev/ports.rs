//! Ports on the loopback interface.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// The port of the first NATS server if it is free; that of each further one is the next.
pub(super) const USUAL_NATS_PORT: u16 = 4222;
/// The port of Postgres if it is free.
pub(super) const USUAL_POSTGRES_PORT: u16 = 5432;

/// Returns the port `usual` if it is free, else any free port. The port is not reserved: another
/// process may take it first.
pub fn free_port(usual: Option<u16>) -> anyhow::Result<u16> {
    let usual = usual.filter(|port| is_free(*port));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, usual.unwrap_or(0)));
    let listener = match listener {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
    };

    Ok(listener.local_addr()?.port())
}

/// Returns whether a port is free: no process listens on it, and this one can bind to it.
///
/// Binding alone is not enough: if a server listens on all addresses, some systems still let
/// another process bind to the loopback address.
pub(super) fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));

    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err()
        && TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_returned() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let used = listener.local_addr().expect("an address").port();

        let port = free_port(Some(used)).expect("another");

        assert_ne!(port, used);
    }
}
