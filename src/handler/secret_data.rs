//! The data of items with secrets, in the two parts in which they are stored.

use super::Failure;
use crate::domain::{Codes, Data, Hidden, Item, Otp, Timestamp};
use crate::owners::OpenedItem;
use crate::seal::{Content, NewContent, NewHidden};

/// What replies show of an item, and what they hide.
pub(super) type Parts = (Data, NewHidden);

/// Returns the parts of a one-time-password secret.
pub(super) fn otp_parts(otp: &Otp) -> Parts {
    let hidden = Hidden::Otp(otp.hidden().clone());
    (Data::Otp(otp.facts().clone()), NewHidden::New(hidden))
}

/// Returns the parts of a list of codes.
pub(super) fn codes_parts(codes: Codes) -> Parts {
    let facts = codes.facts();
    (Data::Codes(facts), NewHidden::New(Hidden::Codes(codes)))
}

/// Returns a living item with other data, otherwise unchanged.
pub(super) fn with_data(item: &OpenedItem, (data, hidden): Parts) -> Result<NewContent, Failure> {
    let item = item
        .living()
        .ok_or_else(|| Failure::internal("a change of a deleted item"))?;

    Ok(NewContent {
        content: Content::Living(Item {
            data: Some(data),
            updated_at: Timestamp::now(),
            ..item.clone()
        }),
        hidden,
    })
}
