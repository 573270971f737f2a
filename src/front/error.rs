//! The errors of the connection.

use super::protocol::ProtocolError;
use super::server::InvalidUrl;
use super::tls::TlsError;
use std::io;
use tokio_rustls::rustls;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// No server is named.
    #[error("no server is named")]
    NoServers,
    /// An invalid URL.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// A server that cannot be reached, or that closed the connection.
    #[error("the server {server} cannot be reached")]
    Unreachable {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A server that does not answer in time.
    #[error("the server {server} does not answer in time")]
    TimedOut {
        /// The server.
        server: String,
    },
    /// A server that does not offer TLS, although TLS is required.
    #[error("the server {server} offers no TLS, which is required")]
    NoTls {
        /// The server.
        server: String,
    },
    /// A failed TLS handshake: an untrusted certificate, another name in it, or a missing client
    /// certificate.
    #[error("TLS with the server {server} fails")]
    Tls {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Files of TLS that cannot be used.
    #[error("TLS cannot be set up")]
    TlsFiles(#[from] TlsError),
    /// Credentials that cannot be read or used.
    #[error("the credentials cannot be used")]
    Login(#[source] io::Error),
    /// A server that does not accept this user.
    #[error("the server {server} does not accept the credentials: {reason}")]
    Authentication {
        /// The server.
        server: String,
        /// The server's text.
        reason: String,
    },
    /// A server that refuses the connection for another reason.
    #[error("the server {server} refuses the connection: {reason}")]
    Refused {
        /// The server.
        server: String,
        /// The server's text.
        reason: String,
    },
    /// Something that is not a NATS server.
    #[error("the server {server} does not speak NATS")]
    Protocol {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: ProtocolError,
    },
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A subject that is empty, too long, or has white space or control characters.
    #[error("this subject cannot be sent")]
    Subject,
    /// A message longer than the server accepts.
    #[error("the message has {length} bytes with its headers; the server accepts {max}")]
    TooLong {
        /// Its length with its headers, in bytes.
        length: usize,
        /// What the server accepts, in bytes.
        max: usize,
    },
    /// The connection was closed by this program.
    #[error("the connection is closed")]
    Closed,
}

/// A subject or a queue group that cannot be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this subject or queue group cannot be subscribed to")]
pub struct InvalidSubject;

/// The connection was lost, or there was none, so what the server has processed is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection to NATS is lost")]
pub struct Disconnected;

impl FrontError {
    /// Returns whether another attempt may succeed without a change of settings: the server is
    /// down, does not answer, or refuses something else than the user.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Refused { .. } => true,
            // Without an error of TLS itself, the connection was lost during the handshake.
            Self::Tls { source, .. } => !source
                .get_ref()
                .is_some_and(|error| error.is::<rustls::Error>()),
            _ => false,
        }
    }

    /// Returns whether all servers of the cluster would cause the same error.
    pub(super) fn is_cluster_wide(&self) -> bool {
        matches!(
            self,
            Self::Authentication { .. } | Self::Login(_) | Self::TlsFiles(_)
        )
    }
}

/// Returns an error and its causes in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());

    sources.fold(error.to_string(), |text, source| {
        format!("{text}: {source}")
    })
}
