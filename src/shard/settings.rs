//! The settings of the shard's Postgres, and how they are shown without secrets.

use serde::{Deserialize, Serialize, Serializer};
use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

/// How long work may take that no request waits for.
pub(super) const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(60);

/// How to reach the shard's Postgres.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ShardSettings {
    /// `postgres://user:password@host:port/database`, percent-encoded. Its parameters are those of
    /// libpq: `?sslmode=verify-full&sslrootcert=/etc/ssl/db-ca.pem` requires TLS and a certificate
    /// for that host from this authority. `sslmode` is `disable`, `allow`, `prefer` (the default),
    /// `require`, `verify-ca` or `verify-full`; `sslcert` and `sslkey` are the client's certificate
    /// and key.
    #[serde(serialize_with = "serialize_without_password")]
    pub url: String,
    /// A file that holds the URL.
    pub url_file: PathBuf,
    /// The most that one worker opens for calls that a request waits for. A worker opens two more,
    /// to project (or wait for that lock) and to listen, and up to four for work that no request
    /// waits for, such as hosting an owner.
    #[cfg_attr(test, schemars(extend("x-unit" = "connections")))]
    pub connections: u32,
    /// How long one call that a request waits for may take, including the wait for a connection.
    /// After that the request goes on without it, and the worker checks whether Postgres is
    /// available.
    pub call_ms: u64,
}

impl ShardSettings {
    /// Returns whether `url` is the URL of a Postgres database.
    pub fn has_usable_url(&self) -> bool {
        PgConnectOptions::from_str(&self.url).is_ok()
    }
}

impl Default for ShardSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            url_file: PathBuf::new(),
            connections: 10,
            call_ms: 1_000,
        }
    }
}

impl fmt::Debug for ShardSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardSettings")
            .field("url_file", &self.url_file)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

fn serialize_without_password<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&without_password(url))
}

/// The parameters of a URL that may be shown. Any other could be a secret.
const SHOWN_PARAMETERS: [&str; 5] = ["application_name", "dbname", "host", "port", "sslmode"];

/// Returns the URLs, separated by commas, without their secrets: what stands before the host, and
/// the values of parameters that could be secrets.
///
/// A password may itself contain a comma. So a new URL begins only where a scheme does.
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
    // Words such as password=… are no URL, and any of them may be the password.
    if !url.contains("://") && url.contains('=') {
        return "(hidden)".to_owned();
    }

    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |scheme| scheme + 3));
    let (address, parameters) = rest
        .split_once('?')
        .map_or((rest, None), |(address, parameters)| {
            (address, Some(parameters))
        });
    if parameters.is_some_and(|parameters| parameters.contains('@')) {
        // The question mark may be part of a password.
        return format!("{scheme}(hidden)");
    }

    let address = address.rfind('@').map_or(address.to_owned(), |at| {
        format!("(hidden){}", &address[at..])
    });
    let Some(parameters) = parameters else {
        return format!("{scheme}{address}");
    };

    let shown = parameters
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if !SHOWN_PARAMETERS.contains(&name) => format!("{name}=(hidden)"),
            _ => parameter.to_owned(),
        });
    format!("{scheme}{address}?{}", shown.collect::<Vec<_>>().join("&"))
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
            ("host=h user=u password=hush dbname=d", "(hidden)"),
            ("nats://a:4222,b:4222", "nats://a:4222,b:4222"),
        ];

        for (url, shown) in table {
            assert_eq!(without_password(url), shown);
        }
    }
}
