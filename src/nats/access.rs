//! Everything that a connection needs: servers, credentials and TLS, checked.

use super::credentials::{Credentials, CredentialsError};
use super::servers::{Servers, ServersError};
use crate::front::{FrontSettings, Login, LoginSource, TlsSettings};
use async_nats::{Auth, AuthError, ConnectOptions, ServerAddr};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::io;
use std::sync::Arc;

/// The servers, the credentials and TLS of a connection.
#[derive(Clone, Debug)]
pub struct Access {
    servers: Vec<ServerAddr>,
    credentials: Arc<Credentials>,
    tls: TlsSettings,
    ignore_discovered: bool,
}

/// Why these servers, credentials and TLS settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The list of servers cannot be used.
    #[error("the servers cannot be used: {0}")]
    Servers(#[from] ServersError),
    /// There are several kinds of credentials, or a password without a user.
    #[error(
        "give user and password, or a token, or an nkey's seed, or a credentials file: one of them, and each secret once"
    )]
    Credentials,
    /// A certificate without its key, or a key without a certificate.
    #[error("a client's certificate and its key belong together: give both files or neither")]
    Tls,
}

impl Access {
    /// Returns how to connect to the servers of `urls`, which are separated by commas.
    ///
    /// If `credentials` are empty, those in the URLs are used.
    pub fn new(
        urls: &str,
        credentials: Credentials,
        tls: TlsSettings,
        ignore_discovered: bool,
    ) -> Result<Self, AccessError> {
        let servers = Servers::parse(urls)?;

        let credentials = match servers.credentials {
            Some(in_url) if credentials.is_empty() => in_url,
            _ => credentials,
        };
        if !credentials.is_consistent() {
            return Err(AccessError::Credentials);
        }
        if !tls.is_consistent() {
            return Err(AccessError::Tls);
        }

        Ok(Self {
            servers: servers.addresses,
            credentials: Arc::new(credentials),
            tls,
            ignore_discovered,
        })
    }

    /// Returns the servers, without credentials.
    pub fn servers(&self) -> Vec<ServerAddr> {
        self.servers.clone()
    }

    /// Returns the TLS settings.
    pub fn tls(&self) -> &TlsSettings {
        &self.tls
    }

    /// Returns whether to use only these servers, and not those that they announce.
    pub fn ignores_discovered(&self) -> bool {
        self.ignore_discovered
    }

    /// Returns the credentials.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns what the client sends to the server; see [`Credentials::login`]. It reads the files
    /// on a thread that may block.
    pub async fn login(&self, nonce: Vec<u8>) -> Result<Auth, LoginError> {
        let credentials = self.credentials.clone();
        let login = tokio::task::spawn_blocking(move || credentials.login(&nonce));

        Ok(login.await??)
    }

    /// Returns the settings of a front with that name. The front reads the files of credentials and
    /// of TLS again each time that it connects.
    pub fn front(&self, name: &str) -> FrontSettings {
        let url = |server: &ServerAddr| {
            let scheme = server.scheme();
            let host = server.host();
            let port = server.port();

            format!("{scheme}://{host}:{port}")
        };
        let credentials = self.credentials.clone();
        let login = move |nonce: &str| {
            let auth = credentials.login(nonce.as_bytes());
            auth.map(front_login).map_err(io::Error::other)
        };

        FrontSettings {
            servers: self.servers.iter().map(url).collect(),
            name: name.to_owned(),
            login: LoginSource::new(login),
            tls: self.tls.clone(),
            ignore_discovered: self.ignore_discovered,
            ..FrontSettings::default()
        }
    }

    /// Returns the options of the published client. The client reads the files of credentials and
    /// of TLS again each time that it connects.
    pub fn options(&self) -> ConnectOptions {
        let mut options = if self.credentials.is_empty() {
            ConnectOptions::new()
        } else {
            let access = self.clone();
            ConnectOptions::with_auth_callback(move |nonce| {
                let access = access.clone();
                async move {
                    access
                        .login(nonce)
                        .await
                        .map_err(|error| AuthError::new(format!("{:#}", anyhow::Error::new(error))))
                }
            })
        };

        // The servers of a cluster announce their addresses, and not whether they require TLS.
        let has_tls = self.servers.iter().any(ServerAddr::tls_required);
        options = options.require_tls(self.tls.required || has_tls);
        if !self.tls.ca_file.as_os_str().is_empty() {
            options = options.add_root_certificates(self.tls.ca_file.clone());
        }
        if !self.tls.cert_file.as_os_str().is_empty() {
            let cert = self.tls.cert_file.clone();
            let key = self.tls.key_file.clone();
            options = options.add_client_certificate(cert, key);
        }
        if self.ignore_discovered {
            options = options.ignore_discovered_servers();
        }

        options
    }
}

fn front_login(auth: Auth) -> Login {
    Login {
        user: auth.username,
        password: auth.password,
        token: auth.token,
        nkey: auth.nkey,
        jwt: auth.jwt,
        signature: auth.signature.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
    }
}

/// Why the credentials could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The program is ending.
    #[error(transparent)]
    Ending(#[from] tokio::task::JoinError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::Secret;

    fn user(name: &str) -> Credentials {
        Credentials {
            user: name.into(),
            password: Secret::from("p".to_owned()),
            ..Credentials::default()
        }
    }

    #[test]
    fn separate_credentials_are_used_before_those_in_the_url() {
        let access = |credentials| {
            Access::new("nats://url:p@h", credentials, TlsSettings::default(), false)
                .expect("consistent")
        };

        let without = access(Credentials::default());
        let with = access(user("own"));

        assert_eq!(without.credentials().user, "url");
        assert_eq!(with.credentials().user, "own");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let tls = TlsSettings {
            cert_file: "cert.pem".into(),
            ..TlsSettings::default()
        };

        let error = Access::new("nats://h", user("u"), tls, false).err();

        assert_eq!(error, Some(AccessError::Tls));
    }
}
