//! What a load reads of a reply.

use crate::wire::Encoding;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The parts of a reply that are checked. What is not there is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reply {
    pub owner_version: u64,
    pub item: Option<Shown>,
    pub items: Vec<Shown>,
    pub results: Vec<ResultOfOne>,
    pub next_cursor: Option<String>,
    pub more: bool,
    pub error: Option<Error>,
}

/// An item as a reply shows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shown {
    pub kind: String,
    pub id: String,
    pub version: u64,
    pub deleted: bool,
    pub data: Data,
    pub tags: Vec<String>,
}

/// The data of a text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Data {
    pub text: String,
}

/// The result of one operation of a batch.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResultOfOne {
    pub item: Option<Shown>,
}

/// A refusal.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Error {
    pub code: String,
    pub message: String,
}

impl Reply {
    /// Reads a reply; `None` if it is none of the contract.
    pub fn read(body: &[u8], encoding: Encoding) -> Option<Self> {
        read(body, encoding)
    }
}

fn read<T: DeserializeOwned>(body: &[u8], encoding: Encoding) -> Option<T> {
    match encoding {
        Encoding::Json => serde_json::from_slice(body).ok(),
        Encoding::Cbor => ciborium::from_reader(body).ok(),
    }
}

/// Writes the body of a request.
pub(super) fn body(request: &serde_json::Value, encoding: Encoding) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);

    // A value of JSON has no form that either could refuse.
    match encoding {
        Encoding::Json => drop(serde_json::to_writer(&mut bytes, request)),
        Encoding::Cbor => drop(ciborium::into_writer(request, &mut bytes)),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_encodings_are_read() {
        let sent = json!({
            "item": {"kind": "text", "id": "a", "version": 7, "data": {"text": "x"}, "meta": {}},
            "owner_version": 9, "local": "pending",
        });

        for encoding in [Encoding::Json, Encoding::Cbor] {
            let reply = Reply::read(&body(&sent, encoding), encoding).expect("a reply");

            let item = reply.item.expect("an item");
            assert_eq!((item.version, item.data.text.as_str()), (7, "x"));
            assert_eq!((reply.owner_version, reply.items.len()), (9, 0));
        }
        assert!(Reply::read(b"{", Encoding::Json).is_none());
    }
}
