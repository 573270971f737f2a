//! Base32 (RFC 4648, section 6), as people really write secrets.

use super::super::Invalid;
use zeroize::Zeroizing;

/// The alphabet: the value of a character is its position.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Decodes a text. Case, spaces, dashes and padding do not matter. Bits left over at the end are
/// dropped.
///
/// # Errors
/// [`Invalid`] for `field`: a character that is not of the alphabet, or a number of characters that
/// no bytes are encoded to. The reason does not repeat the text.
pub(super) fn decode(text: &str, field: &'static str) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 5 / 8));
    let mut bits: u32 = 0;
    let mut bit_count = 0;
    let mut characters = 0;

    for c in text.bytes().filter(|c| !b" -=".contains(c)) {
        let upper = c.to_ascii_uppercase();
        let value = ALPHABET
            .iter()
            .position(|one| *one == upper)
            .ok_or_else(|| Invalid::new(field, "the secret is not Base32 (A to Z, 2 to 7)"))?;

        characters += 1;
        bits = bits << 5 | value as u32;
        bit_count += 5;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
            bits &= (1 << bit_count) - 1;
        }
    }

    if [1, 3, 6].contains(&(characters % 8)) {
        let reason = "the secret is cut off: Base32 never has this number of characters";
        return Err(Invalid::new(field, reason));
    }
    Ok(bytes)
}

/// Encodes bytes, in upper case and without padding.
pub(super) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(5) * 8));
    let mut bits: u32 = 0;
    let mut bit_count = 0;

    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        bit_count += 8;
        while bit_count >= 5 {
            bit_count -= 5;
            text.push(char::from(ALPHABET[(bits >> bit_count & 31) as usize]));
        }
        bits &= (1 << bit_count) - 1;
    }
    if bit_count > 0 {
        text.push(char::from(
            ALPHABET[(bits << (5 - bit_count) & 31) as usize],
        ));
    }

    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &str) -> Vec<u8> {
        decode(text, "uri").expect("Base32").to_vec()
    }

    #[test]
    fn the_vectors_of_rfc_4648_are_decoded_and_encoded() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY======"),
            ("fo", "MZXQ===="),
            ("foo", "MZXW6==="),
            ("foob", "MZXW6YQ="),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI======"),
        ] {
            assert_eq!(decoded(text), bytes.as_bytes());
            assert_eq!(*encode(bytes.as_bytes()), text.trim_end_matches('='));
        }
    }

    #[test]
    fn case_spaces_dashes_and_padding_do_not_matter() {
        for text in ["mzxw6ytboi", "MZXW 6YTB OI", "mzxw-6ytb-oi======"] {
            assert_eq!(decoded(text), b"foobar");
        }
    }

    #[test]
    fn what_is_not_base32_is_refused_and_not_repeated() {
        for text in ["MZXW1", "MZXW0", "MZXW8", "MZ+X", "é", "M", "MZX", "MZXW6Y"] {
            let invalid = decode(text, "uri").expect_err("not Base32");
            assert!(!invalid.reason.contains(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_same(bytes in prop::collection::vec(any::<u8>(), 0..130)) {
            prop_assert_eq!(decoded(&encode(&bytes)), bytes);
        }
    }
}
