//! A text of the owner's own.

use super::{Invalid, ItemLimits, opaque_debug, rules};
use serde::{Deserialize, Serialize};

/// A text: any characters, line breaks included, kept as they are.
///
/// The stored form is the text alone and is not checked again when read back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

opaque_debug!(Text);

impl Text {
    /// Reads a text of 1 to [`ItemLimits::text_bytes`] bytes of UTF-8.
    ///
    /// # Errors
    /// [`Invalid`] for `text`.
    pub fn parse(text: &str, limits: &ItemLimits) -> Result<Self, Invalid> {
        rules::bounded(text, limits.text_bytes, "text").map(|()| Self(text.to_owned()))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_characters_are_kept_up_to_the_limit() {
        let limits = ItemLimits {
            text_bytes: 4,
            ..ItemLimits::default()
        };
        assert_eq!(
            Text::parse("a\n\0é", &ItemLimits::default())
                .expect("valid")
                .as_str(),
            "a\n\0é"
        );
        assert!(Text::parse("éé", &limits).is_ok());
        for text in ["", "ééé"] {
            assert_eq!(
                Text::parse(text, &limits)
                    .expect_err("this one is wrong")
                    .field,
                "text"
            );
        }
    }

    #[test]
    fn it_does_not_print_itself() {
        assert_eq!(
            format!("{:?}", Text::parse("secret", &ItemLimits::default())),
            "Ok(Text)"
        );
    }
}
