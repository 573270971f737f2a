//! What a server refuses with `-ERR`. The protocol has no codes for it, only text. Only this file
//! reads the text.

/// What a server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerError {
    /// A subscription.
    Subscription(DeniedSubscription),
    /// A message to a subject.
    Publish,
    /// Something else.
    Other,
}

/// A subscription that this user may not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeniedSubscription {
    pub subject: String,
    pub queue_group: Option<String>,
    /// Its id. A server names it when it ends a subscription that it had accepted.
    pub sid: Option<u64>,
}

impl ServerError {
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

/// Returns whether a server refuses the user, so that another attempt does not help.
pub(super) fn is_authentication(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let is_late = text.contains("authentication timeout");

    !is_late && (text.contains("authorization violation") || text.contains("authentication"))
}

/// Returns the text between the quotation marks at the beginning, and the rest.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('"')?.split_once('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn denied(subject: &str, queue_group: Option<&str>, sid: Option<u64>) -> ServerError {
        ServerError::Subscription(DeniedSubscription {
            subject: subject.into(),
            queue_group: queue_group.map(Into::into),
            sid,
        })
    }

    #[test]
    fn each_refusal_is_recognised() {
        for (text, expected) in [
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
                ServerError::Publish,
            ),
            (
                "Permissions Violation for Subscription to a",
                ServerError::Other,
            ),
            ("Slow Consumer", ServerError::Other),
            ("", ServerError::Other),
        ] {
            assert_eq!(ServerError::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_failed_authentication_differs_from_a_late_one() {
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
        fn any_text_is_read(
            text in "(Permissions Violation for Subscription to )?[a\"( sid]{0,20}",
        ) {
            let _ = ServerError::parse(&text);
        }
    }
}
