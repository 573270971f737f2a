//! Where a caller may have an answer sent.
//!
//! A reply subject is the caller's to choose, and whoever may write the bucket may also speak to JetStream: an answer
//! sent where it is told to could delete the bucket. So the subject is looked at before any work is done.

use serde::Deserialize;

/// Which reply subjects are answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplyWall {
    /// With what a reply subject must begin. `_R_` is what a server makes of one between accounts; behind gateways
    /// `_GR_` is needed as well. An empty one admits nothing.
    pub prefixes: Vec<String>,
    /// The longest reply subject, in bytes.
    pub max_bytes: usize,
    /// What this worker's own inboxes begin with: an answer sent there would pass for one of the truth's or of the auth
    /// service's. Empty: none.
    pub own_prefix: String,
}

/// Why a request gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyError {
    /// There is no reply subject.
    Missing,
    /// It is longer than the limit.
    TooLong,
    /// It begins with none of the prefixes.
    ForeignPrefix,
    /// It holds a wildcard, a `$`, white space, a control character, or what could not be read.
    ForbiddenCharacter,
    /// It has a part that is empty, so nobody can be listening.
    EmptyPart,
}

impl Default for ReplyWall {
    fn default() -> Self {
        Self {
            prefixes: vec!["_INBOX".to_owned(), "_R_".to_owned()],
            max_bytes: 256,
            own_prefix: String::new(),
        }
    }
}

impl ReplyWall {
    /// Whether an answer may be sent there.
    ///
    /// # Errors
    /// The [`ReplyError`] to count the request under before it is dropped.
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
        } else if !self.prefixes.iter().any(|prefix| begins(reply, prefix)) || self.is_own(reply) {
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
        let rest = reply
            .strip_prefix(self.own_prefix.as_str())
            .filter(|_| !self.own_prefix.is_empty());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Whether the subject begins with the prefix, and goes on as an inbox does: `_INBOX.` or, with a prefix of a client's own,
/// `_INBOX_`; after `_R_`, which a server makes, with a dot.
fn begins(reply: &str, prefix: &str) -> bool {
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
    /// Every fault.
    pub const ALL: [Self; 5] = [
        Self::Missing,
        Self::TooLong,
        Self::ForeignPrefix,
        Self::ForbiddenCharacter,
        Self::EmptyPart,
    ];

    /// The name under which it is counted.
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
    fn inboxes_are_answered() {
        for reply in [
            "_INBOX.abc.1",
            "_INBOX_service.x",
            "_R_.abc.def",
            "_INBOX.é",
        ] {
            assert_eq!(admits(reply), Ok(()), "{reply}");
        }
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
    fn commands_to_jetstream_and_the_like_are_not() {
        let unlike_inboxes = ["_INBOX", "_INBOXES.a", "_INBOX-a", "_R_", "_R_a.b"];
        for reply in unlike_inboxes {
            assert_eq!(admits(reply), Err(ReplyError::ForeignPrefix), "{reply}");
        }
        let wall = ReplyWall {
            own_prefix: "_INBOX_worker".to_owned(),
            ..ReplyWall::default()
        };
        for (reply, admitted) in [
            ("_INBOX_worker.a.1", false),
            ("_INBOX_worker", false),
            ("_INBOX_workers.a", true),
        ] {
            assert_eq!(wall.admits(Some(reply)).is_ok(), admitted, "{reply}");
        }
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
        for reply in [
            "_INBOX.*",
            "_INBOX.>",
            "_INBOX.$JS",
            "_INBOX.a b",
            "_INBOX.a\r\nPUB x",
            "_INBOX.\u{a0}",
            "_INBOX.\u{fffd}",
        ] {
            assert_eq!(
                admits(reply),
                Err(ReplyError::ForbiddenCharacter),
                "{reply}"
            );
        }
        for reply in ["_INBOX.", "_INBOX..a"] {
            assert_eq!(admits(reply), Err(ReplyError::EmptyPart), "{reply}");
        }
    }

    #[test]
    fn none_at_all_and_one_without_end_are_not() {
        assert_eq!(ReplyWall::default().admits(None), Err(ReplyError::Missing));
        assert_eq!(admits(""), Err(ReplyError::Missing));
        assert_eq!(admits(&format!("_INBOX.{}", "a".repeat(249))), Ok(()));
        assert_eq!(
            admits(&format!("_INBOX.{}", "a".repeat(250))),
            Err(ReplyError::TooLong)
        );
    }

    #[test]
    fn an_empty_prefix_opens_nothing() {
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
    fn every_fault_is_counted_under_a_name_of_its_own() {
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
        fn whatever_is_admitted_is_a_plain_subject_of_an_inbox(reply in "(_INBOX|_R_|\\$JS)?[ -~é\\r\\n]{0,12}") {
            if admits(&reply).is_ok() {
                prop_assert!(reply.starts_with("_INBOX") || reply.starts_with("_R_"));
                prop_assert!(!reply.contains(['$', '*', '>', ' ', '\r', '\n']) && !reply.contains(".."));
            }
        }
    }
}
