//! The limits on the size of an item.

use serde::{Deserialize, Serialize};

/// The limits on one item. The defaults are those of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ItemLimits {
    /// The maximum length of an id, in bytes of UTF-8.
    pub id_bytes: usize,
    /// The maximum number of entries in `meta`.
    pub meta_entries: usize,
    /// The maximum length of a key of `meta`, in bytes of UTF-8.
    pub meta_key_bytes: usize,
    /// The maximum length of a value of `meta`, in bytes of UTF-8.
    pub meta_value_bytes: usize,
    /// The maximum number of distinct tags.
    pub tags: usize,
    /// The maximum length of a tag, in bytes of UTF-8.
    pub tag_bytes: usize,
    /// The maximum length of a text, in bytes of UTF-8.
    pub text_bytes: usize,
    /// The maximum length of a name of an instrument, in bytes of UTF-8.
    pub name_bytes: usize,
    /// The maximum length of a ticker, in bytes of UTF-8.
    pub ticker_bytes: usize,
    /// The maximum number of one-time codes of a list, those that were taken included.
    pub codes: usize,
    /// The maximum length of a one-time code, in bytes of UTF-8.
    pub code_bytes: usize,
}

impl Default for ItemLimits {
    fn default() -> Self {
        Self {
            id_bytes: 256,
            meta_entries: 32,
            meta_key_bytes: 64,
            meta_value_bytes: 4_096,
            tags: 32,
            tag_bytes: 64,
            text_bytes: 65_536,
            name_bytes: 256,
            ticker_bytes: 32,
            codes: 200,
            code_bytes: 128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_omitted_limit_has_the_default_of_the_contract() {
        let limits: ItemLimits = serde_json::from_str(r#"{"tags": 3}"#).expect("well formed");

        assert_eq!(
            limits,
            ItemLimits {
                tags: 3,
                ..ItemLimits::default()
            }
        );
        assert_eq!(limits.id_bytes, 256);
        assert_eq!(limits.text_bytes, 65_536);
        assert_eq!(limits.meta_value_bytes, 4_096);
    }

    #[test]
    fn an_unknown_limit_is_refused() {
        assert!(serde_json::from_str::<ItemLimits>(r#"{"tag": 3}"#).is_err());
    }
}
