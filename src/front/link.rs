//! A link: one connection to one server, from the socket to the first PONG.

use super::decoder::Decoder;
use super::encoder::{self, Connect};
use super::error::FrontError;
use super::outbox::Outbox;
use super::protocol::{ProtocolError, ServerInfo, ServerOp};
use super::server::Server;
use super::server_error::is_authentication;
use super::settings::FrontSettings;
use super::socket::{ReadError, Reader, Socket, Writer, split};
use super::tls::invalid_name;
use std::io;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

/// The longest message before the server has reported its own `max_payload`, in bytes.
const FIRST_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// A connection that a server has accepted.
pub(super) struct Link {
    pub server: Server,
    pub info: ServerInfo,
    /// Whether it has TLS.
    pub has_tls: bool,
    pub reader: Reader,
    pub writer: Writer,
}

impl Link {
    /// Connects to the first of the servers that accepts the user. A server that does not accept
    /// the credentials ends the attempt, because the others of its cluster do not accept them
    /// either.
    pub async fn open_any(
        servers: Vec<Server>,
        settings: &FrontSettings,
    ) -> Result<Self, FrontError> {
        let mut kept: Option<FrontError> = None;
        for server in servers {
            match Self::open(server, settings).await {
                Ok(link) => return Ok(link),
                Err(error) if error.is_cluster_wide() => return Err(error),
                // Another attempt helps if it would help with one of the servers.
                Err(error) => {
                    if kept.as_ref().is_none_or(|kept| !kept.is_temporary()) {
                        kept = Some(error);
                    }
                }
            }
        }

        Err(kept.unwrap_or(FrontError::NoServers))
    }

    /// Connects to a server.
    async fn open(server: Server, settings: &FrontSettings) -> Result<Self, FrontError> {
        let address = server.address();

        timeout(settings.connect_timeout, Self::connect(server, settings))
            .await
            .unwrap_or(Err(FrontError::TimedOut { server: address }))
    }

    async fn connect(server: Server, settings: &FrontSettings) -> Result<Self, FrontError> {
        let stream = TcpStream::connect((server.host.as_str(), server.port))
            .await
            .map_err(|source| unreachable(&server, source))?;
        stream
            .set_nodelay(true)
            .map_err(|source| unreachable(&server, source))?;

        let mut socket: Box<dyn Socket> = Box::new(stream);
        let mut decoder = Decoder::new(FIRST_PAYLOAD_BYTES_MAX);
        let info = read_info(&mut socket, &mut decoder, &server).await?;

        let has_tls = wants_tls(&info, &server, settings)?;
        if has_tls {
            // Anyone on the way may have written what follows the INFO without TLS.
            if !decoder.is_empty() {
                return Err(not_nats(&server, ProtocolError::End));
            }
            socket = secure(socket, &server, settings).await?;
        }

        let (reader, writer) = split(socket, decoder);
        let mut link = Self {
            server,
            info,
            has_tls,
            reader,
            writer,
        };
        link.log_in(settings).await?;
        Ok(link)
    }

    /// Sends CONNECT, and waits until the server has accepted it.
    async fn log_in(&mut self, settings: &FrontSettings) -> Result<(), FrontError> {
        let login = settings.login.login(self.info.nonce.clone()).await;
        let login = login.map_err(FrontError::Login)?;
        let connect = Connect {
            verbose: false,
            pedantic: false,
            tls_required: self.has_tls,
            name: &settings.name,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            echo: true,
            headers: true,
            no_responders: true,
            login: &login,
        };

        encoder::connect(&mut self.writer.control, &connect)
            .map_err(|source| not_nats(&self.server, ProtocolError::Info(source)))?;
        encoder::ping(&mut self.writer.control);
        self.writer.fill(&Outbox::default());
        while self.writer.is_busy() {
            let written = self.writer.write().await;
            written.map_err(|source| unreachable(&self.server, source))?;
        }

        loop {
            let op = self.reader.next().await;
            match op.map_err(|error| unreadable(&self.server, error))? {
                ServerOp::Pong => return Ok(()),
                ServerOp::Info(info) => self.info = *info,
                ServerOp::Ping => encoder::pong(&mut self.writer.control),
                ServerOp::Error(reason) => return Err(refused(&self.server, reason)),
                ServerOp::Ok | ServerOp::Message(_) | ServerOp::TooLong { .. } => {}
            }
        }
    }
}

/// Reads the first line of a server, which has to be INFO.
async fn read_info(
    socket: &mut Box<dyn Socket>,
    decoder: &mut Decoder,
    server: &Server,
) -> Result<ServerInfo, FrontError> {
    loop {
        let op = decoder.decode();
        match op.map_err(|source| not_nats(server, source))? {
            Some(ServerOp::Info(info)) => return Ok(*info),
            Some(ServerOp::Error(reason)) => return Err(refused(server, reason)),
            Some(_) => return Err(not_nats(server, ProtocolError::NoInfo)),
            None => {}
        }

        let read = socket.read_buf(decoder.read_buffer()).await;
        if read.map_err(|source| unreachable(server, source))? == 0 {
            return Err(unreachable(server, io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Returns whether the connection gets TLS: the settings, the URL or the server can require it.
///
/// # Errors
/// Fails when TLS is required and the server does not offer it.
fn wants_tls(
    info: &ServerInfo,
    server: &Server,
    settings: &FrontSettings,
) -> Result<bool, FrontError> {
    let is_offered = info.tls_required || info.tls_available;
    let is_required = settings.tls.required || server.needs_tls;

    if is_required && !is_offered {
        return Err(FrontError::NoTls {
            server: server.address(),
        });
    }
    Ok(is_required || info.tls_required)
}

/// Does the TLS handshake.
async fn secure(
    socket: Box<dyn Socket>,
    server: &Server,
    settings: &FrontSettings,
) -> Result<Box<dyn Socket>, FrontError> {
    let failed = |source| FrontError::Tls {
        server: server.address(),
        source,
    };
    let name =
        ServerName::try_from(server.tls_name().to_owned()).map_err(|_| failed(invalid_name()))?;

    let connector = settings.tls.connector().await?;
    let stream = connector.connect(name, socket).await.map_err(failed)?;
    Ok(Box::new(stream))
}

fn unreachable(server: &Server, source: io::Error) -> FrontError {
    FrontError::Unreachable {
        server: server.address(),
        source,
    }
}

fn not_nats(server: &Server, source: ProtocolError) -> FrontError {
    FrontError::Protocol {
        server: server.address(),
        source,
    }
}

fn unreadable(server: &Server, error: ReadError) -> FrontError {
    match error {
        ReadError::Io(source) => unreachable(server, source),
        ReadError::Protocol(source) => not_nats(server, source),
    }
}

fn refused(server: &Server, reason: String) -> FrontError {
    let server = server.address();

    if is_authentication(&reason) {
        FrontError::Authentication { server, reason }
    } else {
        FrontError::Refused { server, reason }
    }
}
