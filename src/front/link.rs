//! One connection to one server, from the socket to the first PONG.

use super::commands::{self, Connect};
use super::decoder::Decoder;
use super::error::FrontError;
use super::outbox::{Chunk, Messages, Outbox};
use super::protocol::{ProtocolError, ServerInfo, ServerOp};
use super::server::Server;
use super::server_error::is_authentication;
use super::settings::FrontSettings;
use super::tls::invalid_name;
use bytes::BytesMut;
use std::io;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

/// The bound of messages before the server has named its own, in bytes.
const FIRST_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// A socket, with TLS or without.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection that a server has accepted.
pub(super) struct Link {
    pub server: Server,
    pub info: ServerInfo,
    /// Whether it has TLS.
    pub has_tls: bool,
    pub reader: Reader,
    pub writer: Writer,
}

/// The half that reads.
pub(super) struct Reader {
    half: ReadHalf<Box<dyn Socket>>,
    pub decoder: Decoder,
}

/// The half that writes.
pub(super) struct Writer {
    half: WriteHalf<Box<dyn Socket>>,
    chunk: Chunk,
    needs_flush: bool,
    /// Commands that concern this connection alone.
    pub control: BytesMut,
}

impl Link {
    /// Connects to the first of the servers that takes it. One that does not know the user ends the
    /// attempt: the others of its cluster do not know it either.
    pub async fn open_any(
        servers: Vec<Server>,
        settings: &FrontSettings,
    ) -> Result<Self, FrontError> {
        let mut last = FrontError::NoServers;
        for server in servers {
            match Self::open(server, settings).await {
                Ok(link) => return Ok(link),
                Err(error) if error.is_everywhere() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to a server.
    pub async fn open(server: Server, settings: &FrontSettings) -> Result<Self, FrontError> {
        let place = server.place();
        timeout(settings.connect_timeout, Self::greet(server, settings))
            .await
            .unwrap_or(Err(FrontError::TimedOut { server: place }))
    }

    async fn greet(server: Server, settings: &FrontSettings) -> Result<Self, FrontError> {
        let lost = |source| FrontError::Unreachable {
            server: server.place(),
            source,
        };
        let socket = TcpStream::connect((server.host.as_str(), server.port))
            .await
            .map_err(lost)?;
        socket.set_nodelay(true).map_err(lost)?;

        let mut socket: Box<dyn Socket> = Box::new(socket);
        let mut decoder = Decoder::new(FIRST_PAYLOAD_BYTES_MAX);
        let info = read_info(&mut socket, &mut decoder, &server).await?;
        let has_tls = wants_tls(&info, &server, settings)?;
        if has_tls {
            // What came before TLS and is not the INFO may be anyone's.
            if !decoder.is_empty() {
                return Err(not_nats(&server, ProtocolError::End));
            }
            socket = secure(socket, &server, settings).await?;
        }

        let (read, write) = tokio::io::split(socket);
        let mut link = Self {
            server,
            info,
            has_tls,
            reader: Reader {
                half: read,
                decoder,
            },
            writer: Writer {
                half: write,
                chunk: Chunk::default(),
                needs_flush: false,
                control: BytesMut::new(),
            },
        };
        link.introduce(settings).await?;
        Ok(link)
    }

    /// Sends CONNECT, and waits until the server has accepted it.
    async fn introduce(&mut self, settings: &FrontSettings) -> Result<(), FrontError> {
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
        commands::connect(&mut self.writer.control, &connect)
            .map_err(|source| not_nats(&self.server, ProtocolError::Info(source)))?;
        commands::ping(&mut self.writer.control);
        self.writer.fill(&Outbox::default());

        while self.writer.is_busy() {
            let written = self.writer.write().await;
            written.map_err(|source| unreachable(&self.server, source))?;
        }
        loop {
            let op = self.reader.next().await;
            match op.map_err(|error| error.of(&self.server))? {
                ServerOp::Pong => return Ok(()),
                ServerOp::Info(info) => self.info = *info,
                ServerOp::Ping => commands::pong(&mut self.writer.control),
                ServerOp::Error(reason) => return Err(refused(&self.server, reason)),
                ServerOp::Ok | ServerOp::Message(_) | ServerOp::TooLong { .. } => {}
            }
        }
    }
}

impl Reader {
    /// Reads what is there. It may be dropped at any time without a loss.
    pub async fn read(&mut self) -> io::Result<()> {
        match self.half.read_buf(self.decoder.room()).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next thing that the server sends.
    async fn next(&mut self) -> Result<ServerOp, ReadError> {
        loop {
            if let Some(op) = self.decoder.decode()? {
                return Ok(op);
            }
            self.read().await?;
        }
    }
}

impl Writer {
    /// Whether something is being written.
    pub fn is_busy(&self) -> bool {
        !self.chunk.is_empty() || self.needs_flush
    }

    /// Takes what waits: messages of the outbox, then commands.
    pub fn fill(&mut self, outbox: &Outbox) {
        if self.chunk.is_empty() {
            self.chunk = outbox.take(&mut self.control);
        }
    }

    /// Writes a part of what is being written. It may be dropped at any time without a loss.
    pub async fn write(&mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            let count = self.half.write(self.chunk.rest()).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.chunk.advance(count);
            self.needs_flush = true;
        }
        if self.chunk.is_empty() {
            self.half.flush().await?;
            self.needs_flush = false;
        }
        Ok(())
    }

    /// Ends the connection in order.
    pub async fn shut_down(&mut self) {
        // The server may have closed it already.
        let _ = self.half.shutdown().await;
    }

    /// The messages of which no byte was written.
    pub fn take_unsent(&mut self) -> Messages {
        std::mem::take(&mut self.chunk).into_unsent()
    }
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl ReadError {
    fn of(self, server: &Server) -> FrontError {
        match self {
            Self::Io(source) => unreachable(server, source),
            Self::Protocol(source) => not_nats(server, source),
        }
    }
}

fn unreachable(server: &Server, source: io::Error) -> FrontError {
    FrontError::Unreachable {
        server: server.place(),
        source,
    }
}

fn not_nats(server: &Server, source: ProtocolError) -> FrontError {
    FrontError::Protocol {
        server: server.place(),
        source,
    }
}

fn refused(server: &Server, reason: String) -> FrontError {
    let server = server.place();
    match is_authentication(&reason) {
        true => FrontError::Authentication { server, reason },
        false => FrontError::Refused { server, reason },
    }
}

/// Reads the server's first word, which has to be INFO.
async fn read_info(
    socket: &mut Box<dyn Socket>,
    decoder: &mut Decoder,
    server: &Server,
) -> Result<ServerInfo, FrontError> {
    loop {
        match decoder
            .decode()
            .map_err(|source| not_nats(server, source))?
        {
            Some(ServerOp::Info(info)) => return Ok(*info),
            Some(ServerOp::Error(reason)) => return Err(refused(server, reason)),
            Some(_) => {
                let verb = ProtocolError::Verb("something else than INFO".to_owned());
                return Err(not_nats(server, verb));
            }
            None => {}
        }
        let read = socket.read_buf(decoder.room()).await;
        if read.map_err(|source| unreachable(server, source))? == 0 {
            return Err(unreachable(server, io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Whether the connection gets TLS: the settings, the URL or the server ask for it.
fn wants_tls(
    info: &ServerInfo,
    server: &Server,
    settings: &FrontSettings,
) -> Result<bool, FrontError> {
    let is_offered = info.tls_required || info.tls_available;
    let is_required = settings.tls.required || server.needs_tls;
    match is_required && !is_offered {
        true => Err(FrontError::NoTls {
            server: server.place(),
        }),
        false => Ok(is_required || info.tls_required),
    }
}

async fn secure(
    socket: Box<dyn Socket>,
    server: &Server,
    settings: &FrontSettings,
) -> Result<Box<dyn Socket>, FrontError> {
    let failed = |source| FrontError::Tls {
        server: server.place(),
        source,
    };
    let name =
        ServerName::try_from(server.tls_name().to_owned()).map_err(|_| failed(invalid_name()))?;
    let connector = settings.tls.connector().await?;
    let stream = connector.connect(name, socket).await.map_err(failed)?;
    Ok(Box::new(stream))
}
