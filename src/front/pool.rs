//! The servers that can be connected to, in which order, and how long to wait in between.

use super::protocol::ServerInfo;
use super::server::{InvalidUrl, Server};
use std::time::Duration;

/// How many servers are taken of what a server names.
const DISCOVERED_MAX: usize = 256;
/// The shortest wait before the connection is opened again.
const DELAY_MIN: Duration = Duration::from_millis(50);
/// The longest.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// The servers that can be connected to.
pub(super) struct Pool {
    named: Vec<Server>,
    discovered: Vec<Server>,
    ignore_discovered: bool,
}

impl Pool {
    /// The servers of the settings.
    pub fn new(urls: &[String], ignore_discovered: bool) -> Result<Self, InvalidUrl> {
        let named = urls.iter().map(|url| Server::parse(url));
        Ok(Self {
            named: named.collect::<Result<_, _>>()?,
            discovered: Vec::new(),
            ignore_discovered,
        })
    }

    /// Takes up the servers that a connected one names, in the place of those that were named
    /// before.
    pub fn discover(&mut self, by: &Server, has_tls: bool, info: &ServerInfo) {
        if self.ignore_discovered || info.connect_urls.is_empty() {
            return;
        }
        // What cannot be read is another version's: the others are enough.
        let places = info.connect_urls.iter().take(DISCOVERED_MAX);
        let servers = places.filter_map(|place| by.discovered(place, has_tls).ok());
        self.discovered = servers
            .filter(|server| !self.named.iter().any(|named| named.is_at(server)))
            .collect();
    }

    /// All servers, in random order.
    pub fn shuffled(&self) -> Vec<Server> {
        let all = self.named.iter().chain(&self.discovered);
        let mut servers: Vec<(f64, Server)> =
            all.map(|server| (random(), server.clone())).collect();
        servers.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        servers.into_iter().map(|(_, server)| server).collect()
    }

    /// All servers except one, in random order. That one may be there under two names: its INFO
    /// tells.
    pub fn others(&self, than: &Server) -> Vec<Server> {
        let mut servers = self.shuffled();
        servers.retain(|server| !server.is_at(than));
        servers
    }
}

/// How long to wait after so many attempts: longer after each, up to a second, and not as long as
/// the others do, so that workers do not all come back in one moment.
pub(super) fn delay(attempts: u32) -> Duration {
    let step = DELAY_MIN * 2_u32.saturating_pow(attempts.min(5));
    step.min(DELAY_MAX).mul_f64(0.5 + random() / 2.0)
}

/// How long to wait before the connection is opened again because a subscription is denied: one to
/// two seconds.
pub(super) fn denied_delay() -> Duration {
    DELAY_MAX.mul_f64(1.0 + random())
}

/// A number from 0 to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without a random source the order and the waits are the same each time.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ignore_discovered: bool) -> Pool {
        Pool::new(&["a:1".into(), "b:1".into()], ignore_discovered).expect("URLs")
    }

    fn places(mut servers: Vec<Server>) -> Vec<String> {
        servers.sort_by_key(Server::place);
        servers.iter().map(Server::place).collect()
    }

    fn info(places: &[&str]) -> ServerInfo {
        ServerInfo {
            connect_urls: places.iter().map(|place| (*place).to_owned()).collect(),
            ..ServerInfo::default()
        }
    }

    #[test]
    fn what_a_server_names_is_taken_up_and_forgotten_again() {
        let mut pool = pool(false);
        let first = pool.shuffled().remove(0);

        pool.discover(&first, false, &info(&["a:1", "c:1", "no place", "d:1"]));
        assert_eq!(places(pool.shuffled()), ["a:1", "b:1", "c:1", "d:1"]);

        pool.discover(&first, false, &info(&["e:1"]));
        assert_eq!(places(pool.shuffled()), ["a:1", "b:1", "e:1"]);
        pool.discover(&first, false, &info(&[]));
        assert_eq!(places(pool.shuffled()), ["a:1", "b:1", "e:1"]);
        assert_eq!(pool.others(&first).len(), 2);
    }

    #[test]
    fn what_a_server_names_is_ignored_if_that_is_wanted() {
        let mut pool = pool(true);
        let first = pool.shuffled().remove(0);

        pool.discover(&first, false, &info(&["c:1"]));

        assert_eq!(places(pool.shuffled()), ["a:1", "b:1"]);
    }

    #[test]
    fn waits_grow_to_a_second_and_differ() {
        for attempts in [0, 1, 4, 5, 100] {
            for _ in 0..100 {
                let wait = delay(attempts);
                assert!(wait >= DELAY_MIN / 2 && wait <= DELAY_MAX, "{wait:?}");
            }
        }
        assert!(delay(10) >= DELAY_MAX / 2);
        assert!(delay(0) <= DELAY_MIN);
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| delay(10)).collect();
        assert!(waits.len() > 1);
    }
}
