//! Ports on the loopback interface.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// The port `usual` if it is free, else any that is. It is not kept: somebody else may take it first.
pub fn free_port(usual: Option<u16>) -> anyhow::Result<u16> {
    let usual = usual.filter(|port| is_free(*port));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, usual.unwrap_or(0)));
    let listener = match listener {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
    };
    Ok(listener.local_addr()?.port())
}

/// Whether nobody answers there. Where a server listens on all addresses, some systems still let us bind to this one.
pub(super) fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err()
        && TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_given() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        assert_ne!(free_port(Some(port)).expect("another"), port);
    }
}
