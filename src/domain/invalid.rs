//! The error for a value that has the right type and breaks a rule of the domain.

use std::fmt;

/// A value of the right type that breaks a rule of the domain.
///
/// On the wire it is 422 `invalid_item` with `details.field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The path of the field in the request, such as `data.isin` or `tags[3]`.
    pub field: String,
    /// What is wrong, in words that a person can act on. May repeat what the caller sent.
    pub reason: String,
}

impl Invalid {
    /// Creates a refusal of `field` with this reason.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Returns the same refusal with a path that begins at `parent`.
    ///
    /// `isin` under `data` becomes `data.isin`. An empty field becomes the parent itself.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.field = if self.field.is_empty() {
            parent.to_owned()
        } else {
            format!("{parent}.{}", self.field)
        };

        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_field_begins_at_its_parent() {
        let field = Invalid::new("isin", "short").under("data");
        let parent = Invalid::new("", "empty").under("data");

        assert_eq!(field, Invalid::new("data.isin", "short"));
        assert_eq!(parent, Invalid::new("data", "empty"));
    }

    #[test]
    fn a_refusal_is_printed_with_its_field() {
        assert_eq!(Invalid::new("id", "empty").to_string(), "id: empty");
    }
}
