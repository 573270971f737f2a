//! Why there is no connection, and why something could not be sent.

use super::protocol::ProtocolError;
use super::server::InvalidUrl;
use super::tls::TlsError;
use std::io;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// No server is named.
    #[error("no server is named")]
    NoServers,
    /// A URL that is none.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// A server that cannot be reached, or that went away.
    #[error("the server {server} cannot be reached")]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A server that does not answer in time.
    #[error("the server {server} does not answer in time")]
    TimedOut {
        /// The server.
        server: String,
    },
    /// A server without TLS, where TLS is required.
    #[error("the server {server} offers no TLS, which is required")]
    NoTls {
        /// The server.
        server: String,
    },
    /// TLS that failed: an unknown certificate, another name in it, or no certificate of ours.
    #[error("TLS with the server {server} fails")]
    Tls {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Files that TLS cannot be done with.
    #[error("TLS cannot be set up")]
    TlsFiles(#[from] TlsError),
    /// The credentials cannot be read, or nothing can be made of them.
    #[error("the credentials cannot be used")]
    Login(#[source] io::Error),
    /// A server that does not take this user.
    #[error("the server {server} does not accept the credentials: {reason}")]
    Authentication {
        /// The server.
        server: String,
        /// What it said.
        reason: String,
    },
    /// A server that refuses the connection for another reason.
    #[error("the server {server} refuses the connection: {reason}")]
    Refused {
        /// The server.
        server: String,
        /// What it said.
        reason: String,
    },
    /// Something that is not a NATS server.
    #[error("the server {server} does not speak NATS")]
    Protocol {
        /// The server.
        server: String,
        /// What it sent.
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
    /// A message that is longer than the server takes.
    #[error("the message has {length} bytes with its headers; the server takes {max}")]
    TooLong {
        /// Its length with its headers, in bytes.
        length: usize,
        /// What the server takes, in bytes.
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

/// The connection was lost, or there was none, so it is not known what the server took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection to NATS is lost")]
pub struct Disconnected;

impl FrontError {
    /// Whether it may pass without a change of settings: a server that is not up, or does not
    /// answer.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Refused { .. }
        )
    }

    /// Whether another server of the same cluster would say the same.
    pub(super) fn is_everywhere(&self) -> bool {
        matches!(
            self,
            Self::Authentication { .. } | Self::Login(_) | Self::TlsFiles(_)
        )
    }
}
