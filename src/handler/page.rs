//! A page of a reply, bounded by a number of entries and by the reply's size in bytes.

use super::Limits;
use crate::wire::{Fields, Refusal};
use serde_json::Value;

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

/// The first entries, as many as fit: at least one if there is one, and at most `limit`.
pub(super) fn page<T>(
    entries: &[T],
    limit: usize,
    limits: &Limits,
    view: impl Fn(&T) -> Value,
) -> Vec<Value> {
    let mut page = Vec::new();
    let mut used = FRAME_BYTES;
    for entry in entries.iter().take(limit) {
        let view = view(entry);
        used += view.to_string().len() + 1;
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
        let empty = page::<&str>(&[], 3, &limits, view);

        assert_eq!(limited.len(), 2, "5 bytes each");
        assert_eq!(full.len(), 2);
        assert_eq!(long.len(), 1, "one is always returned");
        assert!(empty.is_empty());
    }
}
