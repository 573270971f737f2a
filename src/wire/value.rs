//! A decoded body, whatever encoding it came in.

use crate::domain::opaque_debug;
use std::collections::BTreeMap;

/// One value of a body. Two bodies that say the same are equal, whatever their encoding and the order of their fields.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Null, or `undefined` of CBOR.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer from -2^63 to 2^64 - 1.
    Int(i128),
    /// A number with a fraction or an exponent, or one beyond the integers above.
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
    /// What it is, in words for a refusal: `a number`.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_described_and_none_is_printed() {
        let table = [
            (Value::Null, "null"),
            (Value::Bool(true), "a boolean"),
            (Value::Int(1), "a number"),
            (Value::Float(0.5), "a number"),
            (Value::Text("x".into()), "a text"),
            (Value::List(vec![]), "a list"),
            (Value::Map(BTreeMap::new()), "an object"),
        ];
        for (value, described) in table {
            assert_eq!(value.describe(), described);
            assert_eq!(format!("{value:?}"), "Value");
        }
    }
}
