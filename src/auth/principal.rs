//! The caller, as the auth service identifies them.

use crate::seal::UserId;
use crate::wire::Scope;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A verified caller: the user whose items a request reaches, and the scopes of the token.
#[derive(Clone, Debug)]
pub struct Principal(Arc<Known>);

/// What is known of a caller. All requests of one token share it.
#[derive(Debug)]
struct Known {
    user: UserId,
    scopes: BTreeSet<String>,
    expires_at: Option<u64>,
    session: Option<String>,
}

impl Principal {
    /// `scope` is a list separated by spaces (RFC 6749 §3.3); `expires_at` is in seconds since the
    /// Unix epoch.
    pub(super) fn new(
        user: UserId,
        scope: &str,
        expires_at: Option<u64>,
        session: Option<String>,
    ) -> Self {
        let scopes = scope
            .split(' ')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect();

        Self(Arc::new(Known {
            user,
            scopes,
            expires_at,
            session,
        }))
    }

    /// The user: the owner of every item that the request reaches.
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// Returns whether the token has this scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.0.scopes.contains(scope.as_str())
    }

    /// The session in which the token was issued (`sid`), if the verdict names it.
    pub fn session(&self) -> Option<&str> {
        self.0.session.as_deref()
    }

    /// The time at which the token expires, in seconds since the Unix epoch, if the verdict has it.
    pub fn expires_at(&self) -> Option<u64> {
        self.0.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_separated_by_spaces_and_matched_whole() {
        let caller = Principal::new(
            UserId::new("i", "s"),
            "favorites:read  favorites:secrets-not",
            Some(5),
            None,
        );

        assert!(caller.may(Scope::Read));
        assert!(!caller.may(Scope::Write));
        assert!(!caller.may(Scope::Secrets));
        assert_eq!(caller.expires_at(), Some(5));
        assert!(
            !format!("{caller:?}").contains("\"s\""),
            "the user id is not printed"
        );
    }
}
