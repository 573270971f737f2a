//! Decodes what a server sends, from bytes as they arrive.
//!
//! It does no input or output of its own, so a test can cut the bytes at any place. Subjects,
//! headers and payloads, which other clients write, never cause an error. Only invalid verbs and
//! lengths do, which the server itself writes.
//!
//! Its memory is bounded: a line by [`LINE_BYTES_MAX`], an INFO by [`INFO_BYTES_MAX`], a message by
//! the server's `max_payload` and by what servers add to headers. A longer message is skipped.

use super::headers::HeaderBlock;
use super::protocol::{Message, ProtocolError, RawSubject, ServerOp};
use bytes::{Buf as _, Bytes, BytesMut};

/// The longest line, in bytes. A server takes lines of 4,096 bytes from its clients unless its
/// operator raised `max_control_line`, and a caller may use all of it. This is sixteen times that.
pub const LINE_BYTES_MAX: usize = 65_536;
/// The longest INFO, in bytes. It names every server of the cluster.
pub const INFO_BYTES_MAX: usize = 1 << 20;
/// The most that servers add to a message's headers, in bytes.
pub const ADDED_BYTES_MAX: usize = 65_536;
/// The size of a new buffer, in bytes.
const READ_BYTES: usize = 65_536;
/// With less free space than this, a new buffer is allocated, in bytes.
const FREE_BYTES_MIN: usize = 4_096;

/// Decodes a server's bytes. After an error it cannot continue.
pub struct Decoder {
    buffer: BytesMut,
    /// The number of bytes at the start of the buffer that hold no end of a line.
    searched: usize,
    state: State,
    max_payload: usize,
}

/// What the next bytes are.
enum State {
    Line,
    Body(Head),
    /// The rest of a skipped message with its end of line: the number of bytes left.
    Skip(usize),
}

/// The line of a message.
struct Head {
    sid: u64,
    subject: Bytes,
    reply: Option<Bytes>,
    header_len: usize,
    total_len: usize,
}

