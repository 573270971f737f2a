//! The arithmetic of one-time passwords: HOTP (RFC 4226), TOTP (RFC 6238) and Steam.

use super::Algorithm;
use aws_lc_rs::hmac;

/// The characters of a Steam code.
const STEAM_ALPHABET: &[u8; 26] = b"23456789BCDFGHJKMNPQRTVWXY";

/// The length of a Steam code, in characters.
pub(super) const STEAM_DIGITS: u32 = 5;

/// Returns the HOTP code of that counter, with leading zeros (RFC 4226, section 5.3).
pub(super) fn decimal(secret: &[u8], algorithm: Algorithm, counter: u64, digits: u32) -> String {
    let value = truncated(secret, algorithm, counter) % 10_u32.pow(digits);

    format!("{value:0width$}", width = digits as usize)
}

/// Returns the Steam code of that step.
pub(super) fn steam(secret: &[u8], counter: u64) -> String {
    let mut value = truncated(secret, Algorithm::Sha1, counter);
    let mut code = String::new();

    for _ in 0..STEAM_DIGITS {
        code.push(char::from(STEAM_ALPHABET[(value % 26) as usize]));
        value /= 26;
    }

    code
}

/// Returns the 31 bits that the code is made of: those at the place which the last four bits of the
/// MAC name (RFC 4226, section 5.3; RFC 6238 for the longer MACs).
fn truncated(secret: &[u8], algorithm: Algorithm, counter: u64) -> u32 {
    let algorithm = match algorithm {
        Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Algorithm::Sha256 => hmac::HMAC_SHA256,
        Algorithm::Sha512 => hmac::HMAC_SHA512,
    };
    let mac = hmac::sign(&hmac::Key::new(algorithm, secret), &counter.to_be_bytes());

    let mac = mac.as_ref();
    let offset = usize::from(mac[mac.len() - 1] & 15);
    let bytes = [
        mac[offset],
        mac[offset + 1],
        mac[offset + 2],
        mac[offset + 3],
    ];
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of RFC 6238: the digits repeated up to the length of the MAC.
    fn key(algorithm: Algorithm) -> Vec<u8> {
        let length = match algorithm {
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        };
        b"1234567890".iter().copied().cycle().take(length).collect()
    }

    #[test]
    fn the_vectors_of_rfc_4226_appendix_d() {
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];

        for (counter, expected) in (0..).zip(codes) {
            let code = decimal(&key(Algorithm::Sha1), Algorithm::Sha1, counter, 6);
            assert_eq!(code, expected);
        }
    }

    #[test]
    fn the_vectors_of_rfc_6238_appendix_b() {
        let times = [
            59,
            1_111_111_109,
            1_111_111_111,
            1_234_567_890,
            2_000_000_000,
            20_000_000_000,
        ];
        let codes = [
            (
                Algorithm::Sha1,
                [
                    "94287082", "07081804", "14050471", "89005924", "69279037", "65353130",
                ],
            ),
            (
                Algorithm::Sha256,
                [
                    "46119246", "68084774", "67062674", "91819424", "90698825", "77737706",
                ],
            ),
            (
                Algorithm::Sha512,
                [
                    "90693936", "25091201", "99943326", "93441116", "38618901", "47863826",
                ],
            ),
        ];

        for (algorithm, codes) in codes {
            for (time, expected) in times.into_iter().zip(codes) {
                let code = decimal(&key(algorithm), algorithm, time / 30, 8);
                assert_eq!(code, expected, "{algorithm:?} at {time}");
            }
        }
    }

    #[test]
    fn a_steam_code_has_five_characters_of_its_alphabet() {
        let code = steam(b"12345678901234567890", 1);

        assert_eq!(code.len(), 5);
        assert!(code.bytes().all(|c| STEAM_ALPHABET.contains(&c)), "{code}");
    }
}
