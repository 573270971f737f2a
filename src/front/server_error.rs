//! What a server refuses with `-ERR`. The protocol has only text for it, and this is the one place
//! that reads the text.

/// What a server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A subscription.
    Subscription(DeniedSubscription),
    /// Messages to a subject.
    Publish,
    /// Something else.
    Other,
}

/// A subscription that this user may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeniedSubscription {
    pub subject: String,
    pub queue_group: Option<String>,
    /// Its id. A server names it when it ends a subscription that it had taken.
    pub sid: Option<u64>,
}

impl Refused {
    /// Reads the text of an `-ERR`:
    ///
    /// ```text
    /// Permissions Violation for Subscription to "a.b" using queue "group"
    /// Permissions Violation for Subscription to "a.b" (sid "3")
    /// Permissions Violation for Publish to "a.b"
    /// ```
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if text.starts_with("Permissions Violation for Publish") {
            return Self::Publish;
        }
        let Some(rest) = text.strip_prefix("Permissions Violation for Subscription to ") else {
            return Self::Other;
        };
        let Some((subject, rest)) = quoted(rest) else {
            return Self::Other;
        };

        let after = |words: &str| rest.trim_start().strip_prefix(words).and_then(quoted);
        Self::Subscription(DeniedSubscription {
            subject: subject.to_owned(),
            queue_group: after("using queue ").map(|(group, _)| group.to_owned()),
            sid: after("(sid ").and_then(|(sid, _)| sid.parse().ok()),
        })
    }
}

/// Whether a server refuses the user, so that trying again does not help.
pub(super) fn is_authentication(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let is_late = text.contains("authentication timeout");
    !is_late && (text.contains("authorization violation") || text.contains("authentication"))
}

/// What stands in quotation marks at the beginning, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('"')?.split_once('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn denied(subject: &str, queue_group: Option<&str>, sid: Option<u64>) -> Refused {
        Refused::Subscription(DeniedSubscription {
            subject: subject.into(),
            queue_group: queue_group.map(Into::into),
            sid,
        })
    }

    #[test]
    fn each_refusal_is_told_from_the_others() {
        for (text, refused) in [
            (
                "Permissions Violation for Subscription to \"a.>\"",
                denied("a.>", None, None),
            ),
            (
                "Permissions Violation for Subscription to \"a\" using queue \"g\"",
                denied("a", Some("g"), None),
            ),
            (
                "Permissions Violation for Subscription to \"a\" (sid \"12\")",
                denied("a", None, Some(12)),
            ),
            (
                "Permissions Violation for Publish to \"a\"",
                Refused::Publish,
            ),
            (
                "Permissions Violation for Subscription to a",
                Refused::Other,
            ),
            ("Slow Consumer", Refused::Other),
            ("", Refused::Other),
        ] {
            assert_eq!(Refused::parse(text), refused, "{text}");
        }
    }

    #[test]
    fn an_authentication_that_fails_is_told_from_one_that_was_late() {
        for (text, expected) in [
            ("Authorization Violation", true),
            ("User Authentication Expired", true),
            ("User Authentication Revoked", true),
            ("Account Authentication Expired", true),
            ("Authentication Timeout", false),
            ("maximum connections exceeded", false),
        ] {
            assert_eq!(is_authentication(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(Permissions Violation for Subscription to )?[a\"( sid]{0,20}") {
            let _ = Refused::parse(&text);
        }
    }
}