impl Decoder {
    /// Creates a decoder for messages of at most `max_payload` bytes.
    pub fn new(max_payload: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            state: State::Line,
            max_payload,
        }
    }

    /// Applies the server's `max_payload`.
    pub fn set_max_payload(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// Returns the buffer, to which the next bytes are to be appended. It has free space.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        let missing = match &self.state {
            State::Body(head) => (head.total_len + 2).saturating_sub(self.buffer.len()),
            State::Line | State::Skip(_) => 0,
        };

        // Small messages share a buffer until it is full. Otherwise each would keep its own alive.
        if self.buffer.capacity() - self.buffer.len() < missing.max(FREE_BYTES_MIN) {
            self.buffer.reserve(missing.max(READ_BYTES));
        }

        &mut self.buffer
    }

    /// Returns whether every byte so far belonged to something that was returned.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && matches!(self.state, State::Line)
    }

    /// Returns the next thing that the server sent, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// Fails when the bytes are not the protocol's.
    pub fn decode(&mut self) -> Result<Option<ServerOp>, ProtocolError> {
        loop {
            match &mut self.state {
                State::Line => {
                    let Some(line) = self.take_line()? else {
                        return Ok(None);
                    };
                    if let Some(op) = self.read_line(line)? {
                        return Ok(Some(op));
                    }
                }
                State::Body(head) => {
                    if self.buffer.len() < head.total_len + 2 {
                        return Ok(None);
                    }

                    return self.take_body().map(Some);
                }
                State::Skip(left) => {
                    let count = self.buffer.len().min(*left);
                    self.buffer.advance(count);
                    *left -= count;

                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Line;
                }
            }
        }
    }

    /// Takes the next line, without its end.
    fn take_line(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        let found = self.buffer[self.searched..]
            .windows(2)
            .position(|pair| pair == b"\r\n");
        let max = if self.buffer.starts_with(b"INFO ") {
            INFO_BYTES_MAX
        } else {
            LINE_BYTES_MAX
        };

        let end = found.map_or(self.buffer.len(), |at| self.searched + at);
        if end > max {
            return Err(ProtocolError::LineTooLong(max));
        }
        if found.is_none() {
            // The last byte may be the first half of an end of line.
            self.searched = self.buffer.len().saturating_sub(1);
            return Ok(None);
        }

        self.searched = 0;
        let mut line = self.buffer.split_to(end + 2);
        line.truncate(end);
        Ok(Some(line.freeze()))
    }

    /// Reads a line. Returns `None` for the line of a message, whose body follows.
    fn read_line(&mut self, line: Bytes) -> Result<Option<ServerOp>, ProtocolError> {
        let (verb, rest) = match line.iter().position(|byte| *byte == b' ') {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (&line[..], &[][..]),
        };

        match verb {
            b"MSG" | b"HMSG" => {
                let has_headers = verb == b"HMSG";
                let head = Head::parse(&line, rest, has_headers).ok_or(ProtocolError::Line)?;
                Ok(self.begin_body(head))
            }
            b"PING" => Ok(Some(ServerOp::Ping)),
            b"PONG" => Ok(Some(ServerOp::Pong)),
            b"+OK" => Ok(Some(ServerOp::Ok)),
            b"-ERR" => {
                let text = String::from_utf8_lossy(rest);
                let text = text.trim().trim_matches('\'').to_owned();
                Ok(Some(ServerOp::Error(text)))
            }
            b"INFO" => serde_json::from_slice(rest)
                .map(|info| Some(ServerOp::Info(info)))
                .map_err(ProtocolError::Info),
            _ => Err(ProtocolError::Verb),
        }
    }

    /// Begins the body of a message, or begins to skip it if it is too long.
    fn begin_body(&mut self, head: Head) -> Option<ServerOp> {
        if head.total_len > self.max_payload.saturating_add(ADDED_BYTES_MAX) {
            self.state = State::Skip(head.total_len + 2);
            return Some(ServerOp::TooLong {
                length: head.total_len,
            });
        }

        self.state = State::Body(head);
        None
    }

    fn take_body(&mut self) -> Result<ServerOp, ProtocolError> {
        let State::Body(head) = std::mem::replace(&mut self.state, State::Line) else {
            return Err(ProtocolError::End);
        };

        let headers = self.buffer.split_to(head.header_len);
        let payload = self.buffer.split_to(head.total_len - head.header_len);
        if &self.buffer.split_to(2)[..] != b"\r\n" {
            return Err(ProtocolError::End);
        }

        let headers = match head.header_len {
            0 => Ok(HeaderBlock::new()),
            _ => HeaderBlock::parse(&headers),
        };
        let reply_len = head.reply.as_ref().map_or(0, Bytes::len);

        Ok(ServerOp::Message(Box::new(Message {
            sid: head.sid,
            length: head.subject.len() + reply_len + head.total_len,
            subject: RawSubject::new(head.subject),
            reply: head.reply.map(RawSubject::new),
            headers,
            payload: payload.freeze(),
        })))
    }
}

impl Head {
    /// Parses `subject sid [reply] [header bytes] bytes`. Only spaces separate the parts: the
    /// server accepts any other white space as a part of a subject.
    fn parse(line: &Bytes, rest: &[u8], has_headers: bool) -> Option<Self> {
        let mut parts = rest
            .split(|byte| *byte == b' ')
            .filter(|part| !part.is_empty());
        let parts: [Option<&[u8]>; 6] = std::array::from_fn(|_| parts.next());

        let (subject, sid, reply, header_len, total_len) = match (has_headers, parts) {
            (false, [Some(subject), Some(sid), Some(all), None, None, None]) => {
                (subject, sid, None, None, all)
            }
            (false, [Some(subject), Some(sid), reply, Some(all), None, None]) => {
                (subject, sid, reply, None, all)
            }
            (true, [Some(subject), Some(sid), Some(head), Some(all), None, None]) => {
                (subject, sid, None, Some(head), all)
            }
            (true, [Some(subject), Some(sid), reply, Some(head), Some(all), None]) => {
                (subject, sid, reply, Some(head), all)
            }
            _ => return None,
        };

        let header_len = header_len.map_or(Some(0), number)?;
        let total_len = number(total_len)?;
        if header_len > total_len {
            return None;
        }

        Some(Self {
            sid: number(sid)?.try_into().ok()?,
            subject: line.slice_ref(subject),
            reply: reply.map(|reply| line.slice_ref(reply)),
            header_len,
            total_len,
        })
    }
}

/// Parses a number of at most nine digits. Servers write no longer ones.
fn number(text: &[u8]) -> Option<usize> {
    let is_number = (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
