//! Why a value of the right type is refused.

use std::fmt;

/// A value of the right type that breaks a rule of the domain: on the wire, 422 `invalid_item` with `details.field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The path of the field as the caller knows it, such as `data.isin` or `tags[3]`.
    pub field: String,
    /// What is wrong, in words that a person can act on. It may repeat what the caller sent.
    pub reason: String,
}

impl Invalid {
    /// A refusal of `field` for `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same refusal seen from the object that holds the field: `isin` under `data` is `data.isin`. An empty field
    /// becomes the parent itself.
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
    fn a_field_is_named_from_its_parent() {
        assert_eq!(
            Invalid::new("isin", "short").under("data"),
            Invalid::new("data.isin", "short")
        );
        assert_eq!(
            Invalid::new("", "empty").under("data"),
            Invalid::new("data", "empty")
        );
        assert_eq!(Invalid::new("id", "empty").to_string(), "id: empty");
    }
}
