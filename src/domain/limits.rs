//! The limits on the size of an item.

use serde::{Deserialize, Serialize};

/// The limits on one item, with lengths in UTF-8. The defaults are those of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ItemLimits {
    /// The longest id.
    pub id_bytes: usize,
    /// The most entries of an item's metadata.
    pub meta_entries: usize,
    /// The longest key of metadata.
    pub meta_key_bytes: usize,
    /// The longest value of metadata.
    pub meta_value_bytes: usize,
    /// The most tags of an item.
    #[cfg_attr(test, schemars(extend("x-unit" = "tags")))]
    pub tags: usize,
    /// The longest tag.
    pub tag_bytes: usize,
    /// The longest text.
    pub text_bytes: usize,
    /// The longest name of an instrument.
    pub name_bytes: usize,
    /// The longest ticker of an instrument.
    pub ticker_bytes: usize,
    /// The most codes of a list, those that were taken included.
    #[cfg_attr(test, schemars(extend("x-unit" = "codes")))]
    pub codes: usize,
    /// The longest code of a list.
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
