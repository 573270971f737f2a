//! The rules that several types share.

use super::Invalid;

/// Refuses a value that is not 1 to `max_bytes` bytes of UTF-8.
pub(super) fn bounded(value: &str, max_bytes: usize, field: &str) -> Result<(), Invalid> {
    match value.len() {
        0 => Err(Invalid::new(field, "must not be empty")),
        length if length > max_bytes => Err(Invalid::new(
            field,
            format!("must be at most {max_bytes} bytes, is {length}"),
        )),
        _ => Ok(()),
    }
}

/// Refuses a value that is not 1 to `max_bytes` bytes of UTF-8 or that contains a control character
/// (Unicode category Cc).
pub(super) fn plain(value: &str, max_bytes: usize, field: &str) -> Result<(), Invalid> {
    bounded(value, max_bytes, field)?;

    match value.chars().position(char::is_control) {
        Some(index) => Err(Invalid::new(
            field,
            format!("character {} is a control character", index + 1),
        )),
        None => Ok(()),
    }
}

/// Returns the value in upper case if it has exactly `length` characters that all are `allowed`.
///
/// `allowed` receives characters in upper case; `expected` describes them in the refusal. A
/// character that is not allowed is refused before the length, because it is often the cause of
/// the wrong length, such as a hyphen or a space.
pub(super) fn code(
    value: &str,
    length: usize,
    allowed: impl Fn(char) -> bool,
    expected: &str,
    field: &str,
) -> Result<String, Invalid> {
    let upper = value.to_ascii_uppercase();
    if let Some((index, c)) = upper.chars().enumerate().find(|(_, c)| !allowed(*c)) {
        return Err(Invalid::new(
            field,
            format!("character {} is {c:?}, expected {expected}", index + 1),
        ));
    }

    match upper.chars().count() {
        count if count == length => Ok(upper),
        count => Err(Invalid::new(
            field,
            format!("must be {length} characters, is {count}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_bytes_and_the_bounds_are_inclusive() {
        assert!(bounded("é", 2, "f").is_ok());
        assert_eq!(
            bounded("é", 1, "f"),
            Err(Invalid::new("f", "must be at most 1 bytes, is 2"))
        );
        assert_eq!(
            bounded("", 1, "f"),
            Err(Invalid::new("f", "must not be empty"))
        );
    }

    #[test]
    fn control_characters_are_named_by_position() {
        assert!(plain("a b", 3, "f").is_ok());
        for text in ["é\n", "é\u{7f}", "é\u{85}"] {
            assert_eq!(
                plain(text, 9, "f"),
                Err(Invalid::new("f", "character 2 is a control character"))
            );
        }
    }

    #[test]
    fn a_code_is_upper_cased_and_measured_in_characters() {
        let letters =
            |value: &str| code(value, 3, |c| c.is_ascii_uppercase(), "a letter A to Z", "f");

        assert_eq!(letters("usD").as_deref(), Ok("USD"));
        assert_eq!(
            letters("us"),
            Err(Invalid::new("f", "must be 3 characters, is 2"))
        );
        assert_eq!(
            letters("uéd"),
            Err(Invalid::new(
                "f",
                "character 2 is 'é', expected a letter A to Z"
            ))
        );
        assert_eq!(
            letters("us-d"),
            Err(Invalid::new(
                "f",
                "character 3 is '-', expected a letter A to Z"
            ))
        );
    }
}
