//! Parses the headers of a request.

use super::{Encoding, Refusal, TraceContext};
use crate::domain::opaque_debug;
use serde::Deserialize;

/// The caller's token: `Bearer <token>` (RFC 6750).
pub const AUTHORIZATION: &str = "Authorization";
/// The encoding of the body, in a request and in a reply.
pub const CONTENT_TYPE: &str = "Content-Type";
/// The caller's id of a write, which makes the write idempotent.
pub const NATS_MSG_ID: &str = "Nats-Msg-Id";
/// How long the caller waits, in milliseconds.
pub const REQUEST_TIMEOUT_MS: &str = "Request-Timeout-Ms";
/// The caller's trace context (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
/// In a reply: the id of the request in the worker's log.
pub const REQUEST_ID: &str = "Request-Id";
/// In a refusal: its status (NATS services, ADR-32).
pub const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// In a refusal: its code and message in one line (NATS services, ADR-32).
pub const ERROR: &str = "Nats-Service-Error";

/// The bytes of a header block around its headers: the version and the empty line.
pub(super) const HEADER_FRAME_BYTES: usize = "NATS/1.0\r\n\r\n".len();
/// The longest value of `Content-Type` that a client is expected to send, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// The longest value of `Request-Timeout-Ms` and of `traceparent` that a client is expected to send,
/// in bytes.
const SHORT_VALUE_BYTES_MAX: usize = 64;

/// The length of a header as it is sent, with a value of this length, in bytes.
pub(super) const fn header_bytes(name: &str, value_bytes: usize) -> usize {
    name.len() + ": \r\n".len() + value_bytes
}

/// The limits on headers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderLimits {
    /// The maximum length of a token, in bytes.
    pub token_bytes: usize,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        Self { token_bytes: 8_192 }
    }
}

impl HeaderLimits {
    /// The length of the headers that a request needs at most, as they are sent, in bytes. Other
    /// headers of the caller come on top.
    pub fn request_header_bytes(&self) -> usize {
        HEADER_FRAME_BYTES
            + header_bytes(AUTHORIZATION, "Bearer ".len() + self.token_bytes)
            + header_bytes(CONTENT_TYPE, CONTENT_TYPE_BYTES_MAX)
            + header_bytes(NATS_MSG_ID, RequestKey::LENGTH_MAX)
            + header_bytes(REQUEST_TIMEOUT_MS, SHORT_VALUE_BYTES_MAX)
            + header_bytes(TRACEPARENT, SHORT_VALUE_BYTES_MAX)
    }
}

/// The caller's id of a write: 1 to 128 printable ASCII characters.
///
/// It is not sent to any other service.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestKey(String);

/// The parsed headers of a request.
#[derive(Clone, Default)]
pub struct RequestHeaders {
    /// The token, not yet verified, or the refusal of a wrong header. Operations that need no token
    /// ignore the refusal.
    pub token: Option<Result<String, Refusal>>,
    /// The encoding of the body and of the reply.
    pub encoding: Encoding,
    /// The caller's id of a write.
    pub request_id: Option<RequestKey>,
    /// How long the caller waits, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The caller's trace context; `None` if its header is malformed or doubled.
    pub trace: Option<TraceContext>,
}

opaque_debug!(RequestKey, RequestHeaders);

/// The headers of a request that a worker reads, each with its only value.
#[derive(Default)]
struct KnownHeaders<'a> {
    authorization: HeaderValue<'a>,
    content_type: HeaderValue<'a>,
    msg_id: HeaderValue<'a>,
    timeout_ms: HeaderValue<'a>,
    traceparent: HeaderValue<'a>,
}

/// The value of a header, and whether it is the only one.
#[derive(Clone, Copy, Default)]
enum HeaderValue<'a> {
    #[default]
    Missing,
    Single(&'a str),
    Several,
}

impl RequestKey {
    /// The maximum length, in characters.
    pub const LENGTH_MAX: usize = 128;

    /// Parses the value of the header.
    ///
    /// # Errors
    /// `bad_request` with the header's name in `details.field`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));

