//! Where a server is: its URL, read.

use std::net::IpAddr;

/// The port of a URL that names none.
const USUAL_PORT: u16 = 4222;

/// A server that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// A name or an address, an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Whether a connection without TLS is none.
    pub needs_tls: bool,
    /// The name that its certificate has, where that is not `host`.
    pub tls_name: Option<String>,
}

/// A text that is not a server's URL. The text is not shown, because it may hold a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server's URL must be [nats://|tls://]host[:port]")]
pub struct InvalidUrl;

impl Server {
    /// Reads a URL: `nats://`, `tls://` or no scheme, and no user.
    pub fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.trim().split_once("://").unwrap_or(("nats", url.trim()));
        let needs_tls = match scheme.to_ascii_lowercase().as_str() {
            "nats" => false,
            "tls" => true,
            _ => return Err(InvalidUrl),
        };

        let place = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = parse_place(place)?;
        Ok(Self {
            host: host.to_owned(),
            port,
            needs_tls,
            tls_name: None,
        })
    }

    /// A server that this one named: `host:port`. It is as this one is: with TLS if the connection
    /// to this one has it, and with this one's name in its certificate if it is named by its
    /// address alone.
    pub fn discovered(&self, place: &str, has_tls: bool) -> Result<Self, InvalidUrl> {
        let mut other = Self::parse(place)?;
        other.needs_tls |= has_tls;
        if is_address(&other.host) {
            other.tls_name = Some(self.tls_name().to_owned()).filter(|name| !is_address(name));
        }
        Ok(other)
    }

    /// The name that its certificate has.
    pub fn tls_name(&self) -> &str {
        self.tls_name.as_deref().unwrap_or(&self.host)
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whether both are at the same place.
    pub fn is_at(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

fn parse_place(place: &str) -> Result<(&str, u16), InvalidUrl> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(InvalidUrl)?;
            let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
            is_address.then_some(()).ok_or(InvalidUrl)?;
            (
                host,
                port.strip_prefix(':').or(port.is_empty().then_some("")),
            )
        }
        None => {
            let (host, port) = place.split_once(':').unwrap_or((place, ""));
            (host, Some(port))
        }
    };

    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_allowed) {
        return Err(InvalidUrl);
    }
    let port = match port.ok_or(InvalidUrl)? {
        "" => USUAL_PORT,
        port => port.parse().map_err(|_| InvalidUrl)?,
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(url: &str) -> Server {
        Server::parse(url).expect("a URL")
    }

    #[test]
    fn a_url_is_read() {
        for (url, place, needs_tls) in [
            ("nats://a.b:1", "a.b:1", false),
            ("a", "a:4222", false),
            ("10.0.0.1:5", "10.0.0.1:5", false),
            ("tls://a/", "a:4222", true),
            (" NATS://[::1]:7 ", "[::1]:7", false),
            ("[::1]", "[::1]:4222", false),
        ] {
            let server = server(url);
            assert_eq!(
                (server.place(), server.needs_tls),
                (place.into(), needs_tls)
            );
        }
    }

    #[test]
    fn what_is_no_url_is_refused_and_not_shown() {
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
    fn a_discovered_server_is_as_the_one_that_named_it() {
        let named = server("nats://nats.example:1");

        let address = named.discovered("10.0.0.1:4", true).expect("a place");
        assert!(address.needs_tls);
        assert_eq!(address.tls_name(), "nats.example");

        let name = named.discovered("other.example:4", false).expect("a place");
        assert!(!name.needs_tls);
        assert_eq!(name.tls_name(), "other.example");

        let third = address.discovered("10.0.0.2:4", true).expect("a place");
        assert_eq!(third.tls_name(), "nats.example");
    }

    proptest! {
        #[test]
        fn any_text_is_a_url_or_none(url in "(nats://)?[a-z:@%\\[\\]./é]{0,30}") {
            let _ = Server::parse(&url);
        }
    }
}
