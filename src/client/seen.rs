//! What a caller has seen of their items, so that no later read shows less.

use super::error::ClientError;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// The highest version of the owner that this caller has seen. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<u64>>);

impl Seen {
    /// Notes the `owner_version` of a reply, or of a refusal.
    pub fn note(&self, owner_version: Option<&Value>) {
        let Some(owner_version) = owner_version.and_then(Value::as_u64) else {
            return;
        };

        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = owner_version.max(*seen);
    }

    /// Asks for at least that version in the body of a read. Returns whether there is one.
    pub fn fill(&self, body: &mut Value) -> bool {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen > 0 {
            body["min_version"] = json!(seen);
        }

        seen > 0
    }

    /// Forgets the version if the service says that it never existed: the bucket began a new
    /// history, in which the number means nothing. Returns whether it did.
    pub fn forget_if_unknown(&self, error: &ClientError) -> bool {
        let is_unknown = error.is_about_unknown_version();

        if is_unknown {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        }
        is_unknown
    }
}
