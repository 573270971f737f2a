//! Header blocks: what stands between the line of a message and its payload.
//!
//! ```text
//! NATS/1.0[ status[ description]]\r\n
//! name: value\r\n
//! \r\n
//! ```
//!
//! A caller writes the block, and the server passes it on without a look at it. So every byte of it
//! is input. What is accepted is what the published client accepts: a line may end in `\n` alone, a
//! line that begins with white space continues the value before it, and empty lines count for
//! nothing.

use crate::domain::opaque_debug;
use bytes::BytesMut;

/// What another client wrote and nobody can read: a header block, or a subject that is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be read")]
pub struct Unreadable;

/// What every block begins with.
const VERSION: &str = "NATS/1.0";

/// The headers of a message, in the order in which they came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    status: Option<u16>,
    description: String,
    /// All names and values, one after the other.
    text: String,
    fields: Vec<Field>,
}

/// Where a header stands in the text.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Field {
    name: usize,
    value: usize,
    end: usize,
}

// It may hold a token.
opaque_debug!(HeaderBlock);

/// A header that cannot be written: the name is empty, is not printable ASCII or has a colon; or
/// the value has a line break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header's name or value has a character that a header cannot have")]
pub struct InvalidHeader;

impl HeaderBlock {
    /// A block without headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a block.
    ///
    /// # Errors
    /// When it is not text, or not in the form above; when a value has a carriage return, or the
    /// status is not a number from 100 to 999.
    pub fn parse(block: &[u8]) -> Result<Self, Unreadable> {
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

    /// The version, then what only servers write: a status and its description.
    fn read_first_line(&mut self, line: &str) -> Result<(), Unreadable> {
        let rest = line.strip_prefix(VERSION).ok_or(Unreadable)?.trim();
        if rest.is_empty() {
            return Ok(());
        }

        let (status, description) = rest.split_once(' ').unwrap_or((rest, ""));
        self.status = Some(parse_status(status.trim())?);
        description.trim().clone_into(&mut self.description);
        Ok(())
    }

    /// Begins a header, whose value may go on in the next lines.
    fn open_field(&mut self, line: &str) -> Result<(), Unreadable> {
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

    /// Adds a header, after those that are there.
    ///
    /// # Errors
    /// When no header can have this name or value.
    pub fn append(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        if name.is_empty() || !is_name(name) || value.contains(['\r', '\n']) {
            return Err(InvalidHeader);
        }
        self.push(name, value);
        Ok(())
    }

    /// The status. Only servers write one, so a request that has one is not a caller's.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// What the status means, in words; empty where the server wrote none.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Whether there is no header. A status does not count as one.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The number of headers.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| {
            (
                &self.text[field.name..field.value],
                &self.text[field.value..field.end],
            )
        })
    }

    /// The values of all headers of that name, in any case of its letters.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The first value of that name, in any case of its letters.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Writes the block. A status is not written, because only servers write one.
    pub fn write(&self, out: &mut BytesMut) {
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

    /// How many bytes [`write`](Self::write) writes.
    pub fn wire_len(&self) -> usize {
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

/// Three digits, the first of them not 0.
fn parse_status(text: &str) -> Result<u16, Unreadable> {
    let is_status =
        text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    match is_status {
        true => text.parse().map_err(|_| Unreadable),
        false => Err(Unreadable),
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
