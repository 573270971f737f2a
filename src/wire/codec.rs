//! Decodes and encodes bodies in JSON (RFC 8259) and CBOR (RFC 8949).

use super::raw::Raw;
use super::{Code, Refusal, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`, the default.
    #[default]
    Json,
    /// `application/cbor`.
    Cbor,
}

impl Encoding {
    /// Returns the content type, as in the header of a reply.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Cbor => "application/cbor",
        }
    }

    /// Parses a `Content-Type` (RFC 9110 §8.3).
    ///
    /// Case, white space and parameters do not matter. Without a content type, the body is JSON.
    ///
    /// # Errors
    /// `unsupported_encoding` for any other content type.
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

/// The limits on a body. The code that calls [`decode`] has already checked its length.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BodyLimits {
    /// The maximum number of levels of objects and lists; the body itself is the first. More than
    /// 127 levels are always refused.
    pub nesting: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { nesting: 16 }
    }
}

/// The depth to which a body is read before its nesting is checked.
///
/// It is the limit of the JSON reader, and small enough not to exhaust the stack.
const READ_DEPTH_MAX: usize = 127;

/// A body may have one value for so many of its bytes, and a few more. A value takes many times the
/// memory of the one byte in which CBOR can spell it, and no request is made of such values.
const VALUE_BYTES: usize = 4;
const VALUES_MIN: usize = 64;

/// Decodes a body; an empty one is `{}`.
///
/// A number whose value is whole is an integer however it is written: `3.0`, `5e9`, or a float of
/// CBOR. `-0` is 0.
///
/// # Errors
/// `bad_request` if the body is not exactly one object in this encoding, or has more values than
/// 64 and one for every four bytes. With the path in `details.field`, `bad_request` also for:
///
/// - an object or list nested beyond the limit;
/// - a duplicate key;
/// - in CBOR, a byte string, a tag, a big integer, or a key that is not text.
pub fn decode(body: &[u8], encoding: Encoding, limits: &BodyLimits) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Map(BTreeMap::new()));
    }

    let raw = match encoding {
        Encoding::Json => read_json(body)?,
        Encoding::Cbor => read_cbor(body)?,
    };
    let mut rules = Rules {
        nesting: limits.nesting,
        values_left: body.len() / VALUE_BYTES + VALUES_MIN,
    };

    match rules.apply(raw, &Place::Body)? {
        body @ Value::Map(_) => Ok(body),
        other => Err(Refusal::bad_request(format!(
            "the body must be an object, is {}",
            other.describe()
        ))),
    }
}

fn read_json(body: &[u8]) -> Result<Raw, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let line = error.line();
        let column = error.column();

        Refusal::bad_request(format!(
            "the body is not JSON, or is nested too deeply, at line {line}, column {column}"
        ))
    })
}

fn read_cbor(body: &[u8]) -> Result<Raw, Refusal> {
    use ciborium::de::Error;

    let mut rest = body;
    let raw = ciborium::de::from_reader_with_recursion_limit(&mut rest, READ_DEPTH_MAX).map_err(
        |error| match error {
            Error::RecursionLimitExceeded => Refusal::bad_request("the body is nested too deeply"),
            Error::Io(_) => Refusal::bad_request("the body is not CBOR: it ends too early"),
            Error::Syntax(offset) | Error::Semantic(Some(offset), _) => {
                Refusal::bad_request(format!("the body is not CBOR at byte {offset}"))
            }
            Error::Semantic(None, _) => Refusal::bad_request("the body is not CBOR"),
        },
    )?;

    match rest.len() {
        0 => Ok(raw),
        extra => Err(Refusal::bad_request(format!(
            "the body goes on for {extra} bytes after its end"
        ))),
    }
}

/// Where a value is in the body. Only an error spells it out.
enum Place<'p> {
    Body,
    Entry(&'p Place<'p>, &'p str),
    Element(&'p Place<'p>, usize),
}

impl Place<'_> {
    /// How many values lie one in another here, the body among them.
    fn depth(&self) -> usize {
        match self {
            Self::Body => 1,
            Self::Entry(parent, _) | Self::Element(parent, _) => parent.depth() + 1,
        }
    }

    /// The path, for example `ops[3].data.text`; empty for the body.
    fn path(&self) -> String {
        match self {
            Self::Body => String::new(),
            Self::Entry(Self::Body, key) => (*key).to_owned(),
            Self::Entry(parent, key) => format!("{}.{key}", parent.path()),
            Self::Element(parent, index) => format!("{}[{index}]", parent.path()),
        }
    }

    fn error(&self, message: impl Into<String>) -> Refusal {
        match self {
            Self::Body => Refusal::bad_request(format!("the body {}", message.into())),
            _ => Refusal::bad_field(self.path(), message.into()),
        }
    }
}

/// The rules of a body, applied from the top down.
struct Rules {
    nesting: usize,
    values_left: usize,
}

impl Rules {
    fn apply(&mut self, raw: Raw, place: &Place<'_>) -> Result<Value, Refusal> {
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or_else(|| Refusal::bad_request("the body has too many values for its length"))?;

        Ok(match raw {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(value),
            Raw::Float(value) => number(value),
            Raw::Text(value) => Value::Text(value),
            Raw::List(values) => {
                self.check_nesting(place)?;
                let list = values
                    .into_iter()
                    .enumerate()
                    .map(|(index, value)| self.apply(value, &Place::Element(place, index)));
                Value::List(list.collect::<Result<_, _>>()?)
            }
            Raw::Map(entries) => {
                self.check_nesting(place)?;
                self.apply_to_map(entries, place)?
            }
            Raw::Foreign(description) => {
                return Err(place.error(format!("must be a JSON value, is {description}")));
            }
        })
    }

    fn check_nesting(&self, place: &Place<'_>) -> Result<(), Refusal> {
        if place.depth() <= self.nesting {
            return Ok(());
        }

        Err(place.error(format!(
            "is nested too deeply, at most {} levels are allowed",
            self.nesting
        )))
    }

    fn apply_to_map(
        &mut self,
        entries: Vec<(Raw, Raw)>,
        place: &Place<'_>,
    ) -> Result<Value, Refusal> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let Raw::Text(key) = key else {
                return Err(place.error("has a key that is not text"));
            };

            let entry = Place::Entry(place, &key);
            if map.contains_key(&key) {
                return Err(entry.error("is a duplicate key"));
            }
            let value = self.apply(value, &entry)?;
            map.insert(key, value);
        }

        Ok(Value::Map(map))
    }
}

/// Returns the integer that the number is equal to, if there is one in the range of
/// [`Value::Int`]; else the number.
///
/// Encoders of languages whose only number is a double write integers above 2^32 as doubles. Each
/// double from 2^53 on is whole, and is taken as the one integer that it is equal to. A number with
/// more digits than a double holds was already rounded when it was read.
fn number(value: f64) -> Value {
    let range = -(2_f64.powi(63))..2_f64.powi(64);

    if value.fract() == 0.0 && range.contains(&value) {
        Value::Int(value as i128)
    } else {
        Value::Float(value)
    }
}

/// Encodes a reply. The result is never empty.
///
/// A value that cannot be encoded becomes a refusal with the code `internal` and no request id. All
/// values of this crate can be encoded, because no map has a key that is not text.
pub fn encode<T: Serialize>(value: &T, encoding: Encoding) -> Vec<u8> {
    try_encode(value, encoding)
        .or_else(|| try_encode(&Refusal::internal("").body(), encoding))
        .unwrap_or_default()
}

fn try_encode<T: Serialize>(value: &T, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value).ok(),
        Encoding::Cbor => {
            let mut out = Vec::new();
            ciborium::into_writer(value, &mut out).ok().map(|()| out)
        }
    }
}

/// How many bytes a value takes in JSON.
pub fn json_bytes<T: Serialize>(value: &T) -> usize {
    let mut count = ByteCount(0);
    // Counting does not fail, and no value of this crate does.
    let _ = serde_json::to_writer(&mut count, value);

    count.0
}

/// Counts what is written.
struct ByteCount(usize);

impl io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
