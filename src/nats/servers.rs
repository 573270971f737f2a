//! The servers' URLs, and the credentials in them.

use super::credentials::{Credentials, Secret};
use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

/// Why a list of servers cannot be used. No message repeats a URL, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServersError {
    /// The list is empty.
    #[error("it names no server")]
    Empty,
    /// A URL is malformed, or its scheme is neither `nats` nor `tls`.
    #[error("a server is nats://host:port or tls://host:port, and this is not")]
    Malformed,
    /// The user or the password is not UTF-8 after percent-decoding.
    #[error("user or password in it cannot be percent-decoded")]
    NotText,
    /// Two URLs name different users.
    #[error("its servers have different users: give one user for all of them")]
    SeveralUsers,
}

/// A list of servers, and the one user that its URLs name.
pub(super) struct Servers {
    pub(super) addresses: Vec<ServerAddr>,
    pub(super) credentials: Option<Credentials>,
}

impl Servers {
    /// Parses URLs that are separated by commas. It removes `user:password@` and `token@` before a
    /// host, and percent-decodes them.
    pub(super) fn parse(urls: &str) -> Result<Self, ServersError> {
        let mut addresses = Vec::new();
        let mut credentials: Option<Credentials> = None;

        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let (address, userinfo) = split_userinfo(url);

            let address: ServerAddr = address.parse().map_err(|_| ServersError::Malformed)?;
            if !["nats", "tls"].contains(&address.scheme()) || address.host().is_empty() {
                return Err(ServersError::Malformed);
            }
            addresses.push(address);

            let Some(userinfo) = userinfo else { continue };
            let found = read_userinfo(userinfo)?;
            if credentials
                .as_ref()
                .is_some_and(|earlier| *earlier != found)
            {
                return Err(ServersError::SeveralUsers);
            }
            credentials = Some(found);
        }

        if addresses.is_empty() {
            return Err(ServersError::Empty);
        }

        Ok(Self {
            addresses,
            credentials,
        })
    }
}

/// Splits a URL into the URL without its userinfo (RFC 3986), and the userinfo.
fn split_userinfo(url: &str) -> (String, Option<&str>) {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |scheme| scheme + 3));

    match rest.rsplit_once('@') {
        Some((userinfo, host)) => (format!("{scheme}{host}"), Some(userinfo)),
        None => (url.to_owned(), None),
    }
}

fn read_userinfo(userinfo: &str) -> Result<Credentials, ServersError> {
    let decode = |part: &str| {
        percent_decode_str(part)
            .decode_utf8()
            .map(String::from)
            .map_err(|_| ServersError::NotText)
    };

    // As in every NATS client, a name alone is a token.
    match userinfo.split_once(':') {
        Some((user, password)) => Ok(Credentials {
            user: decode(user)?,
            password: Secret::from(decode(password)?),
            ..Credentials::default()
        }),
        None => Ok(Credentials {
            token: Secret::from(decode(userinfo)?),
            ..Credentials::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(urls: &str) -> Vec<String> {
        Servers::parse(urls)
            .expect("well formed")
            .addresses
            .iter()
            .map(|address| format!("{}:{}", address.host(), address.port()))
            .collect()
    }

    #[test]
    fn several_servers_are_separated_by_commas() {
        let hosts = hosts("nats://a:1, b:2 ,tls://c,");

        assert_eq!(hosts, ["a:1", "b:2", "c:4222"]);
    }

    #[test]
    fn user_and_password_are_percent_decoded_and_taken_out() {
        let urls = "nats://wor%40ker:p%2Cw%3A%25@h:1,nats://i";

        let servers = Servers::parse(urls).expect("well formed");

        let credentials = servers.credentials.expect("some");
        let has_user = servers.addresses.iter().any(ServerAddr::has_user_pass);
        assert_eq!(credentials.user, "wor@ker");
        assert_eq!(credentials.password, Secret::from("p,w:%".to_owned()));
        assert!(!has_user);
    }

    #[test]
    fn a_name_alone_is_a_token() {
        let servers = Servers::parse("nats://s3cr%2Fet@h").expect("well formed");

        let credentials = servers.credentials.expect("some");
        assert_eq!(credentials.token, Secret::from("s3cr/et".to_owned()));
        assert_eq!(credentials.user, "");
    }

    #[test]
    fn all_urls_have_the_same_user_or_none() {
        let same = Servers::parse("nats://u:p@a,nats://u:p@b,nats://c");
        let error = Servers::parse("nats://u:p@a,nats://v:p@b").err();

        assert!(same.is_ok());
        assert_eq!(error, Some(ServersError::SeveralUsers));
    }

    #[test]
    fn an_invalid_url_is_refused_and_not_repeated() {
        let table = [
            ("", ServersError::Empty),
            (" , ", ServersError::Empty),
            ("http://u:hush@h", ServersError::Malformed),
            ("nats://u:hush@", ServersError::Malformed),
            ("nats://u:%FF@h", ServersError::NotText),
        ];

        for (urls, expected) in table {
            let error = Servers::parse(urls).err().expect("refused");

            assert_eq!(error, expected, "{urls}");
            assert!(!error.to_string().contains("hush"));
        }
    }
}
