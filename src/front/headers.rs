//! Header blocks. A header block stands between the line of a message and its payload.
//!
//! ```text
//! NATS/1.0[ status[ description]]\r\n
//! name: value\r\n
//! \r\n
//! ```
//!
//! A caller writes the block, and the server passes it on unchecked. So every byte of it is
//! untrusted input. The parser accepts what the published client accepts: a line may end in `\n`
//! alone, a line that begins with white space continues the value before it, and empty lines are
//! ignored.

use crate::domain::opaque_debug;
use bytes::BytesMut;

/// A malformed header block, or a subject that is not UTF-8. Another client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be read")]
pub struct Unreadable;

/// The beginning of every block.
const VERSION: &str = "NATS/1.0";

/// The maximum number of headers: each takes more memory than it may have bytes.
const FIELDS_MAX: usize = 256;

/// The headers of a message, in the order in which they came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    status: Option<u16>,
    /// All names and values, concatenated.
    text: String,
    fields: Vec<Field>,
}

/// The position of a header in the text.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Field {
    name: usize,
    value: usize,
    end: usize,
}

// The headers may hold a token.
opaque_debug!(HeaderBlock);

/// A header that cannot be written. The name is empty, has a colon or is not printable ASCII, or
/// the value has a line break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header's name or value has a character that a header cannot have")]
pub struct InvalidHeader;

impl HeaderBlock {
    /// Creates a block without headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses a block.
    ///
    /// # Errors
    /// Fails when the block is not UTF-8 or does not have the form above, when a value has a
    /// carriage return, or when the status is not a number from 100 to 999.
    pub(super) fn parse(block: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(block).map_err(|_| Unreadable)?;
        let mut lines = text.lines();
        let first = lines.next().ok_or(Unreadable)?;

        let mut headers = Self::default();
        headers.read_first_line(first)?;

        let mut is_open = false;
        for line in lines {
            if is_open && line.starts_with(char::is_whitespace) {
                headers.text.push_str(line);
                continue;
            }
            if std::mem::take(&mut is_open) {
                headers.close_field()?;
            }
            if !line.is_empty() {
                headers.open_field(line)?;
                is_open = true;
            }
        }
        if is_open {
            headers.close_field()?;
        }

        Ok(headers)
    }

    /// Reads the version, and the status that only servers write. Its description is ignored.
    fn read_first_line(&mut self, line: &str) -> Result<(), Unreadable> {
        let rest = line.strip_prefix(VERSION).ok_or(Unreadable)?.trim();
        if rest.is_empty() {
            return Ok(());
        }

        let status = rest.split(' ').next().unwrap_or(rest);
        self.status = Some(parse_status(status.trim())?);
        Ok(())
    }

    /// Begins a header. The next lines may continue its value.
    fn open_field(&mut self, line: &str) -> Result<(), Unreadable> {
        if self.fields.len() >= FIELDS_MAX {
            return Err(Unreadable);
        }

        let (name, value) = line.split_once(':').ok_or(Unreadable)?;
        if !is_name(name) {
            return Err(Unreadable);
        }

        self.push(name, value.trim_start());
        Ok(())
    }

    /// Ends the newest header.
    fn close_field(&mut self) -> Result<(), Unreadable> {
        let field = self.fields.last_mut().ok_or(Unreadable)?;
        let value = self.text[field.value..].trim_end();
        if value.contains('\r') {
            return Err(Unreadable);
        }

        field.end = field.value + value.len();
        self.text.truncate(field.end);
        Ok(())
    }

    fn push(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        self.text.push_str(value);

        self.fields.push(Field {
            name: start,
            value: start + name.len(),
            end: self.text.len(),
        });
    }

    /// Appends a header.
    ///
    /// # Errors
    /// Fails when no header can have this name or value.
    pub fn append(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        if name.is_empty() || !is_name(name) || value.contains(['\r', '\n']) {
            return Err(InvalidHeader);
        }

        self.push(name, value);
        Ok(())
    }

    /// Returns the status. Only servers write one, so a request with a status is not from a caller.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns whether there is no header. A status does not count as one.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Returns the names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| {
            (
                &self.text[field.name..field.value],
                &self.text[field.value..field.end],
            )
        })
    }

    /// Writes the block without the status, which only servers write.
    pub(super) fn write(&self, out: &mut BytesMut) {
        out.reserve(self.wire_len());
        out.extend_from_slice(VERSION.as_bytes());
        out.extend_from_slice(b"\r\n");

        for (name, value) in self.iter() {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }

        out.extend_from_slice(b"\r\n");
    }

    /// Returns the number of bytes that [`write`](Self::write) writes.
    pub(super) fn wire_len(&self) -> usize {
        let lines: usize = self
            .iter()
            .map(|(name, value)| name.len() + value.len() + ": \r\n".len())
            .sum();

        VERSION.len() + lines + "\r\n\r\n".len()
    }
}

fn is_name(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// Parses a status of three digits, of which the first is not 0.
fn parse_status(text: &str) -> Result<u16, Unreadable> {
    let is_status =
        text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');

    if !is_status {
        return Err(Unreadable);
    }
    text.parse().map_err(|_| Unreadable)
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
