//! The settings of the shard's Postgres, and how they are shown without secrets.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// How long a step may take that no request waits for.
pub(super) const UNHURRIED: Duration = Duration::from_secs(60);

/// How to reach the shard's Postgres.
#[derive(Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardSettings {
    /// `postgres://user:password@host:port/database`.
    #[serde(serialize_with = "shown")]
    pub url: String,
    /// Connections at most, the projection's and the listener's aside.
    pub connections: u32,
    /// How long one call that a request waits for may take, the wait for a connection included, in milliseconds.
    pub call_ms: u64,
}

impl Default for ShardSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            connections: 10,
            call_ms: 1_000,
        }
    }
}

impl fmt::Debug for ShardSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardSettings")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

fn shown<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&without_password(url))
}

/// What may be shown of a URL's parameters; any other could be a secret.
const SHOWN: [&str; 5] = ["application_name", "dbname", "host", "port", "sslmode"];

/// The URLs, separated by commas, each without what stands before its host, and without the values of parameters that
/// could be secrets. A password may itself hold a comma, so a URL begins only where a scheme does.
pub fn without_password(urls: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in urls.split(',') {
        match parts.last_mut() {
            Some(before) if !part.contains("://") => *before = format!("{before},{part}"),
            _ => parts.push(part.to_owned()),
        }
    }
    parts
        .iter()
        .map(|url| one_without_password(url))
        .collect::<Vec<_>>()
        .join(",")
}

fn one_without_password(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |scheme| scheme + 3));
    let (place, parameters) = rest
        .split_once('?')
        .map_or((rest, None), |(place, rest)| (place, Some(rest)));
    if parameters.is_some_and(|rest| rest.contains('@')) {
        // A password with a question mark, perhaps.
        return format!("{scheme}(hidden)");
    }
    let place = place
        .rfind('@')
        .map_or(place.to_owned(), |at| format!("(hidden){}", &place[at..]));
    let Some(parameters) = parameters else {
        return format!("{scheme}{place}");
    };
    let shown = parameters.split('&').map(|one| match one.split_once('=') {
        Some((name, _)) if !SHOWN.contains(&name) => format!("{name}=(hidden)"),
        _ => one.to_owned(),
    });
    format!("{scheme}{place}?{}", shown.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_password_is_shown() {
        let table = [
            ("postgres://u:hush@h:5432/d", "postgres://(hidden)@h:5432/d"),
            ("postgres://u:hush,hush@h/d", "postgres://(hidden)@h/d"),
            ("postgres://u:hush@hush@h/d", "postgres://(hidden)@h/d"),
            ("postgres://u:hush?hush@h/d", "postgres://(hidden)"),
            (
                "postgres://h/d?user=hush&password=hush&sslmode=require",
                "postgres://h/d?user=(hidden)&password=(hidden)&sslmode=require",
            ),
            ("postgres://h/d?password=hush@hush", "postgres://(hidden)"),
            ("postgres://u:hush@h1,h2/d", "postgres://(hidden)@h1,h2/d"),
            (
                "nats://u:hush@a,nats://v:hush@b",
                "nats://(hidden)@a,nats://(hidden)@b",
            ),
            ("u:hush@a", "(hidden)@a"),
            ("nats://a:4222,b:4222", "nats://a:4222,b:4222"),
        ];
        for (url, shown) in table {
            assert_eq!(without_password(url), shown);
        }
    }
}
