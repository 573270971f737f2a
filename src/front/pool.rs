//! The servers to connect to, their order, and the delays between attempts.

use super::protocol::ServerInfo;
use super::server::{InvalidUrl, Server};
use std::time::Duration;

/// The most servers accepted from the list that a server sends.
const DISCOVERED_MAX: usize = 256;
/// The shortest delay before the connection is opened again.
const DELAY_MIN: Duration = Duration::from_millis(50);
/// The longest delay before the connection is opened again.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// The servers to connect to.
pub(super) struct Pool {
    named: Vec<Server>,
    discovered: Vec<Server>,
    ignore_discovered: bool,
}

impl Pool {
    /// Creates a pool of the servers of the settings.
    pub fn new(urls: &[String], ignore_discovered: bool) -> Result<Self, InvalidUrl> {
        let named = urls.iter().map(|url| Server::parse(url));

        Ok(Self {
            named: named.collect::<Result<_, _>>()?,
            discovered: Vec::new(),
            ignore_discovered,
        })
    }

    /// Accepts the servers that a connected one names. They replace those that were named before.
    pub fn discover(&mut self, by: &Server, has_tls: bool, info: &ServerInfo) {
        if self.ignore_discovered || info.connect_urls.is_empty() {
            return;
        }

        // An address that cannot be read may be of another version: the others are enough.
        let addresses = info.connect_urls.iter().take(DISCOVERED_MAX);
        let servers = addresses.filter_map(|address| by.discovered(address, has_tls).ok());
        self.discovered = servers
            .filter(|server| {
                !self
                    .named
                    .iter()
                    .any(|named| named.has_same_address(server))
            })
            .collect();
    }

    /// Returns all servers in random order.
    pub fn shuffled(&self) -> Vec<Server> {
        let all = self.named.iter().chain(&self.discovered);

        let mut servers: Vec<(f64, Server)> =
            all.map(|server| (random(), server.clone())).collect();
        servers.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        servers.into_iter().map(|(_, server)| server).collect()
    }

    /// Returns all servers except one, in random order. A server that is named twice, by host name
    /// and by IP address, is excluded under one of them only.
    pub fn others(&self, than: &Server) -> Vec<Server> {
        let mut servers = self.shuffled();
        servers.retain(|server| !server.has_same_address(than));
        servers
    }
}

/// Returns the delay after that many failed attempts. It grows up to a second, and is random, so
/// that workers do not all reconnect at the same moment.
pub fn reconnect_delay(attempts: u32) -> Duration {
    let step = DELAY_MIN * 2_u32.saturating_pow(attempts.min(5));
    step.min(DELAY_MAX).mul_f64(0.5 + random() / 2.0)
}

/// Returns the delay before another connection is tried because a subscription is denied: one to
/// two seconds.
pub fn denied_delay() -> Duration {
    DELAY_MAX.mul_f64(1.0 + random())
}

/// Returns a random number from 0 to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without a random source the order and the delays are the same each time.
    let _ = aws_lc_rs::rand::fill(&mut bytes);

    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn pool(ignore_discovered: bool) -> Pool {
        Pool::new(&["a:1".into(), "b:1".into()], ignore_discovered).expect("URLs")
    }

    fn addresses(servers: &[Server]) -> Vec<String> {
        let mut addresses: Vec<String> = servers.iter().map(Server::address).collect();
        addresses.sort_unstable();
        addresses
    }

    fn info(addresses: &[&str]) -> ServerInfo {
        ServerInfo {
            connect_urls: addresses
                .iter()
                .map(|&address| address.to_owned())
                .collect(),
            ..ServerInfo::default()
        }
    }

    #[test]
    fn the_newest_servers_that_a_server_names_are_used() {
        let mut pool = pool(false);
        let first = pool.shuffled().remove(0);

        pool.discover(&first, false, &info(&["a:1", "c:1", "not one", "d:1"]));
        assert_eq!(
            addresses(&pool.shuffled()),
            ["a:1", "b:1", "c:1", "d:1"],
            "each once"
        );

        pool.discover(&first, false, &info(&["e:1"]));
        assert_eq!(addresses(&pool.shuffled()), ["a:1", "b:1", "e:1"]);

        pool.discover(&first, false, &info(&[]));
        assert_eq!(addresses(&pool.shuffled()), ["a:1", "b:1", "e:1"]);
        assert_eq!(pool.others(&first).len(), 2);
    }

    #[test]
    fn discovered_servers_are_ignored_on_demand() {
        let mut pool = pool(true);
        let first = pool.shuffled().remove(0);

        pool.discover(&first, false, &info(&["c:1"]));

        assert_eq!(addresses(&pool.shuffled()), ["a:1", "b:1"]);
    }

    #[test]
    fn delays_grow_to_a_second_and_differ() {
        let delays: BTreeSet<_> = (0..20).map(|_| reconnect_delay(10)).collect();

        for attempts in [0, 1, 4, 5, 100] {
            for _ in 0..100 {
                let delay = reconnect_delay(attempts);
                assert!(delay >= DELAY_MIN / 2 && delay <= DELAY_MAX, "{delay:?}");
            }
        }
        assert!(reconnect_delay(10) >= DELAY_MAX / 2);
        assert!(reconnect_delay(0) <= DELAY_MIN);
        assert!(delays.len() > 1);
    }
}
