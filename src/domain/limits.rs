//! How much one item may hold.

use serde::{Deserialize, Serialize};

/// The limits on one item. The defaults are those that the contract names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ItemLimits {
    /// The longest id, in bytes of UTF-8.
    pub id_bytes: usize,
    /// The most entries of `meta`.
    pub meta_entries: usize,
    /// The longest key of `meta`, in bytes of UTF-8.
    pub meta_key_bytes: usize,
    /// The longest value of `meta`, in bytes of UTF-8.
    pub meta_value_bytes: usize,
    /// The most distinct tags.
    pub tags: usize,
    /// The longest tag, in bytes of UTF-8.
    pub tag_bytes: usize,
    /// The longest text, in bytes of UTF-8.
    pub text_bytes: usize,
    /// The longest name of an instrument, in bytes of UTF-8.
    pub name_bytes: usize,
    /// The longest ticker, in bytes of ASCII.
    pub ticker_bytes: usize,
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_keeps_the_value_of_the_contract() {
        let limits: ItemLimits = serde_json::from_str(r#"{"tags": 3}"#).expect("well formed");
        assert_eq!(
            limits,
            ItemLimits {
                tags: 3,
                ..ItemLimits::default()
            }
        );
        assert_eq!(
            (limits.id_bytes, limits.text_bytes, limits.meta_value_bytes),
            (256, 65_536, 4_096)
        );
    }

    #[test]
    fn an_unknown_limit_is_refused() {
        assert!(serde_json::from_str::<ItemLimits>(r#"{"tag": 3}"#).is_err());
    }
}
