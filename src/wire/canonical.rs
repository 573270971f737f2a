//! The canonical bytes of a request, equal for bodies with the same content.

use super::Value;
use zeroize::Zeroizing;

/// The length of a length.
const LENGTH_BYTES: usize = size_of::<u64>();

/// The fields of a body that say how new an answer has to be. A caller who repeats a request may have
/// seen more meanwhile, so they do not count.
const FRESHNESS: [&str; 2] = ["consistency", "min_version"];

/// Returns the canonical bytes of an operation and its decoded body, for which a request id stands.
///
/// The bytes of two requests are equal exactly if operation and body are equal, whatever the
/// encoding, the order of fields, and how new an answer has to be. A number whose value is whole is
/// an integer once it is decoded, so 1, 1.0 and 1e0 are equal too.
///
/// Each value is one byte for its type, followed by its content. The content of text, lists and
/// objects begins with its length (a big-endian u64). The fields of an object are sorted by the
/// bytes of their names. Hashes of these bytes are stored with the records, so the form must not
/// change.
///
/// They may hold a secret, so they are wiped when they are dropped. Their size is known before they
/// are written, so that no part of them is left behind in a buffer that was too small.
pub fn canonical(operation: &str, body: &Value) -> Zeroizing<Vec<u8>> {
    let Value::Map(fields) = body else {
        return bytes_of(operation, size(body), |out| put(out, body));
    };
    let fields: Vec<_> = fields
        .iter()
        .filter(|(name, _)| !FRESHNESS.contains(&name.as_str()))
        .collect();

    bytes_of(operation, size_of_map(&fields), |out| put_map(out, &fields))
}

fn bytes_of(
    operation: &str,
    body_size: usize,
    put_body: impl FnOnce(&mut Vec<u8>),
) -> Zeroizing<Vec<u8>> {
    let size = LENGTH_BYTES + operation.len() + body_size;
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    put_text(&mut out, operation);
    put_body(&mut out);

    out
}

/// The number of bytes that [`put`] writes.
fn size(value: &Value) -> usize {
    let content = match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Int(value) => size_of_val(value),
        Value::Float(value) => size_of_val(value),
        Value::Text(text) => LENGTH_BYTES + text.len(),
        Value::List(values) => LENGTH_BYTES + values.iter().map(size).sum::<usize>(),
        Value::Map(fields) => return size_of_map(&fields.iter().collect::<Vec<_>>()),
    };

    1 + content
}

/// The number of bytes that [`put_map`] writes.
fn size_of_map(fields: &[(&String, &Value)]) -> usize {
    let fields = fields
        .iter()
        .map(|(name, value)| LENGTH_BYTES + name.len() + size(value));

    1 + LENGTH_BYTES + fields.sum::<usize>()
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(value) => out.extend([1, u8::from(*value)]),
        Value::Int(value) => {
            out.push(2);
            out.extend(value.to_be_bytes());
        }
        Value::Float(value) => {
            out.push(3);
            out.extend(value.to_bits().to_be_bytes());
        }
        Value::Text(value) => {
            out.push(4);
            put_text(out, value);
        }
        Value::List(values) => {
            out.push(5);
            put_length(out, values.len());
            values.iter().for_each(|value| put(out, value));
        }
        Value::Map(fields) => put_map(out, &fields.iter().collect::<Vec<_>>()),
    }
}

fn put_map(out: &mut Vec<u8>, fields: &[(&String, &Value)]) {
    out.push(6);
    put_length(out, fields.len());
    for (name, value) in fields {
        put_text(out, name);
        put(out, value);
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend(text.as_bytes());
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend((length as u64).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    #[test]
    fn the_form_does_not_change() {
        let body = Value::Map(BTreeMap::from([(
            "a".to_owned(),
            Value::List(vec![Value::Int(1), Value::Bool(true)]),
        )]));
        let length = |n: u8| [[0; 7].as_slice(), &[n]].concat();
        let list = [&[5][..], &length(2), &[2], &[0; 15], &[1], &[1, 1]].concat();
        let expected = [
            &length(3)[..],
            b"put",
            &[6],
            &length(1),
            &length(1),
            b"a",
            &list,
        ]
        .concat();

        assert_eq!(*canonical("put", &body), expected);
    }

    #[test]
    fn different_requests_have_different_bytes() {
        let values = [
            Value::Null,
            Value::Bool(false),
            Value::Int(0),
            Value::Int(1),
            Value::Int(-1),
            Value::Float(0.5),
            Value::Float(1.5),
            text(""),
            text("ab"),
            Value::List(vec![]),
            Value::List(vec![text("a"), text("b")]),
            Value::List(vec![text("ab")]),
            Value::List(vec![Value::List(vec![])]),
            Value::Map(BTreeMap::new()),
            Value::Map(BTreeMap::from([("a".to_owned(), text("b"))])),
        ];

        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate() {
                assert_eq!(
                    canonical("put", a) == canonical("put", b),
                    i == j,
                    "{i} and {j}"
                );
            }
            assert_ne!(canonical("put", a), canonical("delete", a));
        }
    }
}
