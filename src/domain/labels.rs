//! What an owner hangs on an item of any kind: metadata and tags.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Text by name, sorted by name. The stored form is the map alone and is not checked again when read back.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Meta(BTreeMap<String, String>);

/// A set of words, sorted. The stored form is the list alone and is not checked again when read back.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeSet<String>);

opaque_debug!(Meta, Tags);

impl Meta {
    /// Reads at most [`ItemLimits::meta_entries`] entries. A key is 1 to [`ItemLimits::meta_key_bytes`] bytes without
    /// control characters; a value is at most [`ItemLimits::meta_value_bytes`] bytes of any characters, and may be
    /// empty. Of two entries with one key the later counts.
    ///
    /// # Errors
    /// [`Invalid`] for `meta`, when there are too many or a key breaks its rule, or for `meta.<key>`.
    pub fn parse(
        entries: impl IntoIterator<Item = (String, String)>,
        limits: &ItemLimits,
    ) -> Result<Self, Invalid> {
        let entries: BTreeMap<String, String> = entries.into_iter().collect();
        if entries.len() > limits.meta_entries {
            let reason = format!(
                "must hold at most {} entries, holds {}",
                limits.meta_entries,
                entries.len()
            );
            return Err(Invalid::new("meta", reason));
        }
        for (key, value) in &entries {
            rules::plain(key, limits.meta_key_bytes, "meta")
                .map_err(|error| Invalid::new("meta", format!("a key {}", error.reason)))?;
            if value.len() > limits.meta_value_bytes {
                let reason = format!(
                    "must be at most {} bytes, is {}",
                    limits.meta_value_bytes,
                    value.len()
                );
                return Err(Invalid::new(format!("meta.{key}"), reason));
            }
        }
        Ok(Self(entries))
    }

    /// The entries, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Tags {
    /// Reads at most [`ItemLimits::tags`] distinct tags of 1 to [`ItemLimits::tag_bytes`] bytes without control
    /// characters. Case counts.
    ///
    /// # Errors
    /// [`Invalid`] for `tags` when there are too many, or for `tags[3]` when the fourth as given breaks its rule.
    pub fn parse(
        tags: impl IntoIterator<Item = String>,
        limits: &ItemLimits,
    ) -> Result<Self, Invalid> {
        let mut set = BTreeSet::new();
        for (at, tag) in tags.into_iter().enumerate() {
            rules::plain(&tag, limits.tag_bytes, &format!("tags[{at}]"))?;
            set.insert(tag);
        }
        if set.len() > limits.tags {
            let reason = format!(
                "must hold at most {} tags, holds {}",
                limits.tags,
                set.len()
            );
            return Err(Invalid::new("tags", reason));
        }
        Ok(Self(set))
    }

    /// The tags, sorted by their bytes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether that tag is among them.
    pub fn contains(&self, tag: &str) -> bool {
        self.0.contains(tag)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ItemLimits {
        ItemLimits {
            meta_entries: 2,
            meta_key_bytes: 4,
            meta_value_bytes: 4,
            tags: 2,
            tag_bytes: 4,
            ..<_>::default()
        }
    }

    fn meta(entries: &[(&str, &str)]) -> Result<Meta, Invalid> {
        Meta::parse(
            entries
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string())),
            &limits(),
        )
    }

    fn tags(tags: &[&str]) -> Result<Tags, Invalid> {
        Tags::parse(tags.iter().map(|tag| tag.to_string()), &limits())
    }

    #[test]
    fn metadata_is_sorted_and_a_value_may_be_anything_short() {
        let found = meta(&[("b", "1\n"), ("a", "")]).expect("valid");
        assert_eq!(found.iter().collect::<Vec<_>>(), [("a", ""), ("b", "1\n")]);
        assert!(!found.is_empty() && Meta::default().is_empty());
    }

    #[test]
    fn metadata_beyond_a_limit_is_refused_by_name() {
        let many = Invalid::new("meta", "must hold at most 2 entries, holds 3");
        assert_eq!(meta(&[("a", ""), ("b", ""), ("c", "")]), Err(many));
        assert_eq!(
            meta(&[("", "")]),
            Err(Invalid::new("meta", "a key must not be empty"))
        );
        assert_eq!(
            meta(&[("abcde", "")]),
            Err(Invalid::new("meta", "a key must be at most 4 bytes, is 5"))
        );
        assert_eq!(
            meta(&[("\n", "")]).expect_err("a control character").field,
            "meta"
        );
        assert_eq!(
            meta(&[("a", "12345")]),
            Err(Invalid::new("meta.a", "must be at most 4 bytes, is 5"))
        );
    }

    #[test]
    fn tags_are_a_sorted_set_and_only_distinct_ones_count() {
        let found = tags(&["b", "a", "b"]).expect("two distinct ones");
        assert_eq!(found.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(found.contains("a") && !found.contains("c"));
        assert!(!found.is_empty() && Tags::default().is_empty());
    }

    #[test]
    fn a_tag_beyond_a_limit_is_refused_by_its_place() {
        assert_eq!(
            tags(&["a", "b", "c"]),
            Err(Invalid::new("tags", "must hold at most 2 tags, holds 3"))
        );
        assert_eq!(
            tags(&["a", "a", "a", ""]),
            Err(Invalid::new("tags[3]", "must not be empty"))
        );
        assert_eq!(tags(&["abcde"]).expect_err("long").field, "tags[0]");
        assert_eq!(
            tags(&["a", "\u{1}"])
                .expect_err("a control character")
                .field,
            "tags[1]"
        );
    }

    #[test]
    fn the_stored_form_reads_back_and_nothing_prints_itself() {
        let (meta, tags) = (
            meta(&[("a", "1")]).expect("valid"),
            tags(&["t"]).expect("valid"),
        );
        let stored = serde_json::to_value((&meta, &tags)).expect("encodable");
        assert_eq!(stored, serde_json::json!([{"a": "1"}, ["t"]]));
        assert_eq!(
            serde_json::from_value::<(Meta, Tags)>(stored).expect("written here"),
            (meta, tags)
        );
        assert_eq!(
            format!("{:?} {:?}", Meta::default(), Tags::default()),
            "Meta Tags"
        );
    }
}
