//! The headers of a request.

use super::{Encoding, Refusal, TraceContext};
use crate::domain::opaque_debug;
use async_nats::HeaderMap;
use serde::Deserialize;

/// Who is asking: `Bearer <token>` (RFC 6750).
pub const AUTHORIZATION: &str = "Authorization";
/// How the body is written, of request and reply.
pub const CONTENT_TYPE: &str = "Content-Type";
/// The caller's own name of a write, which makes it idempotent.
pub const NATS_MSG_ID: &str = "Nats-Msg-Id";
/// How long the caller waits, in milliseconds.
pub const REQUEST_TIMEOUT_MS: &str = "Request-Timeout-Ms";
/// The caller's trace (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
/// Of a reply: the id under which the worker's log has the request.
pub const REQUEST_ID: &str = "Request-Id";
/// Of a refusal: its status (NATS services, ADR-32).
pub const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// Of a refusal: its code and message in one line (NATS services, ADR-32).
pub const ERROR: &str = "Nats-Service-Error";

/// How long headers may be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderLimits {
    /// The longest token, in bytes.
    pub token_bytes: usize,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        Self { token_bytes: 8_192 }
    }
}

/// The caller's own name of a write: 1 to 128 printable ASCII characters. It stays in this service.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestKey(String);

/// The headers of a request, complete.
#[derive(Clone, Default)]
pub struct RequestHeaders {
    /// The token, not yet verified; or what is wrong with the header, which those operations do not mind that need none.
    pub token: Option<Result<String, Refusal>>,
    /// How the body is written, and the reply will be.
    pub encoding: Encoding,
    /// The caller's own name of a write.
    pub request_id: Option<RequestKey>,
    /// How long the caller waits, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The caller's trace; none when its header is malformed.
    pub trace: Option<TraceContext>,
}

opaque_debug!(RequestKey, RequestHeaders);

impl RequestKey {
    /// The longest, in characters.
    pub const MAX_LENGTH: usize = 128;

    /// Reads a name.
    ///
    /// # Errors
    /// `bad_request` with the header's name in `details.field`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        match printable && (1..=Self::MAX_LENGTH).contains(&text.len()) {
            true => Ok(Self(text.to_owned())),
            false => Err(Refusal::bad_field(
                NATS_MSG_ID,
                "must be 1 to 128 printable ASCII characters",
            )),
        }
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RequestHeaders {
    /// Reads the headers of a request, each found whatever the case of its name.
    ///
    /// # Errors
    /// A refusal and the encoding to write it in, which is the caller's unless that was the fault: `bad_request` for a
    /// header that is malformed or there twice (also in two spellings); `unsupported_encoding`. What is wrong with an
    /// `Authorization` is kept in `token`: besides, `unauthenticated` for what is no bearer token, and `too_large`.
    pub fn parse(
        headers: Option<&HeaderMap>,
        limits: &HeaderLimits,
    ) -> Result<Self, (Encoding, Refusal)> {
        let Some(headers) = headers else {
            return Ok(Self::default());
        };
        let encoding = one(headers, CONTENT_TYPE)
            .and_then(Encoding::from_content_type)
            .map_err(|refusal| (Encoding::default(), refusal))?;
        Self::parse_rest(headers, encoding, limits).map_err(|refusal| (encoding, refusal))
    }

    fn parse_rest(
        headers: &HeaderMap,
        encoding: Encoding,
        limits: &HeaderLimits,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            token: one(headers, AUTHORIZATION)
                .and_then(|value| value.map(|value| bearer(value, limits)).transpose())
                .transpose(),
            encoding,
            request_id: one(headers, NATS_MSG_ID)?
                .map(RequestKey::parse)
                .transpose()?,
            timeout_ms: one(headers, REQUEST_TIMEOUT_MS)?
                .map(milliseconds)
                .transpose()?,
            // Two of them are as good as none: which one is the caller's cannot be told.
            trace: one(headers, TRACEPARENT)
                .ok()
                .flatten()
                .and_then(TraceContext::parse),
        })
    }
}

/// In which encoding a caller is answered whose headers are not looked at any further.
pub fn encoding_asked(headers: Option<&HeaderMap>) -> Encoding {
    let content_type = headers.and_then(|headers| one(headers, CONTENT_TYPE).ok().flatten());
    Encoding::from_content_type(content_type).unwrap_or_default()
}

/// The only value of the header; `bad_request` when there are several, under whatever spelling.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers
        .iter()
        .filter(|(key, _)| AsRef::<str>::as_ref(*key).eq_ignore_ascii_case(name))
        .flat_map(|(_, values)| values);
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(Refusal::bad_field(
            name,
            "the header is there more than once",
        )),
        (value, _) => Ok(value.map(|value| value.as_str())),
    }
}

fn bearer(value: &str, limits: &HeaderLimits) -> Result<String, Refusal> {
    let wrong = || Refusal::unauthenticated("the Authorization header must be: Bearer <token>");
    let (scheme, token) = value.trim().split_once(' ').ok_or_else(wrong)?;
    let token = token.trim_start();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(wrong());
    }
    if token.len() > limits.token_bytes {
        return Err(Refusal::too_large(
            AUTHORIZATION,
            token.len(),
            limits.token_bytes,
        ));
    }
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(wrong()),
    }
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
