//! The metadata and the tags that an owner attaches to an item of any kind.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Metadata: texts by name, sorted by name.
///
/// The stored form is the bare map and is not validated again when it is read.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Meta(BTreeMap<String, String>);

/// A sorted set of words.
///
/// The stored form is the bare list and is not validated again when it is read.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeSet<String>);

opaque_debug!(Meta, Tags);

impl Meta {
    /// Parses at most [`ItemLimits::meta_entries`] entries.
    ///
    /// A key is 1 to [`ItemLimits::meta_key_bytes`] bytes without control characters. A value is at
    /// most [`ItemLimits::meta_value_bytes`] bytes of any characters and may be empty. Of two
    /// entries with the same key, the later one is used.
    ///
    /// # Errors
    /// [`Invalid`] for `meta` if there are too many entries or a key breaks its rule; for
    /// `meta.<key>` if the value of that key is too long.
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

    /// Returns the entries, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Tags {
    /// Parses at most [`ItemLimits::tags`] distinct tags of 1 to [`ItemLimits::tag_bytes`] bytes
    /// without control characters. Tags are case-sensitive.
    ///
    /// # Errors
    /// [`Invalid`] for `tags` if there are too many; for `tags[3]` if the fourth of the given tags
    /// breaks its rule.
    pub fn parse(
        tags: impl IntoIterator<Item = String>,
        limits: &ItemLimits,
    ) -> Result<Self, Invalid> {
        let mut set = BTreeSet::new();
        for (index, tag) in tags.into_iter().enumerate() {
            rules::plain(&tag, limits.tag_bytes, &format!("tags[{index}]"))?;
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

    /// Checks one tag of a request's field.
    ///
    /// # Errors
    /// [`Invalid`] for that field.
    pub fn parse_one(tag: &str, field: &str, limits: &ItemLimits) -> Result<(), Invalid> {
        rules::plain(tag, limits.tag_bytes, field)
    }

    /// Returns the tags with `to` in the place of `from`, or without `from`.
    #[must_use]
    pub fn renamed(&self, from: &str, to: Option<&str>) -> Self {
        let others = self.0.iter().filter(|tag| *tag != from).cloned();
        Self(others.chain(to.map(str::to_owned)).collect())
    }

    /// Returns the tags, sorted by their bytes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Returns whether this tag is in the set.
    pub fn contains(&self, tag: &str) -> bool {
        self.0.contains(tag)
    }

    /// Returns whether there are no tags.
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
    fn metadata_is_sorted_and_a_value_may_be_any_short_text() {
        let meta = meta(&[("b", "1\n"), ("a", "")]).expect("valid");

        assert_eq!(meta.iter().collect::<Vec<_>>(), [("a", ""), ("b", "1\n")]);
        assert!(!meta.is_empty());
        assert!(Meta::default().is_empty());
    }

    #[test]
    fn metadata_beyond_a_limit_is_refused_by_name() {
        assert_eq!(
            meta(&[("a", ""), ("b", ""), ("c", "")]),
            Err(Invalid::new("meta", "must hold at most 2 entries, holds 3"))
        );
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
        let tags = tags(&["b", "a", "b"]).expect("two distinct ones");

        assert_eq!(tags.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(tags.contains("a"));
        assert!(!tags.contains("c"));
        assert!(!tags.is_empty());
        assert!(Tags::default().is_empty());
    }

    #[test]
    fn a_tag_beyond_a_limit_is_refused_by_its_index() {
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
    fn a_tag_is_renamed_or_taken_away() {
        let tags = tags(&["a", "b"]).expect("valid");

        assert_eq!(
            tags.renamed("a", Some("c")).iter().collect::<Vec<_>>(),
            ["b", "c"]
        );
        assert_eq!(
            tags.renamed("a", Some("b")).iter().collect::<Vec<_>>(),
            ["b"]
        );
        assert_eq!(tags.renamed("a", None).iter().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_stored_form_reads_back() {
        let meta = meta(&[("a", "1")]).expect("valid");
        let tags = tags(&["t"]).expect("valid");

        let stored_meta = serde_json::to_value(&meta).expect("encodable");
        let stored_tags = serde_json::to_value(&tags).expect("encodable");

        assert_eq!(stored_meta, serde_json::json!({"a": "1"}));
        assert_eq!(stored_tags, serde_json::json!(["t"]));
        assert_eq!(
            serde_json::from_value::<Meta>(stored_meta).expect("written here"),
            meta
        );
        assert_eq!(
            serde_json::from_value::<Tags>(stored_tags).expect("written here"),
            tags
        );
    }

    #[test]
    fn debug_prints_only_the_names_of_the_types() {
        assert_eq!(
            format!("{:?} {:?}", Meta::default(), Tags::default()),
            "Meta Tags"
        );
    }
}
