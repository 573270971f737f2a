//! Who an owner is to the auth service.

use std::fmt;
use zeroize::Zeroize;

/// Who an owner is to the auth service: personal data, held in memory and in the owner's sealed key record only.
#[derive(Clone, PartialEq, Eq)]
pub struct UserId {
    issuer: String,
    subject: String,
}

impl UserId {
    /// The verdict's issuer and the subject it names.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            subject: subject.into(),
        }
    }

    /// Who vouches for the identity.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whom it names.
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
