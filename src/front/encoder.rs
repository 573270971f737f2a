//! What a client sends, as bytes.

use super::headers::HeaderBlock;
use super::login::Login;
use bytes::BytesMut;
use serde::Serialize;
use std::fmt::Write as _;

/// The longest subject, in bytes. A server takes lines of at most 4,096 bytes and ends the
/// connection over a longer one.
pub const SUBJECT_BYTES_MAX: usize = 3_072;

/// The fields of CONNECT.
#[derive(Serialize)]
pub(super) struct Connect<'a> {
    pub verbose: bool,
    pub pedantic: bool,
    pub tls_required: bool,
    pub name: &'a str,
    pub lang: &'static str,
    pub version: &'static str,
    /// 1: the server may send INFO at any time.
    pub protocol: u8,
    pub echo: bool,
    pub headers: bool,
    pub no_responders: bool,
    #[serde(flatten)]
    pub login: &'a Login,
}

/// Returns whether a subject can be sent: it is not empty, has neither white space nor control
/// characters, and is at most [`SUBJECT_BYTES_MAX`] long.
pub(super) fn is_subject(subject: &str) -> bool {
    let is_sendable = |byte: u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control();

    (1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && subject.bytes().all(is_sendable)
}

/// Logs in.
pub(super) fn connect(out: &mut BytesMut, connect: &Connect<'_>) -> Result<(), serde_json::Error> {
    let json = serde_json::to_vec(connect)?;

    out.extend_from_slice(b"CONNECT ");
    out.extend_from_slice(&json);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Subscribes, as a member of a queue group if one is named.
pub(super) fn subscribe(out: &mut BytesMut, subject: &str, queue_group: Option<&str>, sid: u64) {
    match queue_group {
        Some(group) => line(out, format_args!("SUB {subject} {group} {sid}")),
        None => line(out, format_args!("SUB {subject} {sid}")),
    }
}

/// Ends a subscription.
pub(super) fn unsubscribe(out: &mut BytesMut, sid: u64) {
    line(out, format_args!("UNSUB {sid}"));
}

/// Publishes a message.
pub(super) fn publish(out: &mut BytesMut, subject: &str, headers: &HeaderBlock, payload: &[u8]) {
    let total = publish_len(headers, payload);
    // 32: the verb, the numbers and the ends of lines.
    out.reserve(total + subject.len() + 32);

    if headers.is_empty() {
        line(out, format_args!("PUB {subject} {total}"));
    } else {
        let head = headers.wire_len();
        line(out, format_args!("HPUB {subject} {head} {total}"));
        headers.write(out);
    }

    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Returns the length of a message with its headers, in bytes. The server compares it with its
/// `max_payload`.
pub(super) fn publish_len(headers: &HeaderBlock, payload: &[u8]) -> usize {
    if headers.is_empty() {
        payload.len()
    } else {
        headers.wire_len() + payload.len()
    }
}

/// Returns the same for a message that is written: the last number of its first line.
pub(super) fn payload_len(message: &[u8]) -> usize {
    let line = message.split(|byte| *byte == b'\r').next();
    let number = line.and_then(|line| line.rsplit(|byte| *byte == b' ').next());
    let number = number.and_then(|digits| std::str::from_utf8(digits).ok());

    number.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Asks the server for a PONG.
pub(super) fn ping(out: &mut BytesMut) {
    out.extend_from_slice(b"PING\r\n");
}

/// Answers the server's PING.
pub(super) fn pong(out: &mut BytesMut) {
    out.extend_from_slice(b"PONG\r\n");
}

fn line(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    // Writing to a buffer in memory cannot fail.
    let _ = out.write_fmt(text);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);

        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn each_command_is_a_line_of_the_protocol() {
        assert_eq!(encoded(ping), "PING\r\n");
        assert_eq!(encoded(pong), "PONG\r\n");
        assert_eq!(
            encoded(|out| subscribe(out, "a.>", None, 1)),
            "SUB a.> 1\r\n"
        );
        assert_eq!(
            encoded(|out| subscribe(out, "a", Some("g"), 12)),
            "SUB a g 12\r\n"
        );
        assert_eq!(encoded(|out| unsubscribe(out, 1)), "UNSUB 1\r\n");
    }

    #[test]
    fn a_message_is_written_with_its_lengths() {
        let none = HeaderBlock::new();
        let mut one = HeaderBlock::new();
        one.append("X", "y").expect("valid");

        let plain = encoded(|out| publish(out, "a", &none, b"body"));
        let with_header = encoded(|out| publish(out, "a", &one, b"body"));

        assert_eq!(plain, "PUB a 4\r\nbody\r\n");
        assert_eq!(
            with_header,
            "HPUB a 18 22\r\nNATS/1.0\r\nX: y\r\n\r\nbody\r\n"
        );
        assert_eq!(publish_len(&one, b"body"), 22);
    }

    #[test]
    fn a_subject_cannot_be_a_command() {
        let long = "a".repeat(SUBJECT_BYTES_MAX + 1);

        for subject in ["a", "_INBOX.x.y", "$SRV.PING", "a.>", "é"] {
            assert!(is_subject(subject), "{subject}");
        }
        for subject in ["", "a b", "a\tb", "a\r\nPUB b 0", "a\nb", "a\0", &long] {
            assert!(!is_subject(subject), "{subject:?}");
        }
    }
}
