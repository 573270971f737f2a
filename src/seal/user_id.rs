//! The identity of an owner at the auth service.

use std::fmt;
use zeroize::Zeroize;

/// The identity of an owner at the auth service.
///
/// It is personal data, held only in memory and in the owner's sealed key record.
#[derive(Clone, PartialEq, Eq)]
pub struct UserId {
    issuer: String,
    subject: String,
}

impl UserId {
    /// Returns the identity with a verdict's issuer and subject.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            subject: subject.into(),
        }
    }

    /// The issuer of the verdict.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The subject of the verdict: the user at that issuer.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId")
    }
}

impl Drop for UserId {
    fn drop(&mut self) {
        self.subject.zeroize();
    }
}
