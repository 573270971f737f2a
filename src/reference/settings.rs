//! The settings of the questions to the reference service, and their defaults.

use serde::{Deserialize, Serialize};

/// Whether and how instruments are checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ReferenceSettings {
    /// The subject on which workers ask whether an instrument exists, over the connection
    /// `nats.auth`; empty: they do not ask. `nats/accounts.conf` allows `reference.v1.instrument`.
    pub subject: String,
    /// How long to wait for the reference service, and never longer than the caller does.
    pub timeout_ms: u64,
    /// What happens to a `put` of an instrument if the reference service does not answer: `accept`
    /// stores it as the caller sent it, `refuse` refuses it with `reference_unavailable`.
    pub on_silence: OnSilence,
    /// How long the answer about a known instrument is cached; 0 caches none.
    pub found_ttl_s: u64,
    /// How long it is cached that an instrument is unknown; 0 caches none.
    pub unknown_ttl_s: u64,
    /// The most answers in the cache; at least 1.
    #[cfg_attr(test, schemars(extend("x-unit" = "answers")))]
    pub cache_entries: usize,
}

/// What happens to an instrument if the reference service does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnSilence {
    /// It is stored as the caller sent it.
    Accept,
    /// It is refused with `reference_unavailable`.
    Refuse,
}

impl Default for ReferenceSettings {
    fn default() -> Self {
        Self {
            subject: String::new(),
            timeout_ms: 500,
            on_silence: OnSilence::Accept,
            found_ttl_s: 3_600,
            unknown_ttl_s: 60,
            cache_entries: 10_000,
        }
    }
}

impl ReferenceSettings {
    /// Returns whether the subject is empty, or one that a question can be published on: parts
    /// with dots between them, and no wildcard, white space or control character.
    pub fn has_usable_subject(&self) -> bool {
        let is_usable = |c: char| !c.is_whitespace() && !c.is_control() && !"*>".contains(c);
        let is_part = |part: &str| !part.is_empty() && part.chars().all(is_usable);

        self.subject.is_empty() || self.subject.split('.').all(is_part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_with_a_wildcard_a_space_or_an_empty_part_is_not_usable() {
        let is_usable = |subject: &str| {
            let settings = ReferenceSettings {
                subject: subject.into(),
                ..ReferenceSettings::default()
            };
            settings.has_usable_subject()
        };

        for subject in ["", "reference.v1.instrument", "instruments"] {
            assert!(is_usable(subject), "{subject:?}");
        }
        for subject in ["a.*", "a.>", "a b", "a..b", ".a", "a.", "a\r\nPING"] {
            assert!(!is_usable(subject), "{subject:?}");
        }
    }

    #[test]
    fn the_two_ways_to_take_silence_are_words() {
        let settings = |text: &str| {
            serde_json::from_str::<ReferenceSettings>(&format!(r#"{{"on_silence": "{text}"}}"#))
        };

        let accept = settings("accept").expect("a word").on_silence;
        let refuse = settings("refuse").expect("a word").on_silence;

        assert_eq!((accept, refuse), (OnSilence::Accept, OnSilence::Refuse));
        assert!(settings("ignore").is_err());
    }
}
