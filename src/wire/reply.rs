//! Builds the headers of a reply.

use super::error::truncate;
use super::header::{
    CONTENT_TYPE, ERROR, ERROR_CODE, HEADER_FRAME_BYTES, REQUEST_ID, header_bytes,
};
use super::{Encoding, Refusal};

/// The maximum length of `Nats-Service-Error`, in bytes.
const ERROR_BYTES_MAX: usize = 512;
/// The maximum length of `Request-Id`, in bytes. The ids that a worker creates are shorter.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// The maximum length of a status, in bytes.
const STATUS_BYTES_MAX: usize = 3;
/// The maximum length of a `Content-Type` that a reply has, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = "application/json".len();

/// The maximum length of the headers of a reply as they are sent, in bytes.
pub const REPLY_HEADER_BYTES_MAX: usize = HEADER_FRAME_BYTES
    + header_bytes(CONTENT_TYPE, CONTENT_TYPE_BYTES_MAX)
    + header_bytes(REQUEST_ID, REQUEST_ID_BYTES_MAX)
    + header_bytes(ERROR_CODE, STATUS_BYTES_MAX)
    + header_bytes(ERROR, ERROR_BYTES_MAX);

/// The headers of a reply: names and values.
pub type ReplyHeaders = Vec<(&'static str, String)>;

/// Returns the headers of every reply: the encoding of the body, and the id of the request in the
/// log.
pub fn reply_headers(encoding: Encoding, request_id: &str) -> ReplyHeaders {
    vec![
        (CONTENT_TYPE, encoding.content_type().to_owned()),
        (REQUEST_ID, one_line(request_id, REQUEST_ID_BYTES_MAX)),
    ]
}

/// Returns the headers of a refusal: those of every reply, and those of an error of a NATS service
/// (ADR-32).
pub fn error_headers(encoding: Encoding, request_id: &str, refusal: &Refusal) -> ReplyHeaders {
    let error = format!("{}: {}", refusal.code().as_str(), refusal.message());

    let mut headers = reply_headers(encoding, request_id);
    headers.push((ERROR_CODE, refusal.code().status().to_string()));
    headers.push((ERROR, one_line(&error, ERROR_BYTES_MAX)));

    headers
}

/// Replaces control characters and truncates the text.
///
/// A line break in a value would let a caller inject a header.
fn one_line(text: &str, max_bytes: usize) -> String {
    truncate(text.replace(char::is_control, " "), max_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code;

    fn value<'a>(headers: &'a ReplyHeaders, name: &str) -> Option<&'a str> {
        let found = headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_reply_has_its_encoding_and_the_request_id() {
        let headers = reply_headers(Encoding::Cbor, "r1");

        assert_eq!(value(&headers, "Content-Type"), Some("application/cbor"));
        assert_eq!(value(&headers, "Request-Id"), Some("r1"));
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn no_reply_has_longer_headers_than_the_maximum() {
        let refusal = Refusal::new(Code::BadRequest, "é".repeat(600));
        let sent = |encoding| {
            let headers = error_headers(encoding, &"r".repeat(200), &refusal);
            let lines = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n").len());
            "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
        };

        for encoding in [Encoding::Json, Encoding::Cbor] {
            let longest = sent(encoding);
            // A cut in the middle of a character leaves a few bytes unused.
            let range = REPLY_HEADER_BYTES_MAX - 8..=REPLY_HEADER_BYTES_MAX;
            assert!(
                range.contains(&longest),
                "{longest} of {REPLY_HEADER_BYTES_MAX}"
            );
        }
    }

    #[test]
    fn a_refusal_has_the_error_headers_of_nats_services() {
        let refusal = Refusal::new(Code::NotFound, "there is no such item");

        let headers = error_headers(Encoding::Json, "r1", &refusal);

        assert_eq!(value(&headers, "Nats-Service-Error-Code"), Some("404"));
        assert_eq!(
            value(&headers, "Nats-Service-Error"),
            Some("not_found: there is no such item")
        );
        assert_eq!(value(&headers, "Content-Type"), Some("application/json"));
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn no_text_can_begin_another_header_or_be_endless() {
        let refusal = Refusal::bad_request(format!("a\r\nEvil: 1\u{85}{}", "é".repeat(600)));

        let headers = error_headers(Encoding::Json, "r\n1", &refusal);

        let error = value(&headers, "Nats-Service-Error").expect("present");
        assert!(error.starts_with("bad_request: a  Evil: 1 é"));
        assert!(error.len() <= 512, "{}", error.len());
        assert!(!error.contains(char::is_control));
        assert_eq!(value(&headers, "Request-Id"), Some("r 1"));
    }
}
