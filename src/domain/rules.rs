//! The rules that several types share.

use super::Invalid;

/// Refuses what is not 1 to `most` bytes of UTF-8.
pub(super) fn bounded(value: &str, most: usize, field: &str) -> Result<(), Invalid> {
    match value.len() {
        0 => Err(Invalid::new(field, "must not be empty")),
        length if length > most => Err(Invalid::new(
            field,
            format!("must be at most {most} bytes, is {length}"),
        )),
        _ => Ok(()),
    }
}

/// Refuses what is not 1 to `most` bytes of UTF-8 without control characters (Unicode category Cc).
pub(super) fn plain(value: &str, most: usize, field: &str) -> Result<(), Invalid> {
    bounded(value, most, field)?;
    match value.chars().position(char::is_control) {
        Some(at) => Err(Invalid::new(
            field,
            format!("character {} is a control character", at + 1),
        )),
        None => Ok(()),
    }
}

/// The value in upper case, when it is exactly `length` characters that all pass `allowed`, which is asked about
/// upper-case characters; `wanted` names them in the refusal.
pub(super) fn code(
    value: &str,
    length: usize,
    allowed: impl Fn(char) -> bool,
    wanted: &str,
    field: &str,
) -> Result<String, Invalid> {
    let count = value.chars().count();
    if count != length {
        return Err(Invalid::new(
            field,
            format!("must be {length} characters, is {count}"),
        ));
    }
    let upper = value.to_ascii_uppercase();
    match upper.chars().enumerate().find(|(_, c)| !allowed(*c)) {
        Some((at, c)) => Err(Invalid::new(
            field,
            format!("character {} is {c:?}, expected {wanted}", at + 1),
        )),
        None => Ok(upper),
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
            letters("u\u{e9}d"),
            Err(Invalid::new(
                "f",
                "character 2 is 'é', expected a letter A to Z"
            ))
        );
    }
}
