//! The two halves of a link: one reads, one writes.

use super::decoder::Decoder;
use super::outbox::{Chunk, Messages, Outbox};
use super::protocol::{ProtocolError, ServerOp};
use bytes::BytesMut;
use std::io;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};

/// A socket, with TLS or without.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

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
    /// Commands that concern this link alone.
    pub control: BytesMut,
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Splits a socket. The decoder may hold bytes that were read from it before.
pub(super) fn split(socket: Box<dyn Socket>, decoder: Decoder) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(socket);

    let reader = Reader {
        half: read,
        decoder,
    };
    let writer = Writer {
        half: write,
        chunk: Chunk::default(),
        needs_flush: false,
        control: BytesMut::new(),
    };
    (reader, writer)
}

impl Reader {
    /// Reads what is there. Cancelling it loses nothing.
    ///
    /// # Errors
    /// Fails at the end of the connection, too.
    pub async fn read(&mut self) -> io::Result<()> {
        match self.half.read_buf(self.decoder.read_buffer()).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Returns the next thing that the server sends.
    pub async fn next(&mut self) -> Result<ServerOp, ReadError> {
        loop {
            if let Some(op) = self.decoder.decode()? {
                return Ok(op);
            }
            self.read().await?;
        }
    }
}

impl Writer {
    /// Returns whether something is being written.
    pub fn is_busy(&self) -> bool {
        !self.chunk.is_empty() || self.needs_flush
    }

    /// Takes what waits: messages of the outbox, then commands.
    pub fn fill(&mut self, outbox: &Outbox) {
        if self.chunk.is_empty() {
            self.chunk = outbox.take(&mut self.control);
        }
    }

    /// Writes a part of what is being written. Cancelling it loses nothing.
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

    /// Returns the messages of which no byte was written.
    pub fn take_unsent(&mut self) -> Messages {
        std::mem::take(&mut self.chunk).into_unsent()
    }
}
