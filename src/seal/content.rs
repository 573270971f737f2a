//! What a write makes of an item: the part that replies show, and the part that they hide.

use super::Content;
use crate::domain::{Hidden, opaque_debug};

/// An item as a write will leave it, or its deletion.
#[derive(Clone)]
pub struct NewContent {
    /// What replies show.
    pub content: Content,
    /// What they hide.
    pub hidden: NewHidden,
}

/// What a write makes of the part that replies hide.
#[derive(Clone)]
pub enum NewHidden {
    /// There is nothing.
    None,
    /// Data and hidden part stay as the item's current record has them, whatever they are.
    Kept,
    /// This takes its place.
    New(Hidden),
}

opaque_debug!(NewContent, NewHidden);

impl From<Content> for NewContent {
    /// An item or a deletion that hides nothing.
    fn from(content: Content) -> Self {
        Self {
            content,
            hidden: NewHidden::None,
        }
    }
}
