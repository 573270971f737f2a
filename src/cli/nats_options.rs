//! The options with which the commands connect to NATS. Missing options come from the environment
//! or from a context.

use super::arguments::CONNECTION;
use super::contexts::{Place, check_private};
use super::failed::CommandError;
use crate::nats::{Access, AccessError, Credentials, Secret, TlsSettings};
use async_nats::{ConnectError, ConnectErrorKind};
use clap::Args;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

/// The NATS server, and how the command logs in.
#[derive(Args, Clone)]
#[command(next_help_heading = CONNECTION)]
pub(super) struct NatsOptions {
    /// The NATS server, as nats://host:port, or several separated by commas
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_URL",
        hide_env_values = true
    )]
    url: Option<String>,
    /// The NATS user
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_USER",
        hide_env_values = true
    )]
    user: Option<String>,
    /// The NATS user's password
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_PASSWORD",
        hide_env_values = true
    )]
    password: Option<String>,
    /// A file that holds that password
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_PASSWORD_FILE",
        value_name = "FILE"
    )]
    password_file: Option<OsString>,
    /// A file that holds a NATS token, instead of user and password
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_NATS_TOKEN_FILE",
        value_name = "FILE"
    )]
    nats_token_file: Option<OsString>,
    /// A file that holds the seed of an nkey, instead of user and password
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_NKEY_FILE",
        value_name = "FILE"
    )]
    nkey_file: Option<OsString>,
    /// A credentials file of NATS (JWT and nkey), instead of user and password
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_CREDS",
        value_name = "FILE"
    )]
    creds: Option<OsString>,
    /// The prefix of the inboxes for replies [default: _INBOX]
    #[arg(long, hide_short_help = true, env = "GOFAVORITES_INBOX_PREFIX")]
    inbox_prefix: Option<String>,
    /// A PEM file of the authorities that may sign the server's certificate
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_TLS_CA",
        value_name = "FILE"
    )]
    tls_ca: Option<OsString>,
    /// A PEM file of the client's certificate
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_TLS_CERT",
        value_name = "FILE"
    )]
    tls_cert: Option<OsString>,
    /// A PEM file of that certificate's key
    #[arg(
        long,
        hide_short_help = true,
        env = "GOFAVORITES_TLS_KEY",
        value_name = "FILE"
    )]
    tls_key: Option<OsString>,
    /// Refuse a server that does not offer TLS
    #[arg(long, hide_short_help = true, env = "GOFAVORITES_TLS_REQUIRED")]
    tls_required: bool,
}

/// Returns the value, if it is given. An empty environment variable counts as not given.
pub(super) fn given<T: Clone>(value: Option<&T>, is_empty: impl Fn(&T) -> bool) -> Option<T> {
    value.filter(|value| !is_empty(value)).cloned()
}

/// Returns the text of an option, if it is given.
pub(super) fn text(value: Option<&String>) -> Option<String> {
    given(value, String::is_empty)
}

/// Returns the path of an option, if it is given.
pub(super) fn path(value: Option<&OsString>) -> Option<PathBuf> {
    given(value, |value| value.is_empty()).map(PathBuf::from)
}

/// Returns the causes of an error, without the error itself.
fn causes(error: &dyn Error) -> Option<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }

    (!causes.is_empty()).then(|| causes.join(": "))
}

/// Returns the servers' addresses, without credentials.
pub(super) fn addresses(access: &Access) -> String {
    let addresses = access.servers().into_iter().map(|server| {
        let scheme = server.scheme();
        format!("{scheme}://{}:{}", server.host(), server.port())
    });

    addresses.collect::<Vec<_>>().join(", ")
}

impl NatsOptions {
    /// Returns the servers, if an option, the environment or the context names some.
    pub fn url(&self, context: &Place) -> Option<String> {
        text(self.url.as_ref()).or_else(|| context.url.clone())
    }

