//! A decoded body, independent of its encoding.

use crate::domain::opaque_debug;
use std::collections::BTreeMap;

/// A value in a body.
///
/// Values with the same content are equal, in whatever encoding and order of fields they were sent.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Null, or CBOR's `undefined`.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer from -2^63 to 2^64 - 1, also if it was sent with an exponent, with zeros after
    /// the decimal point, or as a float.
    Int(i128),
    /// A number with a real fraction, or outside the range of the integers above.
    Float(f64),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name.
    Map(BTreeMap<String, Value>),
}

opaque_debug!(Value);

impl Value {
    /// Describes the value in words for a refusal: `a number`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// The length of the list in this field; 0 if there is no such list.
    pub fn list_length(&self, field: &str) -> usize {
        let Self::Map(fields) = self else {
            return 0;
        };

        match fields.get(field) {
            Some(Self::List(list)) => list.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_described_and_not_printed() {
        let table = [
            (Value::Null, "null"),
            (Value::Bool(true), "a boolean"),
            (Value::Int(1), "a number"),
            (Value::Float(0.5), "a number"),
            (Value::Text("x".into()), "a text"),
            (Value::List(vec![]), "a list"),
            (Value::Map(BTreeMap::new()), "an object"),
        ];

        for (value, description) in table {
            assert_eq!(value.describe(), description);
            assert_eq!(format!("{value:?}"), "Value");
        }
    }
}
