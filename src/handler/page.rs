//! A page of a reply, bounded by a number of entries and by the reply's size in bytes.

use super::{Failure, Limits, Service};
use crate::owners::{Account, Snapshot};
use crate::wire::{Fields, Refusal, json_bytes};
use serde::Serialize;

/// The bytes reserved for the rest of a reply, around its entries.
const FRAME_BYTES: usize = 512;

/// Takes `limit`, which is from 1 to `page_max`, and `page` if the request names none.
pub(super) fn page_limit(fields: &mut Fields, limits: &Limits) -> Result<usize, Refusal> {
    let limit = match fields.count("limit")? {
        None => return Ok(limits.page),
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    if (1..=limits.page_max).contains(&limit) {
        return Ok(limit);
    }

    let message = format!("must be from 1 to {}", limits.page_max);
    Err(Refusal::bad_field("limit", &message).with("limit", limits.page_max))
}

/// An owner with fewer bytes of items gets no page that costs much.
const COSTLY_PAGE_BYTES: usize = 64 << 10;

/// Checks that the owner's rate allows a page that may be large, before it is made. What a page costs
/// is charged once it is sent, so requests that come together are admitted together.
///
/// # Errors
/// `rate_limited` if replies to other requests have used up the owner's rate since this one came.
pub(super) fn must_afford(
    account: &Account,
    snapshot: &Snapshot,
    service: &Service,
) -> Result<(), Failure> {
    if snapshot.item_bytes() <= COSTLY_PAGE_BYTES {
        return Ok(());
    }

    let denied = |denied| service.limits.current().denied(denied);
    Ok(account.check().map_err(denied)?)
}

/// The first entries, as many as fit: at least one if there is one, and at most `limit`.
pub(super) fn page<'t, T, V: Serialize>(
    entries: &'t [T],
    limit: usize,
    limits: &Limits,
    view: impl Fn(&'t T) -> V,
) -> Vec<V> {
    let mut page = Vec::new();
    let mut used = FRAME_BYTES;
    for entry in entries.iter().take(limit) {
        let view = view(entry);
        used += json_bytes(&view) + 1;
        if used > limits.reply_bytes && !page.is_empty() {
            break;
        }
        page.push(view);
    }

    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_page_ends_at_its_limit_or_where_it_is_full() {
        let view = |text: &&str| Value::from(*text);
        let limits = Limits {
            reply_bytes: FRAME_BYTES + 10,
            ..Limits::default()
        };

        let limited = page(&["ab", "cd", "ef"], 2, &limits, view);
        let full = page(&["ab", "cd", "ef"], 3, &limits, view);
        let long = page(&["a text that is too long", "cd"], 3, &limits, view);
        let empty = page::<&str, Value>(&[], 3, &limits, view);

        assert_eq!(limited.len(), 2, "5 bytes each");
        assert_eq!(full.len(), 2);
        assert_eq!(long.len(), 1, "one is always returned");
        assert!(empty.is_empty());
    }
}
