//! A page of a reply: so many entries at most, and so many bytes.

use super::Limits;
use crate::wire::{Fields, Refusal};
use serde_json::Value;

/// Room for what stands around the entries in a reply.
const FRAME_BYTES: usize = 512;

/// Takes `limit`: from 1 to the greatest page.
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

/// The first of the entries, as many as fit: at least one, at most `limit`.
pub(super) fn page<T>(
    entries: &[T],
    limit: usize,
    limits: &Limits,
    view: impl Fn(&T) -> Value,
) -> Vec<Value> {
    let (mut page, mut used) = (Vec::new(), FRAME_BYTES);
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
        assert_eq!(
            page(&["ab", "cd", "ef"], 2, &limits, view).len(),
            2,
            "5 bytes each"
        );
        assert_eq!(page(&["ab", "cd", "ef"], 3, &limits, view).len(), 2);
        assert_eq!(
            page(&["a text that is too long", "cd"], 3, &limits, view).len(),
            1,
            "one is always given"
        );
        assert!(page::<&str>(&[], 3, &limits, view).is_empty());
    }
}
