//! The caller, as the auth service vouches for them.

use crate::seal::UserId;
use crate::wire::Scope;
use std::collections::BTreeSet;

/// A verified caller: whose items they reach, and what they may do with them.
#[derive(Clone, Debug)]
pub struct Principal {
    user: UserId,
    scopes: BTreeSet<String>,
    expires_at: Option<u64>,
    session: Option<String>,
}

impl Principal {
    /// `scope` is a list separated by spaces (RFC 6749 §3.3); `expires_at` is in seconds since the Unix epoch.
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
        Self {
            user,
            scopes,
            expires_at,
            session,
        }
    }

    /// Who it is. The owner of every item that the request reaches.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Whether the token carries that scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(scope.as_str())
    }

    /// The session in which the token was given out (`sid`), where the auth service tells it.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// When the token ends, in seconds since the Unix epoch.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
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
