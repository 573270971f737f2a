//! The headers of a reply.

use super::error::shortened;
use super::header::{CONTENT_TYPE, ERROR, ERROR_CODE, REQUEST_ID};
use super::{Encoding, Refusal};
use async_nats::HeaderMap;

/// The longest text of `Nats-Service-Error`, in bytes.
const ERROR_BYTES: usize = 512;
/// The longest `Request-Id`, in bytes; ours are shorter.
const REQUEST_ID_BYTES: usize = 128;

/// The headers of every reply: how the body is written, and the id under which the log has the request.
pub fn reply_headers(encoding: Encoding, request_id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, encoding.content_type());
    headers.insert(REQUEST_ID, one_line(request_id, REQUEST_ID_BYTES));
    headers
}

/// The headers of a refusal: those of every reply, and the error as NATS services tell it (ADR-32).
pub fn error_headers(encoding: Encoding, request_id: &str, refusal: &Refusal) -> HeaderMap {
    let mut headers = reply_headers(encoding, request_id);
    headers.insert(ERROR_CODE, refusal.code().status().to_string());
    headers.insert(
        ERROR,
        one_line(
            &format!("{}: {}", refusal.code().as_str(), refusal.message()),
            ERROR_BYTES,
        ),
    );
    headers
}

/// The text without control characters: a line break within a value would begin a header of the caller's making.
fn one_line(text: &str, most: usize) -> String {
    shortened(text.replace(char::is_control, " "), most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code;

    fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(|value| value.as_str())
    }

    #[test]
    fn a_reply_says_how_it_is_written_and_under_which_id() {
        let headers = reply_headers(Encoding::Cbor, "r1");
        assert_eq!(value(&headers, "Content-Type"), Some("application/cbor"));
        assert_eq!(
            (value(&headers, "Request-Id"), headers.len()),
            (Some("r1"), 2)
        );
    }

    #[test]
    fn a_refusal_is_told_as_services_do() {
        let headers = error_headers(
            Encoding::Json,
            "r1",
            &Refusal::new(Code::NotFound, "there is no such item"),
        );
        assert_eq!(value(&headers, "Nats-Service-Error-Code"), Some("404"));
        assert_eq!(
            value(&headers, "Nats-Service-Error"),
            Some("not_found: there is no such item")
        );
        assert_eq!(
            (value(&headers, "Content-Type"), headers.len()),
            (Some("application/json"), 4)
        );
    }

    #[test]
    fn no_text_can_begin_another_header_or_go_on_without_end() {
        let refusal = Refusal::bad_request(format!("a\r\nEvil: 1\u{85}{}", "é".repeat(600)));
        let headers = error_headers(Encoding::Json, "r\n1", &refusal);
        let error = value(&headers, "Nats-Service-Error").expect("there");
        assert!(
            error.starts_with("bad_request: a  Evil: 1 é") && error.len() <= 512,
            "{}",
            error.len()
        );
        assert!(!error.contains(char::is_control));
        assert_eq!(value(&headers, "Request-Id"), Some("r 1"));
    }
}
