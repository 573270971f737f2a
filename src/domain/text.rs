//! A text that an owner writes.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// A text: any characters, including line breaks, stored unchanged.
///
/// The stored form is the bare text and is not validated again when it is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

opaque_debug!(Text);

impl Text {
    /// Parses a text of 1 to [`ItemLimits::text_bytes`] bytes of UTF-8.
    ///
    /// # Errors
    /// [`Invalid`] for `text`.
    pub fn parse(text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::bounded(text, limits.text_bytes, "text").map(|()| Self(text.to_owned()))
    }

    /// Returns the text, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_characters_are_accepted_up_to_the_limit() {
        let limits = ItemLimits {
            text_bytes: 4,
            ..ItemLimits::default()
        };

        let text = Text::parse("a\n\0é", &ItemLimits::default()).expect("valid");

        assert_eq!(text.as_str(), "a\n\0é");
        assert!(Text::parse("éé", &limits).is_ok());
        for text in ["", "ééé"] {
            let invalid = Text::parse(text, &limits).expect_err("this one is wrong");
            assert_eq!(invalid.field, "text");
        }
    }

    #[test]
    fn debug_does_not_print_the_text() {
        assert_eq!(
            format!("{:?}", Text::parse("secret", &ItemLimits::default())),
            "Ok(Text)"
        );
    }
}
