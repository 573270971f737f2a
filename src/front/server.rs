//! The address of a server, parsed from a URL.

use std::net::{IpAddr, Ipv6Addr};

/// The port of a URL without a port.
const DEFAULT_PORT: u16 = 4222;

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// A name or an IP address; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Whether a connection without TLS is refused.
    pub needs_tls: bool,
    /// The name in its certificate, if that is not `host`.
    pub tls_name: Option<String>,
}

/// A text that is not a server's URL. The error does not quote it, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server's URL must be [nats://|tls://]host[:port]")]
pub struct InvalidUrl;

impl Server {
    /// Parses a URL: `nats://`, `tls://` or no scheme, and no user.
    pub fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.trim().split_once("://").unwrap_or(("nats", url.trim()));
        let needs_tls = match scheme.to_ascii_lowercase().as_str() {
            "nats" => false,
            "tls" => true,
            _ => return Err(InvalidUrl),
        };

        let address = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = parse_address(address)?;

        Ok(Self {
            host: host.to_owned(),
            port,
            needs_tls,
            tls_name: None,
        })
    }

    /// Parses the `host:port` of a server that this one names. The other server needs TLS if the
    /// connection to this one has it. If it is named by an IP address, its certificate has to have
    /// this one's name.
    pub fn discovered(&self, address: &str, has_tls: bool) -> Result<Self, InvalidUrl> {
        let mut other = Self::parse(address)?;

        other.needs_tls |= has_tls;
        if is_ip(&other.host) {
            other.tls_name = Some(self.tls_name().to_owned()).filter(|name| !is_ip(name));
        }
        Ok(other)
    }

    /// Returns the name in its certificate.
    pub fn tls_name(&self) -> &str {
        self.tls_name.as_deref().unwrap_or(&self.host)
    }

    /// Returns its `host:port`.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Returns whether both have the same host and port.
    pub fn has_same_address(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

fn is_ip(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// Splits `host[:port]` or `[IPv6 address][:port]`.
fn parse_address(address: &str) -> Result<(&str, u16), InvalidUrl> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => parse_ipv6(rest)?,
        None => address.split_once(':').unwrap_or((address, "")),
    };

    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_allowed) {
        return Err(InvalidUrl);
    }

    let port = match port {
        "" => DEFAULT_PORT,
        port => port.parse().map_err(|_| InvalidUrl)?,
    };
    Ok((host, port))
}

/// Splits what follows the `[` of an IPv6 address: the address, and the port or nothing.
fn parse_ipv6(rest: &str) -> Result<(&str, &str), InvalidUrl> {
    let (host, rest) = rest.split_once(']').ok_or(InvalidUrl)?;
    if host.parse::<Ipv6Addr>().is_err() {
        return Err(InvalidUrl);
    }

    match rest.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if rest.is_empty() => Ok((host, "")),
        None => Err(InvalidUrl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(url: &str) -> Server {
        Server::parse(url).expect("a URL")
    }

    #[test]
    fn a_url_is_parsed() {
        for (url, address, needs_tls) in [
            ("nats://a.b:1", "a.b:1", false),
            ("a", "a:4222", false),
            ("10.0.0.1:5", "10.0.0.1:5", false),
            ("tls://a/", "a:4222", true),
            (" NATS://[::1]:7 ", "[::1]:7", false),
            ("[::1]", "[::1]:4222", false),
        ] {
            let server = server(url);

            assert_eq!(server.address(), address, "{url}");
            assert_eq!(server.needs_tls, needs_tls, "{url}");
        }
    }

    #[test]
    fn an_invalid_url_is_refused() {
        for url in [
            "",
            "nats://",
            "ws://a",
            "http://a",
            "a:x",
            "a:70000",
            "a:1:2",
            "a b",
            "[::1",
            "[::1]x",
            "[a]:1",
            "nats://u:p@a",
        ] {
            assert_eq!(Server::parse(url), Err(InvalidUrl), "{url}");
        }
    }

    #[test]
    fn a_discovered_server_inherits_tls_and_the_name() {
        let named = server("nats://nats.example:1");

        let by_ip = named.discovered("10.0.0.1:4", true).expect("an address");
        let by_name = named
            .discovered("other.example:4", false)
            .expect("an address");
        let third = by_ip.discovered("10.0.0.2:4", true).expect("an address");

        assert!(by_ip.needs_tls);
        assert_eq!(by_ip.tls_name(), "nats.example");
        assert!(!by_name.needs_tls);
        assert_eq!(by_name.tls_name(), "other.example");
        assert_eq!(third.tls_name(), "nats.example");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(url in "(nats://)?[a-z:@%\\[\\]./é]{0,30}") {
            let _ = Server::parse(&url);
        }
    }
}
