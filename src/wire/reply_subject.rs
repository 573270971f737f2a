//! Decides to which reply subjects a worker replies.
//!
//! The caller chooses the reply subject. A worker may write the bucket, so it may also send
//! commands to JetStream, and a reply to an unchecked subject could delete the bucket. The subject
//! is therefore checked before any other work.

use serde::Deserialize;

/// The rules that a reply subject must satisfy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplyWall {
    /// The prefixes that a reply subject may have. Between accounts, a server replaces a reply
    /// subject by one that begins with `_R_`; behind gateways `_GR_` is needed as well. An empty
    /// prefix admits nothing.
    pub prefixes: Vec<String>,
    /// The maximum length of a reply subject, in bytes.
    pub max_bytes: usize,
    /// The prefixes of this worker's own inboxes. They are refused, because a reply sent there would
    /// be mistaken for one from JetStream or the auth service.
    pub own_prefixes: Vec<String>,
}

/// Why a request gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyError {
    /// The request has no reply subject.
    Missing,
    /// The subject is longer than the limit.
    TooLong,
    /// The subject begins with none of the prefixes, or with that of the worker's own inboxes.
    ForeignPrefix,
    /// The subject contains a wildcard, a `$`, white space, a control character, or the character
    /// that stands for unreadable bytes.
    ForbiddenCharacter,
    /// The subject has an empty part, so no client can be subscribed to it.
    EmptyPart,
}

impl Default for ReplyWall {
    fn default() -> Self {
        Self {
            prefixes: vec!["_INBOX".to_owned(), "_R_".to_owned()],
            max_bytes: 256,
            own_prefixes: Vec::new(),
        }
    }
}

impl ReplyWall {
    /// Checks that a reply may be sent to this subject.
    ///
    /// # Errors
    /// The [`ReplyError`] under which the request is counted before it is dropped.
    pub fn admits(&self, reply: Option<&str>) -> Result<(), ReplyError> {
        let Some(reply) = reply.filter(|reply| !reply.is_empty()) else {
            return Err(ReplyError::Missing);
        };

        let forbidden = |c: char| {
            matches!(c, '*' | '>' | '$' | char::REPLACEMENT_CHARACTER)
                || c.is_whitespace()
                || c.is_control()
        };

        if reply.len() > self.max_bytes {
            Err(ReplyError::TooLong)
        } else if !self.prefixes.iter().any(|prefix| has_prefix(reply, prefix))
            || self.is_own(reply)
        {
            Err(ReplyError::ForeignPrefix)
        } else if reply.contains(forbidden) {
            Err(ReplyError::ForbiddenCharacter)
        } else if reply.split('.').any(str::is_empty) {
            Err(ReplyError::EmptyPart)
        } else {
            Ok(())
        }
    }