    /// Returns where the servers are named.
    fn url_source(&self) -> &'static str {
        match text(self.url.as_ref()) {
            None => "the context",
            Some(url) if std::env::var("GOFAVORITES_URL").is_ok_and(|set| set == url) => {
                "GOFAVORITES_URL"
            }
            Some(_) => "--url",
        }
    }

    fn has_password_of_environment(&self) -> bool {
        let given = text(self.password.as_ref());

        given.is_some() && std::env::var("GOFAVORITES_PASSWORD").ok() == given
    }

    /// Returns the error for a connection that could not be made. The causes are about files and
    /// certificates; no URL with a password is among them, because the client never gets one.
    pub fn unreachable(&self, error: &ConnectError, access: &Access) -> CommandError {
        let place = format!("NATS at {} (from {})", addresses(access), self.url_source());

        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                let message = "does not let this user in: check --user and --password, or the other \
                               credentials";
                let hint = match self.has_password_of_environment() {
                    true => {
                        ". If the platform was reset, load its new environment: . .dev/alice.env"
                    }
                    false => "",
                };
                CommandError::not_authorised(format!("{place} {message}{hint}"))
            }
            kind => {
                let cause = causes(error).unwrap_or_else(|| kind.to_string());
                // The server has answered in plain text.
                let cause = match cause.contains("InvalidContentType") {
                    true => "the server does not offer TLS".to_owned(),
                    false => cause,
                };
                CommandError::unavailable(format!("{place} cannot be reached: {cause}"))
            }
        }
    }

    /// Returns the prefix of inboxes, if one is given.
    pub fn inbox_prefix(&self, context: &Place) -> Option<String> {
        text(self.inbox_prefix.as_ref()).or_else(|| context.inbox_prefix.clone())
    }

    /// Returns how to connect to `url`.
    ///
    /// # Errors
    ///
    /// Fails if the options contradict each other, or if other users may read a file with a secret.
    pub fn access(&self, url: &str, context: &Place) -> anyhow::Result<Access> {
        let credentials = self.credentials(context);
        let files = [
            &credentials.password.file,
            &credentials.token.file,
            &credentials.nkey_seed.file,
            &credentials.creds_file,
        ];
        for file in files {
            if !file.as_os_str().is_empty() {
                check_private(file)?;
            }
        }

        let access = Access::new(url, credentials, self.tls(context), false).map_err(|error| {
            let options = match error {
                AccessError::Servers(_) => "--url",
                AccessError::Credentials => {
                    "--user, --password, --password-file, --nats-token-file, --nkey-file and --creds"
                }
                AccessError::Tls => "--tls-cert and --tls-key",
            };
            CommandError::usage(format!("{options}: {error}"))
        })?;

        // A server without TLS would never ask for them.
        let tls = access.tls();
        for (option, file) in [
            ("--tls-ca", &tls.ca_file),
            ("--tls-cert", &tls.cert_file),
            ("--tls-key", &tls.key_file),
        ] {
            if !file.as_os_str().is_empty() && !file.is_file() {
                let message = format!("{option}: there is no file {}", file.display());
                return Err(CommandError::usage(message).into());
            }
        }

        Ok(access)
    }

    /// Returns the credentials of the options, or else those of the context. Only user and password
    /// may come from both.
    pub fn credentials(&self, context: &Place) -> Credentials {
        let file = |value| path(value).unwrap_or_default();
        let own = Credentials {
            user: text(self.user.as_ref()).unwrap_or_default(),
            password: Secret {
                text: text(self.password.as_ref()).unwrap_or_default(),
                file: file(self.password_file.as_ref()),
            },
            token: Secret {
                file: file(self.nats_token_file.as_ref()),
                ..Secret::default()
            },
            nkey_seed: Secret {
                file: file(self.nkey_file.as_ref()),
                ..Secret::default()
            },
            creds_file: file(self.creds.as_ref()),
        };

        // A user in the URL of an option is an option as well.
        let in_url = self.url.as_ref().is_some_and(|url| url.contains('@'));
        let others = context.credentials();
        if own.is_empty() && !in_url {
            return others;
        }

        let is_half_given = own.user.is_empty() != own.password.is_empty();
        if is_half_given && own.user.is_empty() {
            return Credentials {
                user: others.user,
                ..own
            };
        }
        if is_half_given {
            return Credentials {
                password: others.password,
                ..own
            };
        }

        own
    }

    fn tls(&self, context: &Place) -> TlsSettings {
        let file = |value, other: &Option<PathBuf>| {
            path(value).or_else(|| other.clone()).unwrap_or_default()
        };

        TlsSettings {
            required: self.tls_required || context.tls_required,
            ca_file: file(self.tls_ca.as_ref(), &context.tls_ca),
            cert_file: file(self.tls_cert.as_ref(), &context.tls_cert),
            key_file: file(self.tls_key.as_ref(), &context.tls_key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        nats: NatsOptions,
    }

    fn credentials(arguments: &[&str], context: &Place) -> Credentials {
        let arguments = [&["command"], arguments].concat();

        Command::parse_from(arguments).nats.credentials(context)
    }

    fn home() -> Place {
        Place {
            user: Some("home".into()),
            password: Some("hush".into()),
            ..Place::default()
        }
    }

    #[test]
    fn missing_options_come_from_the_context() {
        let without_options = credentials(&[], &home());
        let other_password = credentials(&["--password", "p"], &home());

        assert_eq!(without_options, home().credentials());
        assert_eq!(other_password.user, "home");
        assert_eq!(other_password.password, Secret::from("p".to_owned()));
    }

    #[test]
    fn other_credentials_replace_those_of_the_context() {
        let creds = credentials(&["--creds", "a.creds"], &home());
        let in_url = credentials(&["--url", "nats://u:p@h"], &home());

        assert_eq!(creds.user, "");
        assert_eq!(creds.creds_file, PathBuf::from("a.creds"));
        assert!(in_url.is_empty());
    }

    #[test]
    fn an_empty_value_is_not_given() {
        let empty = credentials(&["--user", "", "--creds", ""], &home());

        assert_eq!(empty, home().credentials());
    }

    #[test]
    fn options_that_contradict_each_other_are_named() {
        let error = |arguments: &str| {
            let arguments = ["command"].into_iter().chain(arguments.split(' '));
            let nats = Command::parse_from(arguments).nats;
            let error = nats.access("nats://h", &Place::default());
            error.expect_err("a contradiction").to_string()
        };

        let without_key = error("--tls-cert a");
        let without_user = error("--password p");
        let twice = error("--user u --password p --password-file /dev/null");

        assert!(without_key.contains("--tls-key"), "{without_key}");
        assert!(without_user.contains("--user"), "{without_user}");
        assert!(
            twice.contains("--password-file") || twice.contains("/dev/null"),
            "{twice}"
        );
    }
}
