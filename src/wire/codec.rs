//! The two encodings of a body: JSON (RFC 8259) and CBOR (RFC 8949).

use super::raw::Raw;
use super::{Code, Refusal, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`, the default.
    #[default]
    Json,
    /// `application/cbor`.
    Cbor,
}

impl Encoding {
    /// The content type, as the header of a reply has it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Cbor => "application/cbor",
        }
    }

    /// Reads a `Content-Type` (RFC 9110 §8.3): case, white space and parameters do not matter, and none is JSON.
    ///
    /// # Errors
    /// `unsupported_encoding` for any other.
    pub fn from_content_type(content_type: Option<&str>) -> Result<Self, Refusal> {
        let Some(content_type) = content_type else {
            return Ok(Self::default());
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        [Self::Json, Self::Cbor]
            .into_iter()
            .find(|one| essence.eq_ignore_ascii_case(one.content_type()))
            .ok_or_else(|| {
                let message = "the content type must be application/json or application/cbor";
                Refusal::new(Code::UnsupportedEncoding, message).field(super::header::CONTENT_TYPE)
            })
    }
}

/// What a body may be, beside its length, which whoever received it has looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BodyLimits {
    /// How many objects and lists may stand in one another; the body itself is the first. More than 127 are refused
    /// whatever this says.
    pub nesting: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { nesting: 16 }
    }
}

/// How deep a body is read before its nesting is looked at: as deep as the JSON reader goes, well within a stack.
const READ_DEPTH: usize = 127;

/// Reads a body; an empty one is `{}`.
///
/// # Errors
/// `bad_request` for what is not one object in that encoding and nothing after it; for an object or list nested beyond
/// the limit, a doubled key, and a byte string, tag, big integer or key that is not text in CBOR, these with the path
/// in `details.field`.
pub fn decode(body: &[u8], encoding: Encoding, limits: &BodyLimits) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Map(BTreeMap::new()));
    }
    let raw = match encoding {
        Encoding::Json => read_json(body)?,
        Encoding::Cbor => read_cbor(body)?,
    };
    match (Rules {
        nesting: limits.nesting,
        path: String::new(),
    })
    .apply(raw, 1)?
    {
        body @ Value::Map(_) => Ok(body),
        other => Err(Refusal::bad_request(format!(
            "the body must be an object, is {}",
            other.describe()
        ))),
    }
}

fn read_json(body: &[u8]) -> Result<Raw, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let at = format!("line {line}, column {column}");
        Refusal::bad_request(format!(
            "the body is not JSON, or is nested too deeply, at {at}"
        ))
    })
}

fn read_cbor(body: &[u8]) -> Result<Raw, Refusal> {
    use ciborium::de::Error;
    let mut rest = body;
    let raw =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, READ_DEPTH).map_err(|error| {
            match error {
                Error::RecursionLimitExceeded => {
                    Refusal::bad_request("the body is nested too deeply")
                }
                Error::Io(_) => Refusal::bad_request("the body is not CBOR: it ends too early"),
                Error::Syntax(at) | Error::Semantic(Some(at), _) => {
                    Refusal::bad_request(format!("the body is not CBOR at byte {at}"))
                }
                Error::Semantic(None, _) => Refusal::bad_request("the body is not CBOR"),
            }
        })?;
    match rest.len() {
        0 => Ok(raw),
        more => Err(Refusal::bad_request(format!(
            "the body goes on for {more} bytes after its end"
        ))),
    }
}

/// The rules of a body, applied from the top down with the path at hand.
struct Rules {
    nesting: usize,
    path: String,
}

impl Rules {
    fn apply(&mut self, raw: Raw, depth: usize) -> Result<Value, Refusal> {
        if depth > self.nesting && matches!(raw, Raw::List(_) | Raw::Map(_)) {
            return Err(self.error(format!(
                "is nested too deeply, at most {} levels are taken",
                self.nesting
            )));
        }
        Ok(match raw {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(value),
            Raw::Float(value) => Value::Float(value),
            Raw::Text(value) => Value::Text(value),
            Raw::List(values) => {
                let mut list = Vec::with_capacity(values.len());
                for (at, value) in values.into_iter().enumerate() {
                    list.push(
                        self.below(&format!("[{at}]"), |rules| rules.apply(value, depth + 1))?,
                    );
                }
                Value::List(list)
            }
            Raw::Map(entries) => self.map(entries, depth)?,
            Raw::Foreign(what) => {
                return Err(self.error(format!("must be a JSON value, is {what}")));
            }
        })
    }

    fn map(&mut self, entries: Vec<(Raw, Raw)>, depth: usize) -> Result<Value, Refusal> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let Raw::Text(key) = key else {
                return Err(self.error("has a key that is not text"));
            };
            let step = if self.path.is_empty() {
                key.clone()
            } else {
                format!(".{key}")
            };
            let value = self.below(&step, |rules| match map.contains_key(&key) {
                true => Err(rules.error("is there twice")),
                false => rules.apply(value, depth + 1),
            })?;
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }

    /// Does `work` with the path one step longer.
    fn below<T>(&mut self, step: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(step);
        let done = work(self);
        self.path.truncate(length);
        done
    }

    fn error(&self, what: impl Into<String>) -> Refusal {
        match self.path.as_str() {
            "" => Refusal::bad_request(format!("the body {}", what.into())),
            path => Refusal::bad_field(path, what.into()),
        }
    }
}

/// Writes a reply. Never empty: should a value not be encodable, which none of this crate's is (no map has a key that
/// is not text), the reply is a refusal with the code `internal` and no request id.
pub fn encode<T: Serialize>(value: &T, encoding: Encoding) -> Vec<u8> {
    written(value, encoding)
        .or_else(|| written(&Refusal::internal("").body(), encoding))
        .unwrap_or_default()
}

fn written<T: Serialize>(value: &T, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value).ok(),
        Encoding::Cbor => {
            let mut out = Vec::new();
            ciborium::into_writer(value, &mut out).ok().map(|()| out)
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