        if printable && (1..=Self::LENGTH_MAX).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refusal::bad_field(
                NATS_MSG_ID,
                "must be 1 to 128 printable ASCII characters",
            ))
        }
    }

    /// Returns the value of the header, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RequestHeaders {
    /// Parses the headers of a request: names and values in the order in which they came. The names
    /// are not case-sensitive, and unknown ones are ignored.
    ///
    /// # Errors
    /// A refusal and the encoding to write it in: the caller's, or the default if the encoding is
    /// itself wrong. The refusal is `bad_request` for a header that is malformed or given twice
    /// (even in two spellings), or `unsupported_encoding`.
    ///
    /// A wrong `Authorization` header is not an error here. Its refusal is in `token`:
    /// `bad_request` if it is given twice, `unauthenticated` if it is no bearer token, or
    /// `too_large`.
    pub fn parse<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        limits: &HeaderLimits,
    ) -> Result<Self, (Encoding, Refusal)> {
        let known = KnownHeaders::find(headers);

        let encoding = known
            .content_type
            .single(CONTENT_TYPE)
            .and_then(Encoding::from_content_type)
            .map_err(|refusal| (Encoding::default(), refusal))?;

        Self::parse_known(&known, encoding, limits).map_err(|refusal| (encoding, refusal))
    }

    fn parse_known(
        known: &KnownHeaders<'_>,
        encoding: Encoding,
        limits: &HeaderLimits,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            token: known
                .authorization
                .single(AUTHORIZATION)
                .and_then(|value| value.map(|value| bearer(value, limits)).transpose())
                .transpose(),
            encoding,
            request_id: known
                .msg_id
                .single(NATS_MSG_ID)?
                .map(RequestKey::parse)
                .transpose()?,
            timeout_ms: known
                .timeout_ms
                .single(REQUEST_TIMEOUT_MS)?
                .map(milliseconds)
                .transpose()?,
            // A doubled header is ignored: which one is the caller's is unknown.
            trace: known
                .traceparent
                .single(TRACEPARENT)
                .ok()
                .flatten()
                .and_then(TraceContext::parse),
        })
    }
}

/// Returns the encoding of the reply to a caller whose other headers are not parsed.
pub fn encoding_asked<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Encoding {
    let content_type = KnownHeaders::find(headers)
        .content_type
        .single(CONTENT_TYPE);

    Encoding::from_content_type(content_type.ok().flatten()).unwrap_or_default()
}

impl<'a> KnownHeaders<'a> {
    fn find(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut known = Self::default();

        for (name, value) in headers {
            let slots = [
                (AUTHORIZATION, &mut known.authorization),
                (CONTENT_TYPE, &mut known.content_type),
                (NATS_MSG_ID, &mut known.msg_id),
                (REQUEST_TIMEOUT_MS, &mut known.timeout_ms),
                (TRACEPARENT, &mut known.traceparent),
            ];
            let slot = slots
                .into_iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            if let Some((_, slot)) = slot {
                *slot = match slot {
                    HeaderValue::Missing => HeaderValue::Single(value),
                    HeaderValue::Single(_) | HeaderValue::Several => HeaderValue::Several,
                };
            }
        }

        known
    }
}

impl<'a> HeaderValue<'a> {
    /// Returns the only value of the header of that name, if there is one.
    ///
    /// # Errors
    /// `bad_request` if there are several values, in any spelling of the name.
    fn single(self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self {
            Self::Missing => Ok(None),
            Self::Single(value) => Ok(Some(value)),
            Self::Several => Err(Refusal::bad_field(
                name,
                "the header is given more than once",
            )),
        }
    }
}

fn bearer(value: &str, limits: &HeaderLimits) -> Result<String, Refusal> {
    let malformed = || Refusal::unauthenticated("the Authorization header must be: Bearer <token>");
    let (scheme, token) = value.trim().split_once(' ').ok_or_else(malformed)?;
    let token = token.trim_start();

    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    if token.len() > limits.token_bytes {
        return Err(Refusal::too_large(
            AUTHORIZATION,
            token.len(),
            limits.token_bytes,
        ));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed());
    }

    Ok(token.to_owned())
}

fn milliseconds(value: &str) -> Result<u64, Refusal> {
    let digits = Some(value.trim()).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));

    digits.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Refusal::bad_field(REQUEST_TIMEOUT_MS, "must be a whole number of milliseconds")
    })
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
