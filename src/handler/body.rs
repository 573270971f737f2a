//! The body of a reply.

use crate::domain::Version;
use crate::owners::{OpenedItem, Reading};
use crate::seal::Content;
use crate::shard::Projected;
use crate::wire::{Encoding, ItemView, Ordered, encode};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::sync::Arc;

/// The body of a reply, with its fields in [their order](Ordered).
pub enum Body {
    /// A tree, in any order.
    Tree(Value),
    /// Items, which are written from memory: no tree of them is made.
    Items(Box<ItemsBody>),
    /// What is the same in each reply of a worker.
    Fixed(Arc<FixedBody>),
}

/// A body that is encoded once.
pub struct FixedBody {
    tree: Value,
    json: Vec<u8>,
    cbor: Vec<u8>,
}

impl FixedBody {
    /// Encodes the body.
    pub(super) fn new(tree: Value) -> Self {
        Self {
            json: encode(&Ordered(&tree), Encoding::Json),
            cbor: encode(&Ordered(&tree), Encoding::Cbor),
            tree,
        }
    }
}

impl Body {
    /// Encodes the body.
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        match (self, encoding) {
            (Self::Fixed(body), Encoding::Json) => body.json.clone(),
            (Self::Fixed(body), Encoding::Cbor) => body.cbor.clone(),
            _ => encode(self, encoding),
        }
    }

    /// Adds `"stale": true` if the bucket could not be asked.
    pub(super) fn mark_stale(mut self, reading: &Reading) -> Self {
        if reading.stale {
            match &mut self {
                Self::Tree(tree) => tree["stale"] = Value::Bool(true),
                Self::Items(body) => body.stale = Some(true),
                // It says nothing of an owner.
                Self::Fixed(_) => {}
            }
        }
        self
    }

    /// Adds `"local": "pending"` if this shard's Postgres does not have the rows yet.
    pub(super) fn mark_pending(mut self, local: Projected) -> Self {
        const PENDING: &str = "pending";
        if local == Projected::Pending {
            match &mut self {
                Self::Tree(tree) => tree["local"] = Value::from(PENDING),
                Self::Items(body) => body.local = Some(PENDING),
                Self::Fixed(_) => {}
            }
        }
        self
    }
}

impl From<Value> for Body {
    fn from(tree: Value) -> Self {
        Self::Tree(tree)
    }
}

impl From<ItemsBody> for Body {
    fn from(body: ItemsBody) -> Self {
        Self::Items(Box::new(body))
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tree(tree) => Ordered(tree).serialize(serializer),
            Self::Items(body) => body.serialize(serializer),
            Self::Fixed(body) => Ordered(&body.tree).serialize(serializer),
        }
    }
}

/// One item, or a page of items, and what the reply says beside them.
#[derive(Default, Serialize)]
pub struct ItemsBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<ShownItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) items: Option<Vec<ShownItem>>,
    pub(super) owner_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) floor: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notify: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) local: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stale: Option<bool>,
}

/// An item of a reply.
pub enum ShownItem {
    /// All that a reply shows of it.
    Whole(Arc<OpenedItem>),
    /// What names it, and its place.
    Ids(Arc<OpenedItem>),
}

impl Serialize for ShownItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(opened) => view(opened).serialize(serializer),
            Self::Ids(opened) => match opened.living() {
                Some(item) => ItemView::ids(item, opened.version).serialize(serializer),
                None => view(opened).serialize(serializer),
            },
        }
    }
}

/// An item as a reply shows it, living or deleted.
pub(super) fn view(opened: &OpenedItem) -> ItemView<'_> {
    view_of(&opened.body.content, opened.version)
}

/// The content of a record as a reply shows it, as an item of that version.
pub(super) fn view_of(content: &Content, version: Version) -> ItemView<'_> {
    match content {
        Content::Living(item) => ItemView::living(item, version),
        Content::Deleted {
            kind,
            id,
            updated_at,
        } => ItemView::deleted(kind, id, version, *updated_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, to_string, to_value};

    #[test]
    fn what_is_written_from_memory_has_the_order_of_trees() {
        let body = ItemsBody {
            item: None,
            items: Some(Vec::new()),
            owner_version: 1,
            floor: Some(2),
            epoch: Some("e".to_owned()),
            next_cursor: Some("c".to_owned()),
            more: Some(false),
            notify: Some("n".to_owned()),
            local: Some("pending"),
            stale: Some(true),
        };
        let tree = to_value(&body).expect("a tree");
        assert_eq!(tree.as_object().map(|fields| fields.len()), Some(9));

        let written = to_string(&Body::from(body)).expect("JSON");

        assert_eq!(written, to_string(&Body::from(tree)).expect("JSON"));
    }

    #[test]
    fn what_is_encoded_once_is_encoded_as_any_tree() {
        let tree = json!({"supports": {"kinds": ["text"]}, "shard": "a"});
        let fixed = Body::Fixed(Arc::new(FixedBody::new(tree.clone())));

        for encoding in [Encoding::Json, Encoding::Cbor] {
            let written = fixed.encode(encoding);
            assert_eq!(written, Body::from(tree.clone()).encode(encoding));
            assert_eq!(written, encode(&fixed, encoding));
        }
    }

    #[test]
    fn what_a_reply_does_not_say_is_left_out() {
        let body = Body::from(ItemsBody {
            owner_version: 3,
            ..ItemsBody::default()
        });

        assert_eq!(
            to_value(&body).expect("a tree"),
            json!({"owner_version": 3})
        );
    }
}
