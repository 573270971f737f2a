//! A body exactly as it was sent, before any rule is applied.
//!
//! The CBOR reader can be driven only by a type, not by a seed that carries a path. Both encodings
//! are therefore first read into this tree, which keeps duplicate keys and values that JSON cannot
//! express. The rules are then applied to the tree, where the path of each value is known.
//!
//! The readers limit the depth of the tree, and the length of the body limits its size: nothing is
//! allocated for a length that is only declared.

use serde::de::{
    Deserialize, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::fmt;

/// One value as sent.
pub(super) enum Raw {
    /// Null or undefined.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer of 64 bits, with or without sign.
    Int(i128),
    /// Any other number as sent, even if its value is whole.
    Float(f64),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Raw>),
    /// Keys and values in order, including duplicates.
    Map(Vec<(Raw, Raw)>),
    /// A value that a body must not contain, described in words for a refusal.
    Foreign(&'static str),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    // CBOR's integers below -2^63 and its big integers.
    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Foreign("a big integer"))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Foreign("a big integer"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Raw, E> {
        Ok(Raw::Foreign("a byte string"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element()? {
            list.push(value);
        }

        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }

        Ok(Raw::Map(map))
    }

    // A CBOR tag. The tagged value is skipped, so that the refusal can name its path.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Raw, A::Error> {
        let (IgnoredAny, content) = tagged.variant()?;
        content.tuple_variant(2, self)?;

        Ok(Raw::Foreign("a tag"))
    }
}