    fn is_own(&self, reply: &str) -> bool {
        self.own_prefixes
            .iter()
            .filter(|prefix| !prefix.is_empty())
            .filter_map(|prefix| reply.strip_prefix(prefix.as_str()))
            .any(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Returns whether the subject begins with the prefix and continues as an inbox does.
///
/// `_INBOX` continues with a dot or, for a client with an inbox prefix of its own, with `_`. A
/// prefix that ends in `_`, such as the server's `_R_`, continues with a dot.
fn has_prefix(reply: &str, prefix: &str) -> bool {
    let next = reply
        .strip_prefix(prefix)
        .and_then(|rest| rest.chars().next());

    match prefix.chars().next_back() {
        None => false,
        Some('.') => next.is_some(),
        Some('_') => next == Some('.'),
        Some(_) => matches!(next, Some('.' | '_')),
    }
}

impl ReplyError {
    /// Every error.
    pub const ALL: [Self; 5] = [
        Self::Missing,
        Self::TooLong,
        Self::ForeignPrefix,
        Self::ForbiddenCharacter,
        Self::EmptyPart,
    ];

    /// Returns the name under which the error is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::ForeignPrefix => "foreign_prefix",
            Self::ForbiddenCharacter => "forbidden_character",
            Self::EmptyPart => "empty_part",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admits(reply: &str) -> Result<(), ReplyError> {
        ReplyWall::default().admits(Some(reply))
    }

    #[test]
    fn inboxes_are_admitted() {
        let inboxes = [
            "_INBOX.abc.1",
            "_INBOX_service.x",
            "_R_.abc.def",
            "_INBOX.é",
        ];

        for reply in inboxes {
            assert_eq!(admits(reply), Ok(()), "{reply}");
        }
    }

    #[test]
    fn only_the_configured_prefixes_are_admitted() {
        let behind_gateways = ReplyWall {
            prefixes: vec!["_GR_".to_owned()],
            ..ReplyWall::default()
        };

        assert_eq!(behind_gateways.admits(Some("_GR_.a.b")), Ok(()));
        assert_eq!(
            behind_gateways.admits(Some("_INBOX.a")),
            Err(ReplyError::ForeignPrefix)
        );
    }

    #[test]
    fn subjects_that_only_resemble_an_inbox_are_refused() {
        for reply in ["_INBOX", "_INBOXES.a", "_INBOX-a", "_R_", "_R_a.b"] {
            assert_eq!(admits(reply), Err(ReplyError::ForeignPrefix), "{reply}");
        }
    }

    #[test]
    fn the_inboxes_of_the_worker_itself_are_refused() {
        let wall = ReplyWall {
            own_prefixes: vec!["_INBOX_worker".to_owned()],
            ..ReplyWall::default()
        };
        let table = [
            ("_INBOX_worker.a.1", false),
            ("_INBOX_worker", false),
            ("_INBOX_workers.a", true),
        ];

        for (reply, admitted) in table {
            assert_eq!(wall.admits(Some(reply)).is_ok(), admitted, "{reply}");
        }
    }

    #[test]
    fn commands_to_jetstream_and_other_subjects_are_refused() {
        let foreign = [
            "$JS.API.STREAM.DELETE.KV_favorites",
            "$KV.favorites.a.b",
            "favorites.v1.put",
            "inbox",
            "_inbox.a",
        ];

        for reply in foreign {
            assert_eq!(admits(reply), Err(ReplyError::ForeignPrefix), "{reply}");
        }
    }

    #[test]
    fn forbidden_characters_are_refused() {
        let forbidden = [
            "_INBOX.*",
            "_INBOX.>",
            "_INBOX.$JS",
            "_INBOX.a b",
            "_INBOX.a\r\nPUB x",
            "_INBOX.\u{a0}",
            "_INBOX.\u{fffd}",
        ];

        for reply in forbidden {
            assert_eq!(
                admits(reply),
                Err(ReplyError::ForbiddenCharacter),
                "{reply}"
            );
        }
    }

    #[test]
    fn an_empty_part_is_refused() {
        for reply in ["_INBOX.", "_INBOX..a"] {
            assert_eq!(admits(reply), Err(ReplyError::EmptyPart), "{reply}");
        }
    }

    #[test]
    fn a_missing_reply_subject_is_refused() {
        assert_eq!(ReplyWall::default().admits(None), Err(ReplyError::Missing));
        assert_eq!(admits(""), Err(ReplyError::Missing));
    }

    #[test]
    fn a_long_reply_subject_is_refused() {
        assert_eq!(admits(&format!("_INBOX.{}", "a".repeat(249))), Ok(()));
        assert_eq!(
            admits(&format!("_INBOX.{}", "a".repeat(250))),
            Err(ReplyError::TooLong)
        );
    }

    #[test]
    fn an_empty_prefix_admits_nothing() {
        let wall = ReplyWall {
            prefixes: vec![String::new()],
            ..ReplyWall::default()
        };

        assert_eq!(
            wall.admits(Some("anything")),
            Err(ReplyError::ForeignPrefix)
        );
    }

    #[test]
    fn every_error_is_counted_under_its_own_name() {
        let names = ReplyError::ALL.map(ReplyError::as_str);

        assert_eq!(
            names,
            [
                "missing",
                "too_long",
                "foreign_prefix",
                "forbidden_character",
                "empty_part"
            ]
        );
    }

    proptest! {
        #[test]
        fn every_admitted_subject_is_a_plain_inbox(
            reply in "(_INBOX|_R_|\\$JS)?[ -~é\\r\\n]{0,12}",
        ) {
            if admits(&reply).is_ok() {
                prop_assert!(reply.starts_with("_INBOX") || reply.starts_with("_R_"));
                prop_assert!(!reply.contains(['$', '*', '>', ' ', '\r', '\n']));
                prop_assert!(!reply.contains(".."));
            }
        }
    }
}
